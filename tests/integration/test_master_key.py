"""Another master key, on real servers: every key is wrapped anew, whatever is killed meanwhile (LAW-6)."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from schemas import sealing, topics
from tests import cluster as clusters
from tests import keyring, stack, traffic
from tests.oracle import broker as reading
from tests.unit import samples

pytestmark = pytest.mark.capability("LAW-6")

KEYS = 3_000
NEW = base64.b64encode(b"another master key, of 32 bytes!").decode()
NEW_ID = sealing.master_id(sealing.parse_master_key(NEW))
OLD_ID = keyring.master().id


@pytest.fixture(scope="module")
def cluster(
    servers: stack.Servers, module_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[clusters.Cluster]:
    stack.recreate_topics(servers.bootstrap, topics.all_topics(stack.HOMES))
    home: Path = tmp_path_factory.mktemp("home")
    file = home / "keys"
    file.write_text(f"{keyring.MASTER_TEXT}\n")
    env = {"HEED_MASTER_KEY": "", "HEED_MASTER_KEY_FILE": str(file)}
    with stack.Launcher() as launch:
        made = clusters.Cluster(launch, servers.bootstrap, module_database, home, **env)
        yield made.start("worker-1")
        made.tell()
        made.close()


def heed(cluster: clusters.Cluster, *arguments: str, code: int = 0) -> Any:
    env = stack.clean_env(stack.servers_env(cluster.bootstrap, cluster.dsn) | cluster.env)
    command = [str(stack.HEED), "master-key", *arguments, "--json"]
    found = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert found.returncode == code, found.stderr + found.stdout
    assert keyring.MASTER_TEXT not in found.stdout + found.stderr
    return json.loads(found.stdout) if found.stdout else found.stderr


def in_use(told: dict[str, Any]) -> dict[str, int]:
    return {one["master"]: one["keys"] for one in told["items"]}


def test_what_is_in_use_is_told_by_id(cluster: clusters.Cluster) -> None:
    out = traffic.plain_producer(cluster.bootstrap)
    for number in range(KEYS):
        kid = f"contact:k{number}#{number:016x}"
        key = bytes([number % 256]) * 32
        out.produce(topics.KEYS, sealing.write_kept(kid, keyring.master().wrap(key, kid), OLD_ID), kid)
    lost = sealing.new_kid(sealing.INSTALLATION)
    out.produce(topics.KEYS, sealing.write_kept(lost, keyring.master().wrap(b"l" * 32, lost), OLD_ID), lost)
    for number in range(10):
        out.produce(topics.KEYS, sealing.write_destroyed(f"contact:k{number}#{number:016x}"), f"k{number}")
    assert out.flush(30) == 0
    stack.eventually(
        lambda: heed(cluster, "show")["destroyed"] == 10, "the keys are read", clusters.patience(60), 0.2
    )
    told = heed(cluster, "show")
    assert told["current"] == OLD_ID
    assert told["items"] == [{"master": OLD_ID, "keys": KEYS - 10 + 2, "current": True, "opens": True}]


def test_without_a_reader_a_rotation_waits_and_says_so(cluster: clusters.Cluster) -> None:
    cluster.workers["worker-1"].terminate()
    out = traffic.plain_producer(cluster.bootstrap)
    out.produce(topics.KEYS, b"{}", b"unread")
    assert out.flush(30) == 0
    assert "start a worker" in heed(cluster, "rotate", code=69)


def test_every_key_is_wrapped_anew_though_it_is_killed(cluster: clusters.Cluster) -> None:
    file = Path(cluster.env["HEED_MASTER_KEY_FILE"])
    file.write_text(f"{NEW}\n{keyring.MASTER_TEXT}\n")
    cluster.start("worker-1")
    env = stack.servers_env(cluster.bootstrap, cluster.dsn) | cluster.env
    killed = cluster.launch.heed("master-key", "rotate", env=env)
    stack.eventually(
        lambda: in_use(heed(cluster, "show")).get(NEW_ID, 0) > 0 or not killed.alive,
        "some keys are under the new one",
        clusters.patience(60),
    )
    killed.kill()
    told = heed(cluster, "rotate")
    assert in_use(told) == {NEW_ID: KEYS - 10 + 1}, "and the secret that does not hold is destroyed"
    assert told["destroyed"] == 11
    assert heed(cluster, "rotate")["rewrapped"] == 0
    file.write_text(f"{NEW}\n")
    told = heed(cluster, "show")
    assert told["items"] == [{"master": NEW_ID, "keys": KEYS - 10 + 1, "current": True, "opens": True}]
    new = sealing.MasterKeys([sealing.parse_master_key(NEW)])
    for row in cluster.sql("select * from heed_ops.data_key where subject ~ '^contact:k' and not destroyed"):
        number = int(row["kid"].rpartition("#")[2], 16)
        assert new.unwrap(bytes(row["wrapped"]), row["kid"], row["master"]) == bytes([number % 256]) * 32


def test_afterwards_all_goes_on_under_the_new_one(cluster: clusters.Cluster) -> None:
    cluster.workers["worker-1"].terminate()
    cluster.start("worker-1")
    before = {one.value for one in reading.records(cluster.bootstrap, topics.FACTS)}
    event = samples.event(subject="contact:after", id="after")
    traffic.send_all(cluster.bootstrap, [(topics.EMAIL_ACTIVITY, samples.encode(event))] * 2)
    stack.eventually(
        lambda: len(cluster.sql("select from heed_data.fact where id = 'after'")) == 1,
        "it is folded",
        clusters.patience(30),
    )
    records = reading.records(cluster.bootstrap, topics.FACTS)
    facts = [json.loads(one.value) for one in records if one.value not in before]
    wanted = json.loads(samples.admitted(event).value)["digest"]
    assert {fact["digest"] for fact in facts} == {wanted}, "the secret is the one of before"
    assert set(in_use(heed(cluster, "show"))) == {NEW_ID}
