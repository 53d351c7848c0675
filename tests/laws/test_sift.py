"""A line that PostgreSQL refuses: found by halving, set aside as unstorable, and the others are folded."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.laws import generator, world

NOW = generator.NOW
PLENTY = 1_000_000


@pytest.fixture
def refusing(observer: world.Observer) -> Iterator[None]:
    """The table refuses ids that begin with "bad"."""
    observer.connection.execute(
        "alter table heed_data.fact add constraint picky check (id not like 'bad%') not valid"
    )
    yield
    observer.connection.execute("alter table heed_data.fact drop constraint picky")


def sifted(worker: world.Worker) -> int:
    """Sift all there is to read; answers how many statements it took."""
    batch = worker._batch({name: worker.log.span(name, 0) for name in worker.held})
    worker.fuse.left = PLENTY
    worker.fold.sift(batch.facts)
    assert {aside.reason for aside in batch.facts.asides} <= {"unstorable"}
    assert all(b'"bad' in aside.raw for aside in batch.facts.asides)
    assert not any(b'"bad' in record.value for *_, record in batch.facts.lines.values() if record.value)
    left, worker.fuse.left = worker.fuse.left, None
    assert left is not None
    return PLENTY - left


@pytest.mark.usefixtures("refusing")
def test_one_among_thousands_takes_few_round_trips(worker: world.Worker, observer: world.Observer) -> None:
    for number in range(2000):
        worker.log.tell(world.click(NOW, f"c{number}", id="bad" if number == 1234 else f"e{number}"))
    assert sifted(worker) < 100
    assert observer.facts() == [], "it was a trial"
    done = fold_all(worker)
    assert done == 1999
    assert len(observer.facts()) == 1999


@pytest.mark.usefixtures("refusing")
def test_all_of_them_may_be_refused(worker: world.Worker, observer: world.Observer) -> None:
    for number in range(30):
        worker.log.tell(world.click(NOW, f"c{number}", id=f"bad{number}"))
    sifted(worker)
    assert fold_all(worker) == 0
    assert observer.all("select count(*), min(reason) from heed_ops.parked") == [(30, "unstorable")]


def fold_all(worker: world.Worker) -> int:
    spans = {name: worker.log.span(name, worker.next[name]) for name in worker.held}
    batch = worker._batch(spans)
    worker.fold.sift(batch.facts)
    return sum(worker.fold.advance(batch, NOW).folded.values())
