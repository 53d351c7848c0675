"""The return to old tables on a real PostgreSQL, without Kafka: they come back with all that live knows.

Above all with the time of every row: a row that a pair does not hold when its time comes is told of by no
command.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from projections import positions, recalculation, registry, swap
from streams import refill
from tests import swaps
from tests.laws import generator, test_recalculation, world


@pytest.fixture
def stand(database: str) -> Iterator[swaps.Stand]:
    with swaps.standing(database) as made:
        yield made


def test_back_holds_what_live_holds_and_there_again(stand: swaps.Stand) -> None:
    """A worker goes on in it with its claim, as in any pair that was swapped in."""
    stand.build()
    stand.swap()
    for number in range(3):

        def tell(name: str = f"beside{number}-") -> None:
            stand.tell(5, name)
            stand.worker.advance()

        stand.tell(30, f"after{number}-")
        stand.worker.advance()
        swaps.back(stand, tell)
        stand.check()
        stand.check("heed_data_old")
        stand.tell(5, f"then{number}-")
        stand.worker.advance()
        stand.check()


def test_a_return_that_was_stopped_is_gone_on_with(stand: swaps.Stand) -> None:
    stand.build()
    stand.swap()
    stand.tell(30, "after")
    stand.worker.advance()

    def stopped() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        swaps.back(stand, stopped)
    assert len(stand.ask("select from heed_data_old.fact")) == 90, "it has come that far"
    stand.tell(30, "later")
    stand.worker.advance()
    stand.check()
    swaps.back(stand)
    stand.check()
    assert len(stand.ask("select from heed_data.fact")) == 120


def test_a_return_after_the_log_was_written_anew_reads_it_from_its_start(stand: swaps.Stand) -> None:
    """What the old tables hold already are copies to them."""
    stand.build()
    stand.swap()
    stand.tell(30, "after")
    stand.worker.advance()
    refill.begin_anew(stand.sql)
    stand.worker.forget()
    stand.worker.claim_all()
    stand.worker.advance()
    swaps.back(stand)
    assert len(stand.ask("select from heed_data.fact")) == 90
    stand.check()


def test_nudges_made_while_old_tables_catch_up_hide_none_of_live(stand: swaps.Stand) -> None:
    """Both pairs number on from the same number, since the swap."""
    nudge = (
        "insert into {}.nudge (home, subject, reason, retry_at) values (0, %s, 'test', now() + '1 h') "
        "returning id"
    )
    stand.build()
    stand.swap()
    swaps.back(stand)
    stand.ask(nudge.format("heed_data"), "contact:told")

    def beside() -> None:
        stand.ask(nudge.format("heed_data_old"), "contact:own")

    swaps.back(stand, beside)
    assert stand.ask("select subject from heed_data.nudge order by id") == [
        ("contact:told",),
        ("contact:own",),
    ]


def test_who_asked_to_have_everyone_computed_anew_is_heard_by_a_pair_that_comes_back(
    stand: swaps.Stand,
) -> None:
    """Though it was asked the same before, and was done with it."""
    worker = stand.worker.fuse.real
    causes = "select reason, since, finished from heed_data.recalculation_cause"
    first, then = swaps.NOW - timedelta(hours=2), swaps.NOW - timedelta(hours=1)
    recalculation.everyone(worker, recalculation.ASKED, first)
    stand.sql.execute("update heed_data.recalculation_cause set finished = true, after = 'contact:z'")
    stand.build()
    stand.swap()
    assert stand.ask(causes) == [("recompute", first, True)]
    recalculation.everyone(worker, recalculation.ASKED, then)
    swaps.back(stand)
    assert stand.ask(causes) == [("recompute", then, False)]
    assert stand.ask("select after from heed_data.recalculation_cause") == [("",)]
    stand.sql.execute("update heed_data.recalculation_cause set finished = true")
    swaps.back(stand)
    assert stand.ask(causes) == [("recompute", then, True)], "everyone was made anew on the way back"


LATER = swaps.NOW + timedelta(days=30)


def commands(stand: swaps.Stand, contact: str) -> int:
    """In how many commands a contact is named."""
    found = stand.ask("select body from heed_ops.outbox")
    return sum(f'"{contact}"'.encode() in body for (body,) in found)


def expire(stand: swaps.Stand) -> None:
    """A worker looks at what is due, later, and once more."""
    for days in range(2):
        stand.worker.advance(at=LATER + timedelta(days=days))


def test_what_runs_out_after_a_return_is_told_of_once(stand: swaps.Stand) -> None:
    """By a fact that the old tables had not folded when they were left."""
    stand.build()
    stand.swap()
    stand.log.tell(world.click(swaps.NOW - timedelta(days=360), "soon"))
    stand.worker.advance()
    swaps.back(stand)
    expire(stand)
    assert commands(stand, "soon") == 1
    assert stand.ask("select from heed_data.engagement where contact_id = 'soon'") == []


def tell_of_one_that_runs_out_soon(stand: swaps.Stand, *contacts: str) -> None:
    """And fold it; in a second and a half its time has come."""
    for contact in contacts:
        moment = datetime.now(UTC) - timedelta(days=30) + timedelta(seconds=1.5)
        stand.log.tell(world.click(moment, contact))
        stand.log.tell(world.delivery(moment, contact))
    stand.worker.timers = False
    stand.worker.advance()
    soon = "select from heed_data.engagement where valid_until between now() and now() + interval '5 s'"
    assert len(stand.ask(soon)) == len(contacts), "their time has not come"


def test_what_runs_out_while_old_tables_catch_up_is_told_of_once(stand: swaps.Stand) -> None:
    """Live had not looked at the one yet when its time came, and had told of the other."""
    stand.build()
    stand.swap()
    tell_of_one_that_runs_out_soon(stand, "told", "untold")
    time.sleep(1.6)
    stand.log.tell(world.click(swaps.NOW, "told"))  # a fact of the contact brings it
    stand.worker.advance()
    assert (commands(stand, "told"), commands(stand, "untold")) == (1, 0)
    swaps.back(stand)
    stand.worker.timers = True
    stand.worker.advance()
    assert (commands(stand, "told"), commands(stand, "untold")) == (1, 1)


@pytest.mark.parametrize("returns", [False, True], ids=["replay", "return"])
def test_what_runs_out_while_nobody_folds_is_told_of_once(stand: swaps.Stand, returns: bool) -> None:
    """As when all workers are stopped: what comes in was brought to an instant that live never came to."""
    if returns:
        stand.build()
        stand.swap()
    tell_of_one_that_runs_out_soon(stand, "untold")
    time.sleep(1.6)
    if returns:
        swaps.back(stand)
    else:
        stand.build()
        stand.swap()
    stand.worker.timers = True
    stand.worker.advance()
    assert commands(stand, "untold") == 1


@pytest.mark.parametrize("returns", [False, True], ids=["replay", "return"])
def test_what_runs_out_by_a_rule_that_changed_since_is_told_of_once(
    stand: swaps.Stand, returns: bool
) -> None:
    """Rows that were made by the earlier rule would not know the time."""
    stand.log.tell(world.click(swaps.NOW - timedelta(days=170), "soon"))
    stand.worker.advance()
    stand.build()
    if returns:
        stand.swap()
    change(stand, 6)
    stand.worker.advance()
    if returns:
        swaps.back(stand)
    else:
        stand.catch_up(swap.read_up_to(stand.sql))
        list(stand.built.settle())
        stand.swap()
    assert stand.ask("select distinct period_months from heed_data.engagement") == [(6,)]
    assert stand.ask("select finished from heed_data.recalculation_cause") == [(True,)]
    expire(stand)
    assert commands(stand, "soon") == 1


@pytest.mark.parametrize("returns", [False, True], ids=["replay", "return"])
def test_what_runs_out_of_a_contact_that_got_more_is_told_of_once(stand: swaps.Stand, returns: bool) -> None:
    """By a merge that came in while the pair followed: nobody's nudge is left for after the swap."""
    stand.log.tell(world.click(swaps.NOW - timedelta(days=360), "gone"))
    stand.worker.advance()
    stand.build()
    if returns:
        stand.swap()
    merged = generator.Told("contact.merged", "gone", swaps.NOW, "l", to="c0")
    decide(stand, world.encode(generator.envelope(merged, swaps.NOW)))
    for _ in range(2):  # one looks at the nudge
        stand.worker.advance()
    if returns:
        swaps.back(stand)
    else:
        stand.swap()
    assert stand.ask("select from heed_data.nudge") == []
    expire(stand)
    assert (commands(stand, "c0"), commands(stand, "gone")) == (1, 0)


def change(stand: swaps.Stand, months: int) -> None:
    """Another period is decided, and everyone is put into the queue."""
    decide(stand, test_recalculation.months(months))


def decide(stand: swaps.Stand, told: bytes) -> None:
    """The registry's owner folds a record, the first of its topic."""
    stand.log.entries[registry.TP], stand.log.ends[registry.TP] = [], 0
    stand.log.append(*registry.TP, told)
    connection = stand.worker.fuse.real
    held = positions.claim(connection, registry.READER, "w0", {registry.TP: 0})[registry.TP]
    batch = registry.decode(stand.log.span(registry.TP, 0).records)
    batch.moves = {registry.TP: positions.Move(held.epoch, 0, 1, 1)}
    registry.advance(connection, batch, world.HOMES)
    while recalculation.is_filling(connection):
        batch = registry.Batch({registry.TP: positions.Move(held.epoch, 1, 1, 1)})
        registry.advance(connection, batch, world.HOMES)
