"""What people and keys changed, over HTTP and by the command line: one real worker, an API."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from api import audit, pages
from deploy.processes import free_ports
from schemas import topics
from tests import cluster as clusters
from tests import stack, traffic


@pytest.fixture(scope="module")
def cluster(
    servers: stack.Servers, module_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[clusters.Cluster]:
    stack.recreate_topics(servers.bootstrap, topics.all_topics(stack.HOMES))
    home: Path = tmp_path_factory.mktemp("home")
    with stack.Launcher() as launch:
        made = clusters.Cluster(launch, servers.bootstrap, module_database, home)
        yield made.start("worker-1")
        made.close()


@pytest.fixture(scope="module")
def api(cluster: clusters.Cluster) -> Iterator[httpx.Client]:
    [port] = free_ports(1)
    cluster.launch.api(cluster.bootstrap, cluster.dsn, port, **cluster.env).wait_for("listening")
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        yield client


def heed(cluster: clusters.Cluster, *arguments: str) -> Any:
    env = stack.clean_env(stack.servers_env(cluster.bootstrap, cluster.dsn) | cluster.env)
    command = [str(stack.HEED), *arguments, "--json"]
    found = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout)


def fresh(name: str) -> str:
    return f"{name}-{uuid.uuid4().hex[:8]}"


def whole(api: httpx.Client, path: str, size: int, **query: str) -> list[dict[str, Any]]:
    """A list by pages, each behind the one before."""
    found: list[dict[str, Any]] = []
    asked = {**query, "limit": str(size)}
    while True:
        answer = api.get(path, params=asked)
        assert answer.status_code == 200, answer.text
        found += answer.json()["items"]
        if answer.json()["next"] is None:
            return found
        asked["after"] = answer.json()["next"]


def sheet(api: httpx.Client, path: str, **query: str) -> list[dict[str, str]]:
    """The same as CSV."""
    answer = api.get(path, params=query, headers={"Accept": "text/csv"})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    return list(csv.DictReader(io.StringIO(answer.text, newline="")))


def cells(items: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Items of JSON as cells of CSV are read; none of these begins like a formula."""
    return [{name: "" if value is None else str(value) for name, value in one.items()} for one in items]


MANY = """
insert into heed_data.registry
    (subject, key, source, id, type, time, version, digest, accepted, actor, off, data)
select 'setting:trial', md5('trial' || i)::uuid, 'urn:test', 'trial-' || i, 'setting.changed',
    case i when 0 then timestamptz '0044-03-15 BC' else now() - interval '1 second' * i end, 1,
    md5(i::text)::uuid, now(), 'cli:trial', 0, '{"name": "trial", "value": "x"}'
from generate_series(%s::int, %s::int) i
"""


@pytest.mark.capability("ACT-2")
def test_csv_of_many_pages_is_whole_and_one_that_breaks_off_is_seen_to(
    cluster: clusters.Cluster, api: httpx.Client
) -> None:
    """What cannot be read stands behind the first rows that are sent: a time that no client can hold."""
    count = 2 * pages.OF_CSV + 7
    try:
        cluster.sql(MANY + " returning 1", 1, count)
        found = sheet(api, "/v1/audit", actor="cli:trial")
        assert [one["id"] for one in found] == [f"trial-{n}" for n in range(1, count + 1)]
        cluster.sql(MANY + " returning 1", 0, 0)
        with pytest.raises(httpx.RemoteProtocolError):
            api.get("/v1/audit", params={"actor": "cli:trial", "format": "csv"})
        assert api.get("/v1/audit", params={"limit": "3"}).status_code == 200, "the API goes on"
    finally:
        cluster.sql("delete from heed_data.registry where actor = 'cli:trial' returning 1")


