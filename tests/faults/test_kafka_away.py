"""Kafka is away while rows fall due: the table follows within a second, the commands arrive afterwards.

Also when the workers lose their sessions with PostgreSQL meanwhile: homes are owned anew without Kafka.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from schemas import topics
from tests import cluster as clusters
from tests import stack, traffic

COUNT = 1_000
MS = timedelta(milliseconds=1)
END_SESSIONS = """
select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'worker-% fold-%'
"""


@pytest.mark.capability("CEE-8", "LAW-4")
@pytest.mark.slow
@pytest.mark.parametrize("lost", [False, True], ids=["Kafka alone", "every session with PostgreSQL is lost"])
def test_rows_follow_time_without_kafka_and_commands_come_later(
    cluster: clusters.Cluster, mortal: stack.Servers, lost: bool
) -> None:
    ends = datetime.now(UTC).replace(microsecond=0) + timedelta(
        seconds=round(min(15.0, clusters.patience(8)))
    )
    if (ends.month, ends.day) == (2, 29):
        pytest.skip("nothing leaves a window of twelve months on 29 February")
    contacts = [f"due-{number}" for number in range(COUNT)]
    sent = [
        (topics.EMAIL_ACTIVITY, traffic.click(one, time=ends.replace(year=ends.year - 1))) for one in contacts
    ]
    traffic.send_all(cluster.bootstrap, sent)
    cluster.settle()
    assert _rows(cluster) == COUNT
    mortal.kafka.kill()
    if lost:
        ended = cluster.sql(END_SESSIONS)
        assert len(ended) >= 3 * 2, "the sessions of every worker's lanes"
    assert datetime.now(UTC) < ends, "the machine is too slow for this test"

    stack.eventually(lambda: datetime.now(UTC) > ends, "they are due", 60)
    waited = stack.eventually(lambda: _rows(cluster) == 0, "the table has followed", 60, 0.01)
    assert waited < clusters.patience(1.0)
    assert cluster.sql("select 1 from heed_ops.outbox"), "the commands wait in the outbox"
    cluster.assert_alive(*clusters.THREE)

    mortal.kafka.start()
    mortal.kafka.wait()
    told: dict[str, str] = {}
    messages = 0
    while len(told) < COUNT:
        messages += 1
        for message in traffic.read_all(cluster.bootstrap, topics.COMMANDS, messages, 60):
            told |= {
                item["contact_id"]: item["due"]
                for item in json.loads(message.value() or b"")["data"]["items"]
            }
    assert told == dict.fromkeys(contacts, traffic.utc(ends + MS))
    stack.eventually(lambda: not cluster.sql("select 1 from heed_ops.outbox"), "the outbox is empty", 60)
    cluster.wait_shared(*clusters.THREE)
    cluster.settle()
    cluster.check()


def _rows(cluster: clusters.Cluster) -> int:
    return int(cluster.sql("select count(*) as n from heed_data.engagement")[0]["n"])
