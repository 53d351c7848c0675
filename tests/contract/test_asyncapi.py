"""docs/asyncapi.json: valid by the official parser, true to the topics and to what is written on them."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from deploy import contracts as files
from schemas import asyncapi, commands, events, metrics, topics
from streams import judge
from tests import asyncapi as official
from tests import keyring
from tests.unit import samples

GOLDEN = Path(__file__).parent.parent / "golden"
DOCUMENT = asyncapi.document()
# One reference of each kind, by the keys that lead to it.
REFERENCES: dict[str, tuple[str | int, ...]] = {
    "a channel's server": ("channels", "facts", "servers", 0),
    "a channel's message": ("channels", "email-activity", "messages", "mail.clicked"),
    "an operation's channel": ("operations", "send.facts", "channel"),
    "an operation's message": ("operations", "receive.email-activity", "messages", 0),
    "a message's payload": ("components", "messages", "mail.clicked.fact", "payload"),
    "an event's data": ("components", "schemas", "mail.clicked", "properties", "data"),
    "an item of a command": ("components", "schemas", "commands.Items", "properties", "items", "items"),
}


def broken() -> dict[str, Any]:
    """The document, with each of these references leading nowhere."""
    whole = copy.deepcopy(DOCUMENT)
    for path in REFERENCES.values():
        place = at(whole, path)
        assert set(place) == {"$ref"}
        place["$ref"] += "-gone"
    return whole


def at(place: Any, path: tuple[str | int, ...]) -> Any:
    for key in path:
        place = place[key]
    return place


@pytest.fixture(scope="module")
def told() -> dict[str, list[dict[str, Any]]]:
    """What the official parser says: of the document as committed, and with references broken."""
    committed = json.loads((files.DOCS / "asyncapi.json").read_text())
    return official.judge({"committed": committed, "broken": broken()})


def test_the_official_parser_finds_nothing_wrong(told: dict[str, list[dict[str, Any]]]) -> None:
    assert [one for one in told["committed"] if one["severity"] <= 1] == []


@pytest.mark.parametrize("name", REFERENCES)
def test_the_official_parser_refuses_a_dangling_reference(
    name: str, told: dict[str, list[dict[str, Any]]]
) -> None:
    lost = {one["message"] for one in told["broken"] if (one["severity"], one["code"]) == (0, "invalid-ref")}
    assert f"'{at(DOCUMENT, REFERENCES[name])['$ref']}-gone' does not exist" in lost


def test_a_registry_that_cannot_be_reached_is_said_in_a_sentence(tmp_path: Path) -> None:
    for name in ("package.json", official.LOCK.name):
        (tmp_path / name).write_bytes((official.HERE / name).read_bytes())
    away = ("--registry=http://127.0.0.1:9/", f"--cache={tmp_path / 'cache'}", "--fetch-retries=0")
    with pytest.raises(official.Unreachable, match="connect to the network"):
        official.fetch(tmp_path, *away)


def test_every_package_of_the_parser_is_pinned_by_its_hash_and_named_by_no_address() -> None:
    packages = json.loads(official.LOCK.read_text())["packages"]
    assert len(packages) > 100
    for name, package in packages.items():
        assert "resolved" not in package
        assert not name or package["integrity"].startswith("sha512-")


def test_the_channels_are_the_topics_with_their_settings() -> None:
    assert list(DOCUMENT["channels"]) == [topic.name for topic in topics.all_topics(8)]
    for topic in topics.all_topics(8):
        channel = DOCUMENT["channels"][topic.name]
        kafka = channel["bindings"]["kafka"]
        config = dict(kafka["topicConfiguration"], **{"cleanup.policy": topic.config["cleanup.policy"]})
        assert {name: str(value) for name, value in config.items()} == topic.config
        assert kafka.get("partitions", 8) == topic.partitions
        assert channel["address"] == topic.name


def test_every_type_stands_where_it_is_told_and_where_it_is_kept() -> None:
    standing = {name: set(channel["messages"]) for name, channel in DOCUMENT["channels"].items()}
    assert standing.pop(topics.COMMANDS) == set(metrics.COMMAND_KINDS)
    wanted: dict[str, set[str]] = {name: set() for name in standing}
    for event in events.EVENTS.values():
        if event.struct is not None:
            wanted[event.topic].add(f"{event.name}.fact" if event.door else event.name)
            if event.door is not None:
                wanted[event.door].add(event.name)
    assert standing == wanted


def test_producers_and_consumers_find_their_operation() -> None:
    actions = {name: (one["action"], one["channel"]["$ref"]) for name, one in DOCUMENT["operations"].items()}
    for name in DOCUMENT["channels"]:
        side = "receive" if name in topics.DOORS else "send"
        assert actions[f"{side}.{name}"] == (side, f"#/channels/{name}")
    assert set(DOCUMENT["operations"]["send.facts"]) >= {"messages", "summary"}


def validator(message: str, part: str = "payload") -> jsonschema.Draft7Validator:
    """What the document says of a message, as a validator that finds the definitions."""
    schema = DOCUMENT["components"]["messages"][message][part]
    return jsonschema.Draft7Validator({"components": DOCUMENT["components"], "allOf": [schema]})


def golden(kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for path in sorted(GOLDEN.glob(f"*.{kind}.json")):
        name, version = path.name.removesuffix(f".{kind}.json").rsplit(".", 1)
        event = events.EVENTS.get(name)  # test.* are types of the tests
        if event is not None and event.version == int(version):
            yield name, json.loads(path.read_bytes())


def test_what_was_ever_said_is_as_described() -> None:
    assert {name for name, _ in golden("told")} == {event.name for event in events.built()}
    for name, event in golden("told"):
        validator(name).validate(event)
    for name, fact in golden("fact"):
        validator(f"{name}.fact").validate(fact)


@pytest.mark.parametrize("name", samples.DATA)
@pytest.mark.parametrize("trace", [None, f"00-{'a' * 32}-{'b' * 16}-01"])
def test_what_is_written_to_the_log_is_as_described(name: str, trace: str | None) -> None:
    outcome = keyring.sealed(samples.admitted(samples.event(name), samples.door(name)))
    for record in (judge.fact_record(outcome, 3, 17, trace), judge.fact_record(outcome, trace=trace)):
        validator(f"{name}.fact").validate(json.loads(record.value or b""))
        headers = {header: value.decode() for header, value in record.headers}
        validator(f"{name}.fact", "headers").validate(headers)
        declared = DOCUMENT["components"]["messages"][f"{name}.fact"]["headers"]["properties"]
        assert set(headers) <= set(declared)
        assert (record.topic, record.key) == (events.EVENTS[name].topic, outcome.subject.encode())
    fact = json.loads(outcome.value)
    for member in fact.keys() - {"sealed", "kid"}:
        assert not validator(f"{name}.fact").is_valid({k: v for k, v in fact.items() if k != member})
    assert not validator(f"{name}.fact").is_valid({**fact, "time": "2026-11-22T14:39:46Z"})


@pytest.mark.parametrize("kind", metrics.COMMAND_KINDS)
def test_commands_are_as_described(kind: str) -> None:
    now = datetime.now(UTC)
    made = json.loads(commands.make(kind, 3, [("ada", now)], now).body)
    validator(kind).validate(made)
    for change in ({"type": "x"}, {"subject": "contact:ada"}, {"data": {"items": [{"contact_id": "a@b"}]}}):
        assert not validator(kind).is_valid({**made, **change})
    made["data"]["items"] *= 1001
    assert not validator(kind).is_valid(made)
    assert [name for name in made if name not in DOCUMENT["components"]["schemas"][kind]["properties"]] == []
