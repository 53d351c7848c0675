"""Positions on a real PostgreSQL: what a claim, a claim again, an eviction and a move promise each other.

Two connections meet at barriers: one holds a transaction open while the other waits in a thread for it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from projections import database, positions
from schemas import errors, topics

READER = "fold"
F0, F1, C0 = (topics.FACTS, 0), (topics.FACTS, 1), (topics.COMMANDS, 0)
FIRSTS = {F0: 0, F1: 5, C0: 0}
FAR = datetime(2096, 2, 29, 12, tzinfo=UTC)


@pytest.fixture
def one(module_database: str) -> Iterator[psycopg.Connection]:
    with database.connect(module_database, database.LIVE_PATH, "one") as connection:
        connection.execute("delete from position")
        yield connection


@pytest.fixture
def two(module_database: str, one: psycopg.Connection) -> Iterator[psycopg.Connection]:
    with database.connect(module_database, database.LIVE_PATH, "two") as connection:
        yield connection


class Waiting:
    """A call in a thread, and its outcome."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call
        self.result: Any = None
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.result = self._call()
        except BaseException as error:
            self.error = error

    @property
    def waits(self) -> bool:
        return self._thread.is_alive()

    def outcome(self, timeout: float = 10) -> Any:
        self._thread.join(timeout)
        assert not self.waits
        if self.error is not None:
            raise self.error
        return self.result


def until_it_waits(connection: psycopg.Connection, name: str) -> None:
    """Until the backend of this name stands before a lock."""
    waiting = "select count(*) from pg_stat_activity where application_name = %s and wait_event_type = 'Lock'"
    until = time.monotonic() + 10
    while connection.execute(waiting, (name,)).fetchall() != [(1,)]:
        assert time.monotonic() < until, f"{name} never waited"
        time.sleep(0.01)


def move(held: positions.Held, by: int = 0) -> positions.Move:
    start = held.next_offset
    return positions.Move(held.epoch, start, start + by, start + by, f"record {start + by}" if by else None)


def stored(connection: psycopg.Connection) -> dict[positions.TP, tuple[int, int]]:
    found = connection.execute("select topic, part, epoch, next_offset from position").fetchall()
    return {(topic, part): (epoch, offset) for topic, part, epoch, offset in found}


def test_a_first_claim_starts_where_it_is_told(one: psycopg.Connection) -> None:
    held = positions.claim(one, READER, "worker-1", FIRSTS)
    assert held == {name: positions.Held(1, first, None) for name, first in FIRSTS.items()}


def test_a_later_claim_reads_on_with_the_next_epoch(one: psycopg.Connection, two: psycopg.Connection) -> None:
    held = positions.claim(one, READER, "worker-1", FIRSTS)
    with one.transaction():
        positions.move(one, READER, {F0: move(held[F0], 3), F1: move(held[F1])})
    assert positions.claim(two, READER, "worker-2", dict.fromkeys(FIRSTS, 99)) == {
        F0: positions.Held(2, 3, "record 3"),
        F1: positions.Held(2, 5, None),
        C0: positions.Held(2, 0, None),
    }


def test_readers_do_not_meet(one: psycopg.Connection) -> None:
    positions.claim(one, READER, "worker-1", FIRSTS)
    assert positions.claim(one, "another", "worker-1", {F0: 7}) == {F0: positions.Held(1, 7, None)}
    assert positions.claim(one, READER, "worker-1", {F0: 0})[F0].epoch == 2


@pytest.mark.capability("LAW-4")
def test_who_was_replaced_moves_nothing(one: psycopg.Connection, two: psycopg.Connection) -> None:
    held = positions.claim(one, READER, "worker-1", FIRSTS)
    positions.claim(two, READER, "worker-2", {F1: 0})
    before = stored(two)
    with pytest.raises(positions.Fenced) as fenced, one.transaction():
        positions.move(one, READER, {F0: move(held[F0], 3), F1: move(held[F1], 3)})
    assert isinstance(fenced.value, errors.Doubt)
    assert stored(two) == before, "all or none"


def test_a_move_from_elsewhere_than_the_position_is_refused(one: psycopg.Connection) -> None:
    held = positions.claim(one, READER, "worker-1", FIRSTS)
    for start in (1, 4, 6):
        with pytest.raises(positions.Fenced), one.transaction():
            positions.move(one, READER, {F1: positions.Move(held[F1].epoch, start, 9, 9)})
    assert stored(one)[F1] == (1, 5)


