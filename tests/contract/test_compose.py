"""The compose file says the same as the local stack: broker settings, topics, database."""

from __future__ import annotations

import re
import shlex
from typing import Any

import pytest
import yaml

from deploy import jars, kafka, postgres
from schemas import topics
from schemas.settings import Settings
from tests import stack

COMPOSE = stack.ROOT / "docker-compose.kafka.yml"


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    return dict(yaml.safe_load(COMPOSE.read_text())["services"])


def test_the_broker_has_the_settings_of_the_local_stack(services: dict[str, Any]) -> None:
    told = services["kafka"]["environment"]
    named = {_variable(name): value for name, value in kafka.SETTINGS.items()}
    assert {name: told.get(name) for name in named} == named
    place = r"(HEAP|PROCESS|NODE|CONTROLLER|LISTENER|ADVERTISED|INTER_BROKER|LOG_DIRS)"
    assert [name for name in told if name not in named and not re.match(f"KAFKA_{place}", name)] == []


def test_both_servers_are_of_the_versions_of_the_local_stack(services: dict[str, Any]) -> None:
    assert services["kafka"]["image"] == services["topics"]["image"] == f"apache/kafka:{jars.VERSION}"
    assert services["postgres"]["image"].startswith("postgres:18.")


def test_the_topics_are_those_of_the_schemas(services: dict[str, Any]) -> None:
    script = services["topics"]["command"][0].replace("\\\n", " ")
    made = [_topic(shlex.split(line)) for line in script.splitlines() if line.startswith("create --topic")]
    assert made == list(topics.all_topics(Settings.load({}).homes))


def test_the_database_is_the_one_of_the_local_stack(services: dict[str, Any]) -> None:
    told = services["postgres"]
    options = [option.removeprefix("-c") for option in told["command"][1:]]
    assert dict(option.split("=", 1) for option in options) == dict(postgres.SETTINGS)
    assert told["environment"]["POSTGRES_INITDB_ARGS"].split() == list(postgres.INITDB)
    made = yaml.safe_load(COMPOSE.read_text())["configs"]["heed-database"]["content"]
    assert made.split(";\n")[:2] == [postgres.CREATE_ROLE, postgres.CREATE_DATABASE]


def test_everything_is_published_on_the_loopback_address_only(services: dict[str, Any]) -> None:
    published = [port for service in services.values() for port in service.get("ports", ())]
    assert len(published) == 2
    assert all(port.startswith("127.0.0.1:") for port in published)


def _variable(name: str) -> str:
    """A broker setting as the image's environment spells it."""
    return "KAFKA_" + name.upper().replace("-", "___").replace("_", "__").replace(".", "_")


def _topic(words: list[str]) -> topics.Topic:
    pairs = list(zip(words[1::2], words[2::2], strict=True))
    config = dict(value.split("=", 1) for option, value in pairs if option == "--config")
    single = {option: value for option, value in pairs if option != "--config"}
    return topics.Topic(single["--topic"], int(single["--partitions"]), config)
