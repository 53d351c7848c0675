"""The peak memory of a worker stays under 300 MB, whatever waits for it; the figures are printed.

Two million events wait: of many contacts, and of one hot key. Then events of 1 MB. The peak is the kernel's
own figure (VmHWM), so it misses nothing between two looks.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from schemas import topics
from tests import cluster as clusters
from tests import stack, traffic
from tests.laws import generator

LIMIT_MB = 300
WAITING = 2_000_000
LARGE = 400


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_million_events_of_many_contacts(
    workers: Callable[..., clusters.Cluster], mortal: stack.Servers
) -> None:
    _fill(mortal.bootstrap, _facts(contacts=200_000, count=WAITING))
    _report(_folded(workers), "2 million events of 200,000 contacts waiting")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_million_events_with_one_hot_key(
    workers: Callable[..., clusters.Cluster], mortal: stack.Servers
) -> None:
    _fill(mortal.bootstrap, _facts(contacts=1, count=WAITING))
    _report(_folded(workers), "2 million events of one contact waiting")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_events_of_one_megabyte(workers: Callable[..., clusters.Cluster], mortal: stack.Servers) -> None:
    """At the door (parked as too large), and as a stranger's facts on the log."""
    large = "x" * (1 << 20)
    data = {"mailing_id": "m1", "url": "https://example.org/", "unknown": large}
    producer = traffic.plain_producer(mortal.bootstrap)
    for number in range(LARGE):
        raw = traffic.click(f"c{number}", data=data)
        traffic.send(producer, topics.EMAIL_ACTIVITY, raw, partition=number % stack.HOMES)
        told = generator.Told("mail.clicked", f"c{number}", datetime.now(UTC), uuid.uuid4().hex)
        fact = json.dumps({**generator.envelope(told, datetime.now(UTC)), "data": data}).encode()
        traffic.send(producer, topics.FACTS, fact, partition=number % stack.HOMES)
        producer.poll(0)
    assert producer.flush(120) == 0
    cluster = _folded(workers)
    assert len(cluster.sql("select 1 from heed_ops.parked where reason = 'invalid'")) == LARGE
    _report(cluster, f"{LARGE} events of 1 MB on the door and on the log waiting")


def _folded(workers: Callable[..., clusters.Cluster]) -> clusters.Cluster:
    """Three workers that have read all that waited."""
    cluster = workers(*clusters.THREE)
    cluster.settle(1500)
    cluster.assert_alive(*clusters.THREE)
    return cluster


def _report(cluster: clusters.Cluster, what: str) -> None:
    peaks = {name: _peak_mb(process.pid) for name, process in cluster.workers.items()}
    print(f"{what}: peak memory of a worker {', '.join(f'{mb:.0f} MB' for mb in peaks.values())}")
    assert max(peaks.values()) < LIMIT_MB, peaks


def _peak_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def _fill(bootstrap: str, facts: Iterable[tuple[str, bytes]]) -> None:
    """Put facts on the log as Heed would have, faster than by the doors."""
    producer = traffic.plain_producer(bootstrap, **{"linger.ms": 50, "compression.type": "none"})
    home: dict[str, int] = {}
    for contact, raw in facts:
        if contact not in home:
            home[contact] = topics.home(f"contact:{contact}", stack.HOMES)
        traffic.send(producer, topics.FACTS, raw, partition=home[contact], key=f"contact:{contact}")
        producer.poll(0)
    assert producer.flush(300) == 0


def _facts(contacts: int, count: int) -> Iterator[tuple[str, bytes]]:
    """Clicks with ids of their own, made from one template: two million take seconds, not minutes."""
    now = datetime.now(UTC).replace(microsecond=0)
    mailings = 400
    templates = []
    for number in range(mailings):
        told = generator.Told("mail.clicked", "@", now - timedelta(hours=number), "#", mailing=f"m{number}")
        head, tail = json.dumps(generator.envelope(told, now)).split('"#"', 1)
        middle, end = tail.split("contact:@", 1)
        templates.append((head + '"', '"' + middle + "contact:", end))
    for number in range(count):
        head, middle, end = templates[number % mailings]
        contact = "hot" if contacts == 1 else f"c{number % contacts}"
        yield contact, f"{head}e{number}{middle}{contact}{end}".encode()
