"""A database put back from before a key was revoked does not revive the key, asked over HTTP (CEE-14)."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy import postgres
from deploy.processes import free_ports
from tests import cluster as clusters
from tests import stack

PATH = "/v1/contacts/ada/engagement"


@pytest.fixture
def cluster(topics: str, database: str, launch: stack.Launcher, tmp_path: Path) -> Iterator[clusters.Cluster]:
    """One worker, on a database that others may take the place of."""
    made = clusters.Cluster(launch, topics, database, tmp_path)
    yield made.start("worker-1")
    made.close()


@pytest.mark.slow
@pytest.mark.capability("CEE-14")
def test_a_revoked_key_stays_revoked(
    servers: stack.Servers, cluster: clusters.Cluster, database: str, tmp_path: Path
) -> None:
    """Neither for an API that has seen its end, nor for one that starts while nobody has caught up yet."""
    seen = api(cluster)
    operator = made(seen, "operator")
    key = made(seen, "shop", operator)
    becomes(seen, key["key"], 200)
    program("pg_dump", "-d", database, "-Fc", "-f", str(tmp_path / "dump"))
    ask(seen, operator["key"], "POST", f"/v1/keys/{key['id']}/revoke").raise_for_status()
    becomes(seen, key["key"], 401)

    assert cluster.workers["worker-1"].terminate() == 0
    cluster.close()
    put_back(servers, database, tmp_path / "dump")
    assert stands(cluster) == ["key.created", "key.created"], "by the database alone it would be taken"
    fresh = api(cluster)
    answered: Counter[tuple[str, int]] = Counter()

    def look() -> bool:
        for url in (seen, fresh):
            told = status(url, key["key"])
            assert told in (401, 503), "it is taken"
            answered[url, told] += 1
        return answered[fresh, 503] > 20 and answered[seen, 401] > 20

    stack.eventually(look, "each has looked at it many times", clusters.patience(30), 0.1)
    cluster.start("worker-1")
    while "key.revoked" not in stands(cluster):
        look()
    for url in (seen, fresh):
        becomes(url, operator["key"], 200)
        assert status(url, key["key"]) == 401


def api(cluster: clusters.Cluster) -> str:
    port = free_ports(1)[0]
    cluster.launch.api(cluster.bootstrap, cluster.dsn, port, **cluster.env).wait_for("listening")
    return f"http://127.0.0.1:{port}"


def ask(url: str, key: str | None, method: str, path: str, body: Any = None) -> httpx.Response:
    head = {} if key is None else {"Authorization": f"Bearer {key}"}
    return httpx.request(method, url + path, json=body, headers=head, timeout=30)


def status(url: str, key: str) -> int:
    return ask(url, key, "GET", PATH).status_code


def becomes(url: str, key: str, wanted: int) -> None:
    stack.eventually(lambda: status(url, key) == wanted, f"{wanted} is answered", clusters.patience(20), 0.05)


def made(url: str, name: str, by: dict[str, Any] | None = None) -> dict[str, Any]:
    """A key, once this API takes it and asks for one."""
    body = {"name": name, "scopes": ["administer"]}
    found = ask(url, by["key"] if by else None, "POST", "/v1/keys", body)
    assert found.is_success, found.text
    becomes(url, "none", 401)
    becomes(url, found.json()["key"], 200)
    return dict(found.json())


def stands(cluster: clusters.Cluster) -> list[str]:
    found = cluster.sql("select type from heed_data.registry where type like 'key.%' order by time, id")
    return [one["type"] for one in found]


def put_back(servers: stack.Servers, dsn: str, dump: Path) -> None:
    """The database as it was, in the place of the one that is."""
    servers.drop_database(dsn)
    name = dsn.rpartition("/")[2]
    admin = servers.postgres.admin_dsn
    program("createdb", "--maintenance-db", admin, "-O", "heed", "-T", "template0", name)
    program("pg_restore", "-d", servers.postgres.dsn("postgres", name), str(dump))


def program(name: str, *arguments: str) -> None:
    """One of PostgreSQL's own programs, as an operator runs it."""
    command = [str(postgres.find_programs() / name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
