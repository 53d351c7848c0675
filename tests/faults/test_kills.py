"""Everything is killed, frozen and taken away under load: nothing is lost, nothing counts twice.

The test does what a supervisor does: it starts again what died. Long forms run with `make slow`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from deploy.kafka import Kafka
from deploy.postgres import Postgres
from tests import cluster as clusters
from tests import stack, traffic
from tests.faults import brakes
from tests.laws import generator

BURST = 40_000  # events whose way to the rows shows the capacity
CHUNK = 50_000


@pytest.mark.capability("LAW-1", "LAW-4")
def test_short_drill(workers: Callable[..., clusters.Cluster], mortal: stack.Servers, fresh: str) -> None:
    """A worker killed inside a transaction, PostgreSQL and Kafka killed and away for a while."""
    _drill(workers, mortal, fresh, seconds=75, away=4, frozen=0, most=800)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.capability("LAW-1", "LAW-4")
def test_long_drill(workers: Callable[..., clusters.Cluster], mortal: stack.Servers, fresh: str) -> None:
    """At half of the capacity: the same with a worker frozen for 20 s, each server away for 2 minutes."""
    _drill(workers, mortal, fresh, seconds=420, away=120, frozen=20, most=10_000)


def _drill(
    workers: Callable[..., clusters.Cluster],
    servers: stack.Servers,
    dsn: str,
    *,
    seconds: int,
    away: float,
    frozen: float,
    most: int,
) -> None:
    """`most` bounds the load, in events a second, where half of the capacity is more than a test may take;
    it ends with the drill, or after so many seconds.
    """
    stops = brakes.Brakes(servers, dsn)
    cluster = workers(*clusters.THREE)
    half = _capacity(cluster) // 2
    rate = min(half, most)
    print(f"half of the capacity is {half} events/s, the load {rate}")
    sent = _events(seconds * rate, "drill")
    with traffic.Traffic(cluster.bootstrap, sent, rate) as load:
        cluster.wait_row_count(20)
        _kill_inside_a_transaction(cluster, stops, "worker-1")
        _restart(cluster, "worker-1")
        if frozen:
            _freeze_for(cluster, "worker-2", frozen)
        _take_away(servers.postgres, away)
        cluster.wait_beats(1)
        _take_away(servers.kafka, away)
        cluster.workers["worker-3"].kill()
        _restart(cluster, "worker-3")
        assert load.count < len(sent), "the load has to last longer than the drill"
        load.end()
    _revive(cluster)
    cluster.wait_shared(*clusters.THREE, timeout=90)
    cluster.settle(180)
    assert cluster.check() > 1_500
    cluster.replay_check()
    assert {row["owner"] for row in cluster.sql(clusters.OWNED)} == set(clusters.THREE)


def _capacity(cluster: clusters.Cluster) -> int:
    """Events a second that these workers carry from the doors to the rows, beside their producer."""
    sent = _events(BURST, "burst")
    began = time.monotonic()
    with traffic.Traffic(cluster.bootstrap, sent, float("inf")) as load:
        load.finish()
    cluster.settle()
    return int(len(sent) / (time.monotonic() - began))


def _events(count: int, name: str) -> list[generator.Sent]:
    """Ten events a contact, with the generator's copies, contradictions and rubbish."""
    now = datetime.now(UTC).replace(microsecond=0)
    return [
        one
        for first in range(0, count, CHUNK)
        for one in generator.seeded(
            first, min(CHUNK, count - first), max(2_000, count // 10), now, name=f"{name}-{first}-"
        ).sent
    ]


def _kill_inside_a_transaction(cluster: clusters.Cluster, stops: brakes.Brakes, name: str) -> None:
    """kill -9 of a worker whose transaction has written, as pg_stat_activity shows; then it is gone."""
    stops.press(name, brakes.WRITTEN, 1.0)
    at = stops.wait_at(name, brakes.WRITTEN)
    assert at["state"] == "active"
    assert at["writes"], "no transaction was open"
    cluster.workers[name].kill()
    stops.release(name)
    stack.eventually(lambda: stops.session(at["pid"]) is None, "its transaction is rolled back")


def _freeze_for(cluster: clusters.Cluster, name: str, seconds: float) -> None:
    """SIGSTOP, longer than the group waits; woken, it goes on with other homes, or ends as fenced."""
    process = cluster.workers[name]
    process.freeze()
    began = time.monotonic()
    stack.eventually(lambda: not cluster.homes_of(name), f"the homes of {name} are others'", 60, 0.1)
    time.sleep(max(0.0, began + seconds - time.monotonic()))
    process.thaw()
    stack.eventually(lambda: not process.alive or bool(cluster.homes_of(name)), f"{name} ends or goes on", 60)
    if not process.alive:
        assert process.exit() == 3
        _restart(cluster, name)


def _take_away(server: Kafka | Postgres, seconds: float) -> None:
    """kill -9, and for a while nothing in its place."""
    server.kill()
    time.sleep(seconds)
    server.start()
    server.wait()


def _restart(cluster: clusters.Cluster, name: str) -> None:
    cluster.add(name)
    stack.eventually(
        lambda: bool(cluster.homes_of(name)) and cluster.owns_live(name), f"{name} owns homes again", 60, 0.1
    )


def _revive(cluster: clusters.Cluster) -> None:
    """Start again who ended in doubt, as the supervisor would; nobody may have ended otherwise."""
    for name, process in list(cluster.workers.items()):
        if not process.alive:
            assert process.exit() == 3, process.last_line
            cluster.add(name)
