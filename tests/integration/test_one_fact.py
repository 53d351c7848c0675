"""The same event by every way in: one fact, frequency 1, one conflict."""

from __future__ import annotations

import uuid
import zlib
from datetime import UTC, datetime, timedelta

import aiokafka
import httpx
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from deploy.processes import free_ports
from schemas import topics
from tests import cluster as clusters
from tests import stack, traffic
from tests.oracle import broker


@pytest.mark.capability("LAW-1", "LAW-4", "CEE-2")
async def test_by_http_by_two_clients_and_later_with_another_time_is_one_fact(
    cluster: clusters.Cluster, launch: stack.Launcher
) -> None:
    contact, id = _contact_with_other_places(), uuid.uuid4().hex
    now = datetime.now(UTC).replace(microsecond=0)
    raw = traffic.click(contact, id, time=now)
    before = _counted(cluster)
    _by_http(cluster, launch, raw)
    places = [
        await _by_aiokafka(cluster.bootstrap, contact, raw),
        _by_confluent(cluster.bootstrap, contact, raw),
    ]
    cluster.settle()
    assert _counted(cluster) == (before[0] + 2, before[1] + 2, before[2])
    places.append(
        _by_confluent(cluster.bootstrap, contact, traffic.click(contact, id, time=now + timedelta(minutes=1)))
    )
    cluster.settle()

    assert places[0] != places[1], "two clients on one partition would show nothing"
    assert len(cluster.sql("select 1 from heed_data.fact where subject = %s", f"contact:{contact}")) == 1
    row = cluster.row(contact)
    assert row is not None
    assert (row["frequency"], row["date_last_click"]) == (1, now)
    assert _counted(cluster) == (before[0] + 3, before[1] + 2, before[2] + 1)
    cluster.check()


@pytest.mark.capability("LAW-1")
def test_the_smaller_time_stands_whichever_came_first(cluster: clusters.Cluster) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    for order in ((0, 1), (1, 0)):
        contact, id = f"order-{uuid.uuid4().hex[:8]}", uuid.uuid4().hex
        for minutes in order:
            raw = traffic.click(contact, id, time=now - timedelta(minutes=minutes))
            traffic.send_all(cluster.bootstrap, [(topics.EMAIL_ACTIVITY, raw)])
            cluster.settle()
        row = cluster.row(contact)
        assert row is not None
        assert row["date_last_click"] == now - timedelta(minutes=1)
    cluster.check()


def _counted(cluster: clusters.Cluster) -> tuple[float, float, float]:
    """Admitted at the door of mail, duplicates, conflicts."""
    return (
        cluster.metric("heed_admitted_total", door=topics.EMAIL_ACTIVITY),
        cluster.metric("heed_duplicates_total"),
        cluster.metric("heed_conflicts_total"),
    )


def _by_http(cluster: clusters.Cluster, launch: stack.Launcher, raw: bytes) -> None:
    [port] = free_ports(1)
    launch.api(cluster.bootstrap, cluster.dsn, port).wait_for("listening")
    answer = httpx.post(
        f"http://127.0.0.1:{port}/v1/events", content=raw, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 202, answer.text


def _contact_with_other_places() -> str:
    """A contact whose key librdkafka's default partitioner (CRC32) puts elsewhere than murmur2."""
    while True:
        contact = f"one-{uuid.uuid4().hex[:8]}"
        key = f"contact:{contact}".encode()
        if zlib.crc32(key) % stack.HOMES != topics.home(key.decode(), stack.HOMES):
            return contact


async def _by_aiokafka(bootstrap: str, contact: str, raw: bytes) -> int:
    producer = aiokafka.AIOKafkaProducer(bootstrap_servers=bootstrap)
    await producer.start()
    try:
        told = await producer.send_and_wait(topics.EMAIL_ACTIVITY, raw, key=f"contact:{contact}".encode())
    finally:
        await producer.stop()
    partition: int = told.partition
    return partition


def _by_confluent(bootstrap: str, contact: str, raw: bytes) -> int:
    places: list[int | None] = []
    producer = Producer({"bootstrap.servers": bootstrap})
    producer.produce(
        topics.EMAIL_ACTIVITY,
        raw,
        f"contact:{contact}",
        on_delivery=lambda _, told: places.append(told.partition()),
    )
    assert producer.flush(20) == 0
    assert places[0] is not None
    return places[0]


def test_lag_tools_see_how_far_the_workers_are(cluster: clusters.Cluster) -> None:
    """Kafka's committed offsets are advice, and follow the positions within seconds."""
    cluster.settle()
    consumer = Consumer(
        {"bootstrap.servers": cluster.bootstrap, "group.id": cluster.env["HEED_GROUP"], "log_level": 0}
    )
    places = [TopicPartition(topics.FACTS, part) for part in range(stack.HOMES)]

    def advised() -> bool:
        told = {place.partition: max(0, place.offset) for place in consumer.committed(places, 10)}
        return told == broker.ends(cluster.bootstrap, topics.FACTS)

    try:
        stack.eventually(advised, "the group's offsets are those of the log", clusters.patience(10.0), 0.2)
    finally:
        consumer.close()