@pytest.mark.capability("LAW-4")
def test_a_claim_waits_for_the_open_transaction_and_reads_its_end(
    one: psycopg.Connection, two: psycopg.Connection
) -> None:
    held = positions.claim(one, READER, "worker-1", FIRSTS)
    with one.transaction():
        positions.move(one, READER, {F0: move(held[F0], 3)})
        claiming = Waiting(lambda: positions.claim(two, READER, "worker-2", FIRSTS))
        until_it_waits(one, "two")
    assert claiming.outcome()[F0] == positions.Held(2, 3, "record 3")


def test_a_claim_waits_for_a_transaction_that_is_rolled_back(
    one: psycopg.Connection, two: psycopg.Connection
) -> None:
    held = positions.claim(one, READER, "worker-1", FIRSTS)
    with one.transaction(force_rollback=True):
        positions.move(one, READER, {F0: move(held[F0], 3)})
        claiming = Waiting(lambda: positions.claim(two, READER, "worker-2", FIRSTS))
        until_it_waits(one, "two")
    assert claiming.outcome()[F0] == positions.Held(2, 0, None)


@pytest.mark.capability("LAW-4")
def test_a_move_that_waited_behind_a_claim_is_fenced(
    one: psycopg.Connection, two: psycopg.Connection
) -> None:
    held = positions.claim(one, READER, "worker-1", FIRSTS)

    def advance() -> None:
        with one.transaction():
            positions.move(one, READER, {F0: move(held[F0], 3)})

    with two.transaction():
        positions.claim(two, READER, "worker-2", FIRSTS)
        moving = Waiting(advance)
        until_it_waits(two, "one")
    with pytest.raises(positions.Fenced):
        moving.outcome()
    assert stored(two)[F0] == (2, 0)


def test_two_claims_at_once_end_with_one_owner(one: psycopg.Connection, two: psycopg.Connection) -> None:
    with one.transaction():
        first = positions.claim(one, READER, "worker-1", FIRSTS)
        claiming = Waiting(lambda: positions.claim(two, READER, "worker-2", FIRSTS))
        until_it_waits(one, "two")
    assert {held.epoch for held in claiming.outcome().values()} == {2}
    with pytest.raises(positions.Fenced), one.transaction():
        positions.move(one, READER, {F0: move(first[F0])})


@pytest.mark.capability("LAW-4")
def test_a_predecessor_that_stands_still_is_evicted(one: psycopg.Connection, two: psycopg.Connection) -> None:
    held = positions.claim(one, READER, "worker-1", FIRSTS)
    two.execute("set lock_timeout = '300ms'")

    def stand_still() -> None:
        with one.transaction():
            positions.move(one, READER, {F0: move(held[F0], 3)})
            with pytest.raises(psycopg.errors.LockNotAvailable):
                positions.claim(two, READER, "worker-2", FIRSTS)
            assert positions.evict(two, READER, [F0, F1]) == 1
            assert positions.claim(two, READER, "worker-2", FIRSTS)[F0] == positions.Held(2, 0, None)
            one.execute("select 1")

    with pytest.raises(psycopg.OperationalError):
        stand_still()
    assert one.closed
    assert positions.evict(two, READER, [F0, F1]) == 0, "oneself is no predecessor"


def test_only_holders_of_what_is_claimed_are_evicted(
    one: psycopg.Connection, two: psycopg.Connection
) -> None:
    positions.claim(one, READER, "worker-1", {F0: 0})
    assert positions.evict(two, READER, [F1]) == 0
    assert positions.evict(two, "another", [F0]) == 0
    assert one.execute("select 1").fetchall() == [(1,)]


def test_after_a_lost_connection_the_same_owner_goes_on(
    one: psycopg.Connection, two: psycopg.Connection
) -> None:
    held = positions.claim(one, READER, "worker-1", FIRSTS)
    with one.transaction():
        positions.move(one, READER, {F0: move(held[F0], 3)})
    again = positions.reclaim(two, READER, held, [])
    assert again[F0] == positions.Held(2, 3, "record 3")
    with pytest.raises(positions.Fenced), one.transaction():
        positions.move(one, READER, {F0: positions.Move(1, 3, 4, 4)})
    with two.transaction():
        positions.move(two, READER, {name: move(one_held) for name, one_held in again.items()})