@pytest.mark.capability("ACT-2")
def test_who_changed_what(cluster: clusters.Cluster, api: httpx.Client) -> None:
    who, first, second = fresh("who"), fresh("first"), fresh("second")
    traffic.send_all(cluster.bootstrap, [("email-activity", b"rubbish")])
    cluster.settle()
    for into in (first, second):
        assert api.post(f"/v1/contacts/{who}/merge", json={"into": into}).status_code == 200
    assert api.post(f"/v1/contacts/{who}/unmerge", json={"into": second}).status_code == 200
    for months in ("24", "12"):
        heed(cluster, "settings", "set", "engagement_period_months", months)
    heed(cluster, "parked", "discard", "--reason", "undecodable")
    [stood] = cluster.sql("select subject from heed_data.registry where type = 'parked.discarded'")

    links = whole(api, "/v1/audit", 1, about=f"contact:{who}")
    assert [(one["type"], one["before"], one["after"]) for one in links] == [
        ("contact.unmerged", f"contact:{second}", f"contact:{first}"),
        ("contact.merged", f"contact:{first}", f"contact:{second}"),
        ("contact.merged", None, f"contact:{first}"),
    ]
    assert all(one["actor"].startswith("local:") and one["time"] == one["accepted"] for one in links)
    found = whole(api, "/v1/audit", 2, about="setting:engagement_period_months")
    assert [(one["before"], one["after"], one["actor"].partition(":")[0]) for one in found] == [
        ("24", "12", "cli"), ("12", "24", "cli"), (None, "12", "environment"),
    ]  # fmt: skip
    assert found[-1]["time"] == "1970-01-01T00:00:00.000Z" < found[-1]["accepted"]
    [discarded] = whole(api, "/v1/audit", 9, type="parked.discarded")
    assert (discarded["about"], discarded["before"], discarded["after"]) == (
        stood["subject"], "undecodable", None,
    )  # fmt: skip

    everything = whole(api, "/v1/audit", 1_000)
    assert [tuple(one) for one in everything] == [audit.COLUMNS] * len(everything)
    assert len(everything) >= 9
    for size in (1, 4):
        assert whole(api, "/v1/audit", size) == everything
    assert sheet(api, "/v1/audit") == cells(everything)
    assert heed(cluster, "audit", "--limit", "1000")["items"] == json.loads(json.dumps(everything))
    window = {"from": links[1]["time"], "to": links[0]["time"]}
    assert links[1] in whole(api, "/v1/audit", 100, **window)
    assert links[0] not in whole(api, "/v1/audit", 100, **window)


@pytest.mark.capability("ACT-2", "CEE-14")
def test_a_key_that_was_made_and_revoked(cluster: clusters.Cluster, api: httpx.Client) -> None:
    """The last test: from now on the API asks for a key."""
    made = heed(cluster, "keys", "create", "=cmd()", "--scope", "administer")
    api.headers["Authorization"] = f"Bearer {made['key']}"
    url = api.base_url.join("/v1/audit")
    stack.eventually(lambda: httpx.get(url).status_code == 401, "a key is asked for", 20)
    by_key = api.post("/v1/keys", json={"name": "shop", "scopes": ["access"]}).json()
    assert api.post(f"/v1/keys/{by_key['id']}/revoke").status_code == 200
    found = whole(api, "/v1/audit", 9, about=f"key:{by_key['id']}")
    assert [(one["type"], one["before"], one["after"], one["actor"]) for one in found] == [
        ("key.revoked", "shop (access)", None, f"key:{made['id']}"),
        ("key.created", None, "shop (access)", f"key:{made['id']}"),
    ]
    assert made["key"] not in json.dumps(whole(api, "/v1/audit", 1_000))
    [guarded] = sheet(api, "/v1/audit", about=f"key:{made['id']}")
    assert guarded["after"] == "'=cmd() (administer)"
    access = {"Authorization": f"Bearer {by_key['key']}"}
    assert api.get("/v1/audit", headers=access).status_code == 401, "it was revoked"
    for query in ({"type": "zone"}, {"actor": ""}, {"from": "now"}, {"after": "x"}, {"format": "xls"},
                  {"format": "csv", "limit": "5"}, {"sort": "time"}):  # fmt: skip
        answer = api.get("/v1/audit", params=query)
        assert (answer.status_code, next(iter(query)) in answer.json()["detail"] or "sort" in query) == (
            400, True,
        )  # fmt: skip
