"""Hostile payloads, by HTTP and at the doors of a running cluster: nothing breaks, nothing is lost.

Each is on the log, parked with a reason or refused with one, as an independent judgement of its bytes says.
Then a good event is in its row within a second. `make test` sends some thousands, the slow form 100,000.
The seed is printed with what is wrong, and a payload that shows it is made as short as it can be.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from deploy.processes import free_ports
from schemas import topics
from tests import cluster as clusters
from tests import stack, traffic
from tests.contract import test_fuzz_admission as pure
from tests.fuzz import minimise, payloads, requests, verdict
from tests.oracle import audit, broker, database

PART = 3
SIZES = [pytest.param(1_000, id="some"), pytest.param(100_000, id="100,000", marks=[pytest.mark.slow])]
Place = tuple[str, int, int]


@pytest.fixture(scope="module")
def api(cluster: clusters.Cluster) -> tuple[stack.Process, str]:
    """An API beside the workers, and its address."""
    port = free_ports(1)[0]
    process = cluster.launch.api(cluster.bootstrap, cluster.dsn, port)
    process.wait_for("listening")
    return process, f"http://127.0.0.1:{port}"


def log(cluster: clusters.Cluster) -> tuple[Counter[Place], int]:
    """Where the facts came from, without the links of identifications: the doors' records, and how many came
    by HTTP."""
    places: Counter[Place] = Counter()
    by_http = 0
    for record in broker.log(cluster.bootstrap):
        if b'"type":"identifier.linked"' in record.value:
            continue
        headers = {name: value.decode() for name, value in record.headers.items()}
        if "partition" in headers:
            places[headers["door"], int(headers["partition"]), int(headers["offset"])] += 1
        elif "door" in headers:
            by_http += 1
    return places, by_http


def at_doors(cluster: clusters.Cluster) -> Iterator[broker.Record]:
    for door in topics.DOORS:
        yield from broker.records(cluster.bootstrap, door)


def account(cluster: clusters.Cluster) -> list[str]:
    """Every record at a door stands on the log or is parked, once, as the verdict says; what differs."""
    places, _ = log(cluster)
    reasons = {(row["topic"], row["part"], row["off"]): row["reason"] for row in cluster.parked()}
    wrong = []
    for record in at_doors(cluster):
        place = (record.topic, record.partition, record.offset)
        appended = datetime.fromtimestamp(record.appended_ms / 1000, UTC)
        wanted = verdict.judge(record.value, appended, record.topic)
        reason = reasons.get(place)
        found = verdict.Verdict.TAKEN if reason is None else verdict.Verdict.REFUSED
        if reason in ("future", "no_subject"):
            found = verdict.Verdict.WAITS
        if places[place] != (reason is None) or found is not wanted:
            wrong.append(
                f"{place}: {wanted}, {places[place]} times on the log, {reason}: {shortest(record)!r}"
            )
    return wrong


def rows(cluster: clusters.Cluster) -> list[str]:
    """The rows, and the records of the log, that brute force over the topic has otherwise."""
    seen = database.snapshot(cluster.dsn)
    log = audit.read_log(broker.log(cluster.bootstrap), seen.positions)
    report = audit.compare(seen, log)
    assert report.contacts > 0
    return [*log.wrong[:10], *report.rows[:10]]


def shortest(record: broker.Record) -> bytes:
    """The record, as short as it still is judged in two ways; where admission alone is right, its begin."""
    if not pure.differs(record.value, record.topic):
        return record.value[:400]
    return minimise.minimise(record.value, lambda raw: pure.differs(raw, record.topic))


@pytest.mark.capability("LAW-7")
@pytest.mark.parametrize("count", SIZES)
@pytest.mark.timeout(1_800)
def test_hostile_payloads_by_http(
    cluster: clusters.Cluster, api: tuple[stack.Process, str], count: int
) -> None:
    seed = secrets.randbelow(2**32)
    print(f"seed {seed}")
    before = log(cluster)[1]
    parked = sum(1 for _ in at_doors(cluster))
    answers = asyncio.run(requests.send(api[1], requests.requests(seed, count)))
    assert not answers.wrong, f"seed {seed}\n" + "\n".join(answers.wrong[:20])
    assert api[0].alive
    cluster.settle(300)
    assert cluster.good_event_after(topics.EMAIL_ACTIVITY, PART) <= clusters.patience(1.0)
    cluster.settle()
    cluster.assert_alive(*clusters.THREE)
    assert answers.outcomes["accepted"] > count // 10
    assert log(cluster)[1] - before == answers.outcomes["accepted"]
    # What waits stands at a door; one good event went that way, too.
    assert sum(1 for _ in at_doors(cluster)) - parked - 1 == answers.outcomes["parked"]
    assert not (wrong := account(cluster)), f"seed {seed}\n" + "\n".join(wrong[:20])
    assert rows(cluster) == []


@pytest.mark.capability("LAW-7")
@pytest.mark.parametrize("count", SIZES)
@pytest.mark.timeout(1_800)
def test_hostile_payloads_at_the_doors(cluster: clusters.Cluster, count: int) -> None:
    seed = secrets.randbelow(2**32)
    print(f"seed {seed}")
    producer = traffic.plain_producer(cluster.bootstrap)
    odd = [
        ("", b""),
        ("traceparent", b"\xff"),
        ("door", b"facts"),
        ("partition", b"-1"),
        ("offset", b"x" * 999),
    ]
    for one in payloads.payloads(seed, count):
        door = topics.DOORS[0] if one.number % 50 == 0 else one.door  # now and then by the wrong one
        key = one.raw[:20] if one.number % 3 else None
        where: dict[str, Any] = {"key": key, "partition": one.number % stack.HOMES}
        traffic.send(producer, door, one.raw, headers=odd[: one.number % 6], **where)
        producer.poll(0)
    assert producer.flush(120) == 0
    cluster.settle(300)
    assert cluster.good_event_after(topics.EMAIL_ACTIVITY, PART) <= clusters.patience(1.0)
    cluster.settle()
    cluster.assert_alive(*clusters.THREE)
    assert not (wrong := account(cluster)), f"seed {seed}\n" + "\n".join(wrong[:20])
    assert rows(cluster) == []