def test_who_was_replaced_meanwhile_does_not_go_on(one: psycopg.Connection, two: psycopg.Connection) -> None:
    held = positions.claim(one, READER, "worker-1", FIRSTS)
    taken = positions.claim(two, READER, "worker-2", {F1: 0})
    with pytest.raises(positions.Fenced):
        positions.reclaim(one, READER, held, [])
    with two.transaction():
        positions.move(two, READER, {F1: move(taken[F1])})


@pytest.mark.capability("LAW-4")
def test_an_answer_that_was_not_heard_is_no_other_worker(
    one: psycopg.Connection, two: psycopg.Connection
) -> None:
    """The server died between its COMMIT and its answer, twice: what stands there is our own."""
    held = positions.claim(one, READER, "worker-1", FIRSTS)
    tries: list[positions.Try] = []
    positions.reclaim(two, READER, held, tries)
    positions.reclaim(one, READER, held, tries)
    assert positions.reclaim(two, READER, held, tries)[F1] == positions.Held(4, 5, None)


def test_a_try_that_was_not_committed_changes_nothing(
    one: psycopg.Connection, two: psycopg.Connection
) -> None:
    held = positions.claim(one, READER, "worker-1", FIRSTS)
    tries: list[positions.Try] = []
    with one.transaction(force_rollback=True):
        positions.reclaim(one, READER, held, tries)
    assert positions.reclaim(two, READER, held, tries)[F1] == positions.Held(2, 5, None)


@pytest.mark.capability("LAW-4")
@pytest.mark.parametrize("before", [True, False])
def test_another_process_of_the_same_name_is_another_worker(
    one: psycopg.Connection, two: psycopg.Connection, before: bool
) -> None:
    """Its claim stands before or after our try: it is not ours, though backend and owner may be the same."""
    held = positions.claim(one, READER, "worker-1", FIRSTS)
    tries: list[positions.Try] = []
    if before:
        positions.claim(two, READER, "worker-1", {F1: 0})
        with pytest.raises(positions.Fenced):
            positions.reclaim(one, READER, held, tries)
    else:
        positions.reclaim(two, READER, held, tries)
        positions.claim(two, READER, "worker-1", {F1: 0})
    standing = stored(two)
    with pytest.raises(positions.Fenced):
        positions.reclaim(one, READER, held, tries)
    assert stored(two) == standing, "all or none"


def test_the_instant_never_runs_back(one: psycopg.Connection) -> None:
    held = positions.claim(one, READER, "worker-1", FIRSTS)

    def at(moment: datetime | None, *names: positions.TP) -> datetime:
        with one.transaction():
            return positions.move(one, READER, {name: move(held[name]) for name in names}, moment)

    before = datetime.now(UTC)
    found = at(None, F0)
    assert before - timedelta(milliseconds=1) <= found <= datetime.now(UTC)
    assert found.microsecond % 1000 == 0
    assert found.tzinfo is UTC
    assert at(FAR, F0) == FAR
    assert at(FAR - timedelta(days=1), F0) == FAR
    assert at(None, F1) < FAR, "one home's instant is not another's"
    assert at(None, F0, F1) == FAR
    assert at(None, F1) == FAR


def test_a_later_owner_keeps_the_instant(one: psycopg.Connection, two: psycopg.Connection) -> None:
    held = positions.claim(one, READER, "worker-1", FIRSTS)
    with one.transaction():
        positions.move(one, READER, {F0: move(held[F0])}, FAR)
    taken = positions.claim(two, READER, "worker-2", {F0: 0})
    with two.transaction():
        assert positions.move(two, READER, {F0: move(taken[F0])}) == FAR


def test_a_move_keeps_what_it_does_not_say(one: psycopg.Connection) -> None:
    held = positions.claim(one, READER, "worker-1", {F0: 0})
    read_at = datetime(2026, 1, 1, tzinfo=UTC)
    with one.transaction():
        positions.move(one, READER, {F0: positions.Move(held[F0].epoch, 0, 4, 9, "record 3", read_at)})
    with one.transaction():
        positions.move(one, READER, {F0: positions.Move(held[F0].epoch, 4, 6, 5)})
    found = one.execute("select next_offset, log_end, last_record, read_at from position").fetchall()
    assert found == [(6, 6, "record 3", read_at)]
