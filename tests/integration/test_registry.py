"""Every change says who: what comes into the registry, by whichever way, names its actor (CEE-14)."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.processes import free_ports
from schemas import events, settings, topics
from tests import cluster as clusters
from tests import stack, traffic

ACCOUNT = pwd.getpwuid(os.getuid()).pw_name
CHANGES = ["key.created", "key.created", "key.revoked", "parked.discarded", "setting.changed"]


@pytest.fixture(scope="module")
def cluster(
    servers: stack.Servers, module_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[clusters.Cluster]:
    """One worker, whose doors have three records that cannot be folded."""
    stack.recreate_topics(servers.bootstrap, topics.all_topics(stack.HOMES))
    home: Path = tmp_path_factory.mktemp("home")
    with stack.Launcher() as launch:
        made = clusters.Cluster(launch, servers.bootstrap, module_database, home, LOGNAME=ACCOUNT)
        made.start("worker-1")
        traffic.send_all(servers.bootstrap, [(topics.EMAIL_ACTIVITY, b"rubbish")] * 3)
        stack.eventually(lambda: len(parked(made)) == 3, "they are parked", clusters.patience(30))
        yield made
        made.tell()
        made.close()


def parked(cluster: clusters.Cluster) -> list[int]:
    return [row["id"] for row in cluster.sql("select id from heed_ops.parked order by id")]


@pytest.mark.capability("CEE-14", "ACT-2")
def test_every_fact_of_the_registry_names_its_actor(cluster: clusters.Cluster) -> None:
    port = free_ports(1)[0]
    cluster.launch.api(cluster.bootstrap, cluster.dsn, port, **cluster.env).wait_for("listening")
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        first = change(cluster, by_http(client), "Europe/Amsterdam", keys=1)
        stack.eventually(lambda: client.get("/v1/keys").status_code == 401, "it asks for a key")
        client.headers["Authorization"] = f"Bearer {first['key']}"
        change(cluster, by_http(client), "Europe/Paris")
    change(cluster, by_command(cluster), "Europe/Rome")

    found = Counter(
        (row["type"], row["actor"]) for row in cluster.sql("select type, actor from heed_data.registry")
    )
    without_key = [*CHANGES[1:2], *CHANGES[3:]]
    assert found == Counter(
        [("setting.changed", "environment")] * len(settings.CHANGING)
        + [(type_, f"local:{ACCOUNT}") for type_ in without_key]
        + [(type_, f"key:{first['id']}") for type_ in CHANGES]
        + [(type_, f"cli:{ACCOUNT}") for type_ in CHANGES]
    )
    known = {one.name for one in events.EVENTS.values() if one.registered and one.door is None}
    elsewhere = {"contact.erased", "identifier.linked"}  # tests of erasures and of identifications
    assert set(CHANGES) | elsewhere == known, "another type"


Ask = Callable[..., Any]


def change(cluster: clusters.Cluster, ask: Ask, zone: str, keys: int = 2) -> Any:
    """Everything that can be changed, in one of the ways; gives the first key."""
    ask("settings", "set", "zone", zone)
    ask("parked", "discard", parked(cluster)[0])
    made = ask("keys", "create", zone)
    if keys > 1:
        ask("keys", "rotate", made["id"])
        ask("keys", "revoke", made["id"])
    return made


def by_http(client: httpx.Client) -> Ask:
    def ask(noun: str, verb: str, what: Any, value: Any = None) -> Any:
        body: Any = None
        match noun, verb:
            case "settings", _:
                verb, path, body = "PUT", f"/v1/settings/{what}", {"value": value}
            case "parked", _:
                verb, path, body = "POST", "/v1/parked/discard", {"ids": [what]}
            case _, "create":
                verb, path, body = "POST", "/v1/keys", {"name": what, "scopes": ["administer"]}
            case _:
                verb, path = "POST", f"/v1/keys/{what}/{verb}"
        answer = client.request(verb, path, json=body)
        assert answer.is_success, answer.text
        return answer.json()

    return ask


def by_command(cluster: clusters.Cluster) -> Ask:
    env = stack.clean_env(stack.servers_env(cluster.bootstrap, cluster.dsn) | cluster.env)

    def ask(noun: str, verb: str, *what: Any) -> Any:
        more = ["--scope", "administer"] if verb == "create" else []
        command = [str(stack.HEED), noun, verb, *map(str, what), *more, "--json"]
        found = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
        assert found.returncode == 0, found.stderr
        return json.loads(found.stdout)

    return ask
