"""Keys over HTTP and by the command line, with a real worker that folds the registry (CEE-14)."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy import local_key
from deploy.home import Home
from deploy.processes import free_ports
from schemas.topics import all_topics
from tests import cluster as clusters
from tests import stack, traffic

pytestmark = pytest.mark.capability("CEE-14")


@pytest.fixture(scope="module")
def cluster(
    servers: stack.Servers, module_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[clusters.Cluster]:
    stack.recreate_topics(servers.bootstrap, all_topics(stack.HOMES))
    home: Path = tmp_path_factory.mktemp("home")
    with stack.Launcher() as launch:
        made = clusters.Cluster(launch, servers.bootstrap, module_database, home)
        yield made.start("worker-1")
        made.tell()
        made.close()


@pytest.fixture(scope="module")
def urls(cluster: clusters.Cluster) -> tuple[str, str]:
    """Two APIs: one that asks for a key from the start, one once there is a key."""
    ports = free_ports(2)
    for port, asked in zip(ports, ("required", "optional"), strict=True):
        env = {**cluster.env, "HEED_KEYS": asked}
        made = cluster.launch.api(cluster.bootstrap, cluster.dsn, port, f"api-{asked}", **env)
        made.wait_for("listening", clusters.patience(30))
    return f"http://127.0.0.1:{ports[0]}", f"http://127.0.0.1:{ports[1]}"


def heed(cluster: clusters.Cluster, *arguments: str) -> Any:
    env = stack.clean_env(stack.servers_env(cluster.bootstrap, cluster.dsn) | cluster.env)
    command = [str(stack.HEED), *arguments, "--json"]
    found = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout)


def status(url: str, key: str | None, path: str = "/v1/contacts/ada/engagement") -> int:
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    return httpx.get(url + path, headers=headers, timeout=30).status_code


def becomes(url: str, key: str | None, wanted: int, path: str = "/v1/contacts/ada/engagement") -> None:
    stack.eventually(
        lambda: status(url, key, path) == wanted, f"{wanted} is answered", clusters.patience(20), 0.05
    )


def test_a_key_from_its_making_to_its_end(cluster: clusters.Cluster, urls: tuple[str, str]) -> None:
    strict, lenient = urls
    assert status(lenient, None) == 200  # nobody ever made a key
    becomes(strict, None, 401)
    first = heed(cluster, "keys", "create", "operator", "--scope", "administer")
    for url in urls:
        becomes(url, first["key"], 200)
        becomes(url, None, 401)
        assert status(url, first["key"] + "x") == 401
    head = {"Authorization": f"Bearer {first['key']}"}
    made = httpx.post(f"{strict}/v1/keys", json={"name": "shop", "scopes": ["ingest"]}, headers=head).json()
    becomes(strict, made["key"], 403)
    told = {"Authorization": f"Bearer {made['key']}", "Content-Type": "application/json"}
    sent = httpx.post(f"{strict}/v1/events", content=traffic.click("ada"), headers=told)
    assert sent.status_code == 202, sent.text
    setting = httpx.put(f"{strict}/v1/settings/zone", json={"value": "Europe/Amsterdam"}, headers=head)
    assert setting.json()["actor"] == f"key:{first['id']}"
    assert httpx.put(f"{strict}/v1/settings/zone", json={"value": "UTC"}, headers=told).status_code == 403

    another = httpx.post(f"{strict}/v1/keys/{made['id']}/rotate", headers=head).json()
    assert (another["name"], another["scopes"]) == ("shop", ["ingest"])
    ended = httpx.post(f"{strict}/v1/keys/{made['id']}/revoke", headers=head).json()
    assert ended["revoked_by"] == f"key:{first['id']}"
    assert httpx.post(f"{strict}/v1/keys/{made['id']}/revoke", headers=head).json() == ended
    becomes(strict, made["key"], 401)
    becomes(strict, another["key"], 403)
    assert httpx.post(f"{strict}/v1/keys/nobody/revoke", headers=head).status_code == 404
    listed = heed(cluster, "keys", "list")["items"]
    assert [one["name"] for one in listed] == ["operator", "shop", "shop"]
    kept = json.dumps(cluster.sql("select data::text, actor from heed_data.registry"))
    assert not any(one["key"] in kept for one in (first, made, another))


def test_what_no_key_is(cluster: clusters.Cluster, urls: tuple[str, str]) -> None:
    key = heed(cluster, "keys", "create", "x", "--scope", "administer")["key"]
    head = {"Authorization": f"Bearer {key}"}
    becomes(urls[0], key, 200)
    wrong: list[dict[str, Any]] = [
        {},
        {"name": "a"},
        {"name": "a", "scopes": []},
        {"name": "a", "scopes": ["all"]},
        {"name": "a\n", "scopes": ["ingest"]},
        {"name": "a", "scopes": ["ingest"], "more": 1},
    ]
    for body in wrong:
        answer = httpx.post(f"{urls[0]}/v1/keys", json=body, headers=head)
        assert answer.status_code == 400, body
    open_ = ("/health/live", "/openapi.json", "/asyncapi.json", "/metrics", "/docs/errors.md")
    assert [status(urls[0], None, path) for path in open_] == [200] * len(open_)


def test_the_key_of_the_local_stack(cluster: clusters.Cluster, urls: tuple[str, str], tmp_path: Path) -> None:
    """Made once, the same at every start; lost or revoked, another takes its place, and stands alone."""
    home, url = Home(tmp_path), urls[0]
    operator = heed(cluster, "keys", "create", "operator", "--scope", "administer")["key"]
    becomes(url, operator, 200)
    head = {"Authorization": f"Bearer {operator}"}

    def make() -> Any:
        body = {"name": local_key.NAME, "scopes": ["ingest", "administer"]}
        return httpx.post(f"{url}/v1/keys", json=body, headers=head).json()

    def standing() -> int:
        listed = httpx.get(f"{url}/v1/keys", headers=head).json()["items"]
        return sum(one["name"] == local_key.NAME and one["revoked_at"] is None for one in listed)

    first = local_key.hold(home, url, lambda: heed(cluster, *local_key.MAKE[:-1]))
    assert status(url, first) == 200
    assert (local_key.hold(home, url, make), standing()) == (first, 1)
    (home.path / "key.json").unlink()
    second = local_key.hold(home, url, make)
    assert second != first and standing() == 1
    becomes(url, first, 401)
    assert status(url, second) == 200
    kept = home.key()
    assert kept is not None and (home.path / "key.json").stat().st_mode & 0o777 == 0o600
    httpx.post(f"{url}/v1/keys/{kept['id']}/revoke", headers=head).raise_for_status()
    becomes(url, second, 401)
    third = local_key.hold(home, url, make)
    assert (status(url, third), standing()) == (200, 1)
    (home.path / "key.json").write_text('{"id": 1, "key": "x"')
    assert local_key.hold(home, url, make) not in (first, second, third)
