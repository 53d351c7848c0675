"""Driven again late is as if it had come in time: what an older worker set aside on the log, and a newer one
folds, gives the rows and facts of a worker that could read it at once; cut off at any statement, too (LAW-1).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import hypothesis
import pytest
from hypothesis import strategies as st

from projections import parked_again, records
from schemas import events
from tests import oracle
from tests.laws import generator, test_order, world

NOW = generator.NOW
KNOWN_LATE = ("mail.clicked", "mail.delivered", "contact.deleted", "contact.restored")


@contextmanager
def older(names: frozenset[str]) -> Iterator[None]:
    """As a worker that does not know these types yet."""
    known = {name: events.EVENTS[name] for name in names}
    current = dict(records._CURRENT)
    try:
        for name, event in known.items():
            events.EVENTS[name] = events.EventType(name, event.door, event.topic)
            del records._CURRENT[event.dataschema]
        yield
    finally:
        events.EVENTS.update(known)
        records._CURRENT.update(current)


def drive(worker: world.Worker, fuse: int | None = None) -> int:
    """Fold again what waits in the worker's homes, as a lane does; answers how many records."""
    kept = parked_again.take(worker.fuse.real, list(worker.held))
    batch = worker._batch({name: worker.log.span(name, worker.next[name], 0) for name in worker.held})
    batch.facts = records.decode(kept, worker.log.homes)
    batch.again = parked_again.Again.of(kept)
    batch.again.take_out(batch.facts.asides)
    worker.fuse.left = fuse
    worker.fold.advance(batch, NOW)
    worker.fuse.left = None
    return len(kept)


def waiting(observer: world.Observer) -> int:
    return int(observer.all("select count(*) from heed_ops.parked")[0][0])


def start(observer: world.Observer, worker: world.Worker) -> None:
    observer.clear()
    worker.log = world.Log()
    worker.held, worker.next = {}, {}
    worker.claim_all()


def take_in(worker: world.Worker, ledger: test_order.Facts) -> None:
    for envelope in ledger:
        worker.log.tell(envelope)
    worker.advance(at=NOW)


@pytest.mark.capability("LAW-1", "LAW-7")
@hypothesis.settings(test_order.SETTINGS, max_examples=15, derandomize=True)
@hypothesis.given(data=st.data())
def test_driven_late_is_as_if_it_had_come_in_time(
    data: st.DataObject, observer: world.Observer, worker: world.Worker
) -> None:
    ledger = data.draw(generator.histories(months=12, now=NOW)).ledger
    whole = test_order.fold(observer, worker, [ledger], oracle.Rule(), timedelta(0))
    unknown = frozenset(data.draw(st.sets(st.sampled_from(KNOWN_LATE), min_size=1)))
    cut = data.draw(st.integers(0, len(ledger)))
    start(observer, worker)
    with older(unknown):
        take_in(worker, ledger[:cut])
        assert drive(worker) == 0, "an older one judged them itself, and drives none"
    set_aside = sum(envelope["type"] in unknown for envelope in ledger[:cut])
    assert waiting(observer) == set_aside
    driven_first = data.draw(st.booleans())
    if driven_first:
        assert drive(worker) == set_aside
    take_in(worker, ledger[cut:])
    assert drive(worker) == (0 if driven_first else set_aside)
    worker.advance(at=NOW)
    assert (observer.rows(), observer.facts()) == whole
    assert (waiting(observer), observer.nudged()) == (0, {})


@pytest.mark.capability("LAW-4", "LAW-7")
def test_cut_off_at_any_statement_it_is_folded_once(observer: world.Observer, worker: world.Worker) -> None:
    ledger = [world.click(NOW, f"c{number}", id=f"e{number}") for number in range(7)]
    ledger.append(world.delivery(NOW, "c0"))
    rows, facts = test_order.fold(observer, worker, [ledger], oracle.Rule(), timedelta(0))
    for fuse in range(40):
        start(observer, worker)
        with older(frozenset({"mail.clicked"})):
            take_in(worker, ledger)
        try:
            drive(worker, fuse)
            break
        except world.Crash:
            assert waiting(observer) == 7, "what was not committed is still there"
        worker.forget()
        worker.claim_all()
        assert drive(worker) == 7
        assert (observer.rows(), observer.facts(), waiting(observer)) == (rows, facts, 0)
    else:
        pytest.fail("the transaction has more than 40 statements")
    assert fuse > 5, "it was cut off at some statements"
    assert (observer.rows(), observer.facts(), waiting(observer)) == (rows, facts, 0)


@pytest.mark.capability("LAW-7")
def test_a_topic_that_was_made_anew_loses_nothing_to_what_was_parked_before(
    observer: world.Observer, worker: world.Worker
) -> None:
    for told in ([world.click(NOW, "before")], [world.click(NOW, "after")]):
        worker.log = world.Log()
        observer.connection.execute("delete from heed_data.position")
        worker.held, worker.next = {}, {}
        worker.claim_all()
        with older(frozenset({"mail.clicked"})):
            for envelope in told:
                worker.log.append("facts", 1, world.encode(envelope), fact=envelope)
            worker.advance(at=NOW)
    assert observer.all("select topic, part, off from heed_ops.parked") == [("facts", 1, 0)] * 2
    assert drive(worker) == 2
    worker.advance(at=NOW)
    assert waiting(observer) == 0
    assert len(observer.facts()) == 2
