"""Kafka is lost with all that was on it; PostgreSQL has every fact, and the log is written anew from it."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest

from schemas import topics
from tests import cluster as clusters
from tests import stack, traffic

CONTACTS = 300
NEWER = json.dumps({
    "id": "newer", "source": "tests", "type": "test.unheard", "subject": "tests:newer", "data": {},
    "time": "2026-01-01T00:00:00.000Z", "dataschema": "urn:heed:test.unheard:1", "digest": "0" * 32,
    "accepted": "2026-01-01T00:00:00.000Z",
}).encode()  # fmt: skip


@pytest.mark.slow
@pytest.mark.capability("LAW-4")
def test_the_log_is_written_anew(cluster: clusters.Cluster, mortal: stack.Servers) -> None:
    told = [("email-activity", traffic.click(f"c{n % CONTACTS}", f"click-{n}")) for n in range(2 * CONTACTS)]
    traffic.send_all(mortal.bootstrap, told)
    plain = traffic.plain_producer(mortal.bootstrap)
    plain.produce(topics.REGISTRY, NEWER, b"tests:newer", 0)
    assert plain.flush(60) == 0
    cluster.settle()
    before = cluster.sql(
        "select contact_id, frequency, date_first_click from heed_data.engagement order by 1"
    )
    assert "stop them" in _refused(cluster)
    for name in clusters.THREE:
        assert cluster.workers[name].terminate() == 0
    cluster.sql("update heed_data.position set as_of = as_of - interval '10 seconds'")
    cluster.sql("update heed_ops.position set as_of = as_of - interval '10 seconds'")
    assert "is not lost" in _refused(cluster)

    mortal.kafka.kill()
    shutil.rmtree(mortal.kafka.home / "data")
    mortal.kafka.start()
    mortal.kafka.wait()
    stack.recreate_topics(mortal.bootstrap, topics.all_topics(stack.HOMES), seeded=False)
    killed = cluster.launch.heed("topics", "refill", env=_env(cluster))
    stack.eventually(lambda: bool(cluster.sql("select * from heed_ops.refill")), "it has begun", 60, 0.001)
    killed.kill()
    done = _refill(cluster)
    assert done.returncode == 0, done.stderr
    written = json.loads(done.stdout)["written"]
    assert written.pop("keys") >= CONTACTS + 1, "one of each contact, or more, and the installation's secret"
    assert written == {"registry": 3 + 1, "facts": 2 * CONTACTS}
    assert "is not lost" in _refused(cluster)

    cluster.start(*clusters.THREE)
    traffic.send_all(mortal.bootstrap, [("email-activity", traffic.click("c0", mailing="another"))])
    cluster.wait_row("c0", 2)
    cluster.settle()
    cluster.check()
    cluster.replay_check()
    after = cluster.sql("select contact_id, frequency, date_first_click from heed_data.engagement order by 1")
    assert after[1:] == before[1:]
    newer = {bytes(row["bytes"]) for row in cluster.parked(topics.REGISTRY)}
    assert newer == {NEWER}, "it stands there for a newer Heed to read"


def _refill(cluster: clusters.Cluster) -> subprocess.CompletedProcess[str]:
    command = [str(stack.HEED), "topics", "refill", "--json"]
    return subprocess.run(
        command, env=stack.clean_env(_env(cluster)), capture_output=True, text=True, timeout=120, check=False
    )


def _refused(cluster: clusters.Cluster) -> str:
    found = _refill(cluster)
    assert found.returncode == 2, found.stdout + found.stderr
    return found.stderr


def _env(cluster: clusters.Cluster) -> dict[str, str]:
    return stack.servers_env(cluster.bootstrap, cluster.dsn) | cluster.env
