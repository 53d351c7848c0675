"""A worker that stands still inside a transaction is replaced, and finds itself fenced when it wakes.

Its homes are another's within 25 s: 10 s of the group's session, 5 s of patience with its open transaction,
whose backend is then ended, and a claim. Nothing is lost, nothing counts twice.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from schemas import topics
from tests import cluster as clusters
from tests import stack, traffic
from tests.faults import brakes
from tests.laws import generator

LIMIT = 25.0
SLEEP = 1.5
LONG = "x" * 250


@pytest.mark.slow
@pytest.mark.capability("LAW-4")
def test_workers_frozen_at_every_moment_are_replaced_and_fenced(
    workers: Callable[..., clusters.Cluster], mortal: stack.Servers, fresh: str
) -> None:
    """Four workers stand still, each at another moment, at once; a fifth takes all homes."""
    stops = brakes.Brakes(mortal, fresh)
    names = [f"worker-{number}" for number in range(1, 6)]
    cluster = workers(*names)
    _freeze_and_thaw(cluster, stops, dict(zip(names, brakes.MOMENTS, strict=False)), {"worker-5"})


@pytest.mark.slow
@pytest.mark.capability("LAW-4")
@pytest.mark.parametrize("moment", brakes.MOMENTS, ids=lambda moment: moment.name)
def test_one_of_three_frozen(
    workers: Callable[..., clusters.Cluster], mortal: stack.Servers, fresh: str, moment: brakes.Moment
) -> None:
    stops = brakes.Brakes(mortal, fresh)
    cluster = workers(*clusters.THREE)
    _freeze_and_thaw(cluster, stops, {"worker-2": moment}, {"worker-1", "worker-3"})


def _freeze_and_thaw(
    cluster: clusters.Cluster, stops: brakes.Brakes, frozen: dict[str, brakes.Moment], others: set[str]
) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    copied = next((name for name, moment in frozen.items() if moment is brakes.COPY), None)
    long_ones = _long_ones(cluster.homes_of(copied)[0], now) if copied else []
    sent = [*long_ones, *generator.seeded(7, 6_000, 300, now).sent]
    for name, moment in frozen.items():
        stops.press(name, moment, SLEEP)
    with traffic.Traffic(cluster.bootstrap, sent, 2_000) as load:
        backends = {name: _freeze(cluster, stops, name, moment) for name, moment in frozen.items()}
        took = stack.eventually(
            lambda: cluster.shared_by(others),
            "the homes of those that stand still are others'",
            40 + LIMIT,
            0.05,
        )
        for name in frozen:
            stops.release(name)
        load.finish()
    assert took < clusters.patience(LIMIT)
    for name, pid in backends.items():
        if frozen[name] in (brakes.CLAIMED, brakes.WRITTEN):
            assert stops.session(pid) is None, f"the transaction of {name} goes on"
    for name, moment in frozen.items():
        process = cluster.workers[name]
        process.thaw()
        if moment is brakes.COMMITTING:
            _check_goes_on_or_fenced(cluster, name)
            continue
        stack.eventually(lambda process=process: not process.alive, f"{name} ends")  # type: ignore[misc]
        assert process.exit() == 3, process.lines[-5:]
        assert "Fenced" in process.last_line
    cluster.settle(120)
    cluster.assert_alive(*others)
    assert cluster.check() > 200


def _check_goes_on_or_fenced(cluster: clusters.Cluster, name: str) -> None:
    """The server had committed: it has lost nothing but its homes, and some may come back to it."""
    process = cluster.workers[name]
    stack.eventually(lambda: not process.alive or bool(cluster.homes_of(name)), f"{name} goes on or ends")
    assert process.alive or (process.exit() == 3 and "Fenced" in process.last_line)


def _freeze(cluster: clusters.Cluster, stops: brakes.Brakes, name: str, moment: brakes.Moment) -> int:
    """Stop a worker at the moment; gives its backend, once that waits for the worker."""
    while True:
        at = stops.wait_at(name, moment)
        cluster.workers[name].freeze()
        pid: int = at["pid"]
        if moment is brakes.COMMITTING:  # the server ends it by itself; the worker will never have heard
            return pid
        waits = ("active", "ClientRead") if moment is brakes.COPY else ("idle in transaction", "ClientRead")
        found: list[object] = []

        def settled(pid: int = pid, found: list[object] = found) -> bool:
            one = stops.session(pid)
            found[:] = [] if one is None else [one["state"], one["wait_event"]]
            return one is None or one["wait_event"] == "ClientRead"

        stack.eventually(settled, f"the transaction of {name} waits for its client", SLEEP + 10)
        if tuple(found) == waits:
            return pid
        # The batch was small enough to lie in the socket whole, so COPY ended: not the moment asked for.
        cluster.workers[name].thaw()


def _long_ones(home: int, now: datetime) -> list[generator.Sent]:
    """Events of one home whose batches are too large for a socket's buffers: COPY can be caught half way."""
    names = (f"long-{number}" for number in itertools.count())
    contacts = list(
        itertools.islice((one for one in names if topics.home(f"contact:{one}", stack.HOMES) == home), 50)
    )
    made = []
    for number in range(8_000):
        data = {
            "mailing_id": f"m{number % 9}",
            "url": "https://example.org/" + "u" * 2_000,
            "message_id": LONG,
        }
        raw = traffic.click(contacts[number % 50], uuid.uuid4().hex, time=now, data=data)
        made.append(generator.Sent(topics.EMAIL_ACTIVITY, raw, now))
    return made
