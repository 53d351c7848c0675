"""What ended or hung a worker for ever: poison on a topic, a database that is away for long."""

from __future__ import annotations

import asyncio
import json
import sys
import uuid
from pathlib import Path
from typing import Any

import aiokafka
import psycopg
import pytest
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

from schemas import topics
from tests import cluster as clusters
from tests import stack, traffic

PART = 3
# As Python reads UUIDs, these are some; PostgreSQL takes none of them.
NO_UUIDS = ("{{" + "1" * 32 + "}}", "1-2-3-4-" + "5" * 28, "1_1" + "1" * 29 + "----")
# Time runs a hundred times as fast for whoever asks how long nothing was fetched.
HURRIED = """
from aiokafka.consumer import subscription_state as state
idle = state.SubscriptionState.fetcher_idle_time.fget
state.SubscriptionState.fetcher_idle_time = property(lambda self: idle(self) * 100)
from streams import cli
cli.main()
"""


class _Name(str):
    """A header's name that is not UTF-8; librdkafka sends it as it is."""

    __slots__ = ()

    def encode(self, *_: Any) -> bytes:
        return b"\xff\xfe"


def test_a_header_whose_name_is_not_utf8(cluster: clusters.Cluster) -> None:
    raw = [(topic, traffic.click(f"h{n}")) for n, topic in enumerate(topics.DOORS)]
    raw.append((topics.FACTS, b"{}"))
    asyncio.run(_send_named(cluster.bootstrap, raw))
    cluster.wait_row("h0")
    producer = traffic.plain_producer(cluster.bootstrap)
    traffic.send(producer, topics.EMAIL_ACTIVITY, traffic.click("after"), partition=PART)
    producer.flush(30)
    cluster.wait_row("after")
    cluster.assert_alive(*clusters.THREE)


def test_commands_whose_ids_are_almost_uuids(cluster: clusters.Cluster) -> None:
    producer = traffic.plain_producer(cluster.bootstrap)
    for id_ in NO_UUIDS:
        told = {"id": id_, "type": "engagement.expire", "data": {"items": []}}
        for part in range(stack.HOMES):
            traffic.send(producer, topics.COMMANDS, json.dumps(told).encode(), partition=part)
    producer.flush(30)
    cluster.settle()
    traffic.send_all(cluster.bootstrap, [(topics.EMAIL_ACTIVITY, traffic.click("after"))])
    cluster.wait_row("after")
    cluster.assert_alive(*clusters.THREE)


@pytest.mark.slow
def test_a_database_away_for_longer_than_kafka_waits_for_a_fetch(
    mortal: stack.Servers, fresh: str, launch: stack.Launcher, tmp_path: Path
) -> None:
    env = {
        **stack.servers_env(mortal.bootstrap, fresh),
        "HEED_GROUP": f"away-{uuid.uuid4().hex}",
        "HEED_HOME": str(tmp_path),
    }
    worker = launch.run([sys.executable, "-c", HURRIED, "worker"], env=env, name="worker-1")
    for _ in range(3):
        worker.wait_for('"claimed"')
    stack.eventually(lambda: _rows(fresh, "position") == stack.HOMES * 2 + 1, "all claimed")
    name = fresh.rpartition("/")[2]
    with psycopg.connect(mortal.postgres.admin_dsn, autocommit=True) as admin:
        admin.execute(f"alter database {name} allow_connections false".encode())
        admin.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", (name,))
        worker.wait_for("waiting for a server")
        with pytest.raises(AssertionError):
            worker.wait_for("never", timeout=7)
        admin.execute(f"alter database {name} allow_connections true".encode())
    traffic.send_all(mortal.bootstrap, [(topics.EMAIL_ACTIVITY, traffic.click("after"))])
    stack.eventually(lambda: _rows(fresh, "engagement") == 1, "the row after the outage", timeout=25)


def _rows(dsn: str, table: str) -> int:
    with psycopg.connect(dsn) as connection:
        row = connection.execute(f"select count(*) from heed_data.{table}".encode()).fetchone()
        return 0 if row is None else int(row[0])


async def _send_named(bootstrap: str, raw: list[tuple[str, bytes]]) -> None:
    producer = aiokafka.AIOKafkaProducer(bootstrap_servers=bootstrap)
    await producer.start()
    try:
        for topic, value in raw:
            batch = producer.create_batch()
            batch._builder = _DefaultRecordBatchBuilderPy(2, 0, False, -1, -1, 0, 1 << 20)
            batch.append(key=None, value=value, timestamp=None, headers=[(_Name("no"), b"x")])
            await (await producer.send_batch(batch, topic, partition=PART))
    finally:
        await producer.stop()
