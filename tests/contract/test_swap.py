"""The swap on a real PostgreSQL, without Kafka: who writes meanwhile writes into one pair or the other, never
into both; who reads meanwhile is neither stopped nor shown a mix.

A fold's transaction is stopped before each of its statements in turn, and while it waits for the swap.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import psycopg
import pytest

from projections import next_pair, positions, swap
from schemas import errors
from tests import stack, swaps
from tests.laws import world

STATEMENTS = 12  # more than a transaction of the fold has


class Halted:
    """A connection that stands still before its n-th statement, until it may go on."""

    def __init__(self, real: psycopg.Connection, number: int) -> None:
        self.real, self.left = real, number
        self.reached, self.go_on = threading.Event(), threading.Event()

    def execute(self, *args: Any) -> Any:
        self._halt()
        return self.real.execute(*args)

    def cursor(self) -> Any:
        self._halt()
        return self.real.cursor()

    def transaction(self, **named: Any) -> Any:
        return self.real.transaction(**named)

    def _halt(self) -> None:
        self.left -= 1
        if self.left == -1:
            self.reached.set()
            assert self.go_on.wait(30)


@pytest.fixture
def stand(database: str) -> Iterator[swaps.Stand]:
    with swaps.standing(database) as made:
        yield made


@contextmanager
def thread(call: Callable[[], Any]) -> Iterator[Callable[[], Any]]:
    """The call in a thread; gives what waits for its outcome."""
    found: list[Any] = []

    def run() -> None:
        try:
            found.append(call())
        except BaseException as error:
            found.append(error)

    running = threading.Thread(target=run)
    running.start()

    def outcome() -> Any:
        running.join(60)
        assert not running.is_alive()
        if isinstance(found[0], BaseException):
            raise found[0]
        return found[0]

    yield outcome
    running.join(60)


def waits(stand: swaps.Stand, name: str) -> Callable[[], bool]:
    asked = "select 1 from pg_stat_activity where application_name = %s and wait_event_type = 'Lock'"
    return lambda: bool(stand.ask(asked, name))


def test_a_worker_goes_on_with_its_claim_in_the_tables_that_were_swapped_in(stand: swaps.Stand) -> None:
    stand.build()
    assert stand.ask("select reltuples from pg_class where oid = 'heed_data_next.fact'::regclass") == [(60,)]
    stand.tell(30, "later")
    stand.worker.advance()
    before = stand.ask("select 'heed_data.fact'::regclass::oid")
    done = stand.swap()
    assert (done.tries, done.pause_seconds < 5) == (1, True)
    assert stand.ask("select 'heed_data.fact'::regclass::oid") != before
    assert stand.ask("select 'heed_data_old.fact'::regclass::oid") == before
    assert stand.ask("select to_regclass('heed_data.replay')") == [(None,)]
    stand.tell(40, "after")
    stand.worker.advance()
    stand.check()
    stand.check("heed_data_old")
    assert len(stand.ask("select from heed_data.fact")) == 130
    assert len(stand.ask("select from heed_data_old.fact")) == 90


@pytest.mark.parametrize("number", range(STATEMENTS))
def test_a_fold_stopped_before_any_statement_writes_into_one_pair(stand: swaps.Stand, number: int) -> None:
    stand.build()
    stand.tell(30, "later")
    halted = Halted(stand.worker.fuse.real, number)
    stand.worker.fold.connection = cast("psycopg.Connection", halted)
    ended = threading.Event()

    def advance() -> None:
        try:
            stand.worker.advance()
        finally:
            ended.set()

    with thread(advance) as folded:
        stack.eventually(lambda: halted.reached.is_set() or ended.is_set(), "it halts or ends")
        if not halted.reached.is_set():
            folded()
            assert number > 5, "the transaction has more statements than that"
            return
        with thread(stand.swap) as swapped:
            names = [swap.NAME] if number > 1 else []  # 0: COPY, 1: the compare-and-set; the rest hold it up
            for name in names:
                stack.eventually(waits(stand, name), "the swap waits for the fold")
            if not names:
                swapped()
            halted.go_on.set()
            folded()
            swapped()
    stand.check()
    stand.check("heed_data_old")
    in_old = len(stand.ask("select from heed_data_old.fact"))
    assert in_old == (60 if number < 2 else 90)
    assert len(stand.ask("select from heed_data.fact")) == 90
    stand.worker.fold.connection = stand.worker.fuse.real
    stand.tell(10, "after")
    stand.worker.advance()
    stand.check()


def test_a_fold_that_waits_for_the_swap_goes_on_in_the_new_pair(stand: swaps.Stand) -> None:
    """Also in statements that PostgreSQL has kept a plan for."""
    for number in range(8):
        stand.tell(5, f"warm{number}-")
        stand.worker.advance()
    stand.build()
    stand.tell(30, "later")
    outcomes = []

    def shut() -> None:
        threading.Thread(target=lambda: outcomes.append(stand.worker.advance()), daemon=True).start()
        stack.eventually(waits(stand, "w0"), "the fold waits for the swap")

    stand.swap(shut)
    stack.eventually(lambda: bool(outcomes), "the fold has gone on")
    stand.check()
    stand.check("heed_data_old")
    assert (
        len(stand.ask("select from heed_data.fact")) == len(stand.ask("select from heed_data_old.fact")) + 30
    )


def test_a_claim_that_waits_for_the_swap_claims_in_the_new_pair(stand: swaps.Stand) -> None:
    stand.build()
    other = world.Worker("w1", stand.dsn, stand.log, "heed_data, heed_ops")
    claimed: list[bool] = []

    def claim() -> None:
        other.claim_all()
        claimed.append(True)

    def shut() -> None:
        threading.Thread(target=claim, daemon=True).start()
        stack.eventually(waits(stand, "w1"), "the claim waits for the swap")

    stand.swap(shut)
    stack.eventually(lambda: bool(claimed), "claimed")
    assert stand.ask("select distinct owner, epoch from heed_data.position") == [("w1", 2)]
    assert stand.ask("select distinct owner, epoch from heed_data_old.position") == [("w0", 1)]
    with pytest.raises(positions.Fenced):
        stand.worker.advance()
    with pytest.raises(positions.Fenced):
        stand.worker.reclaim()
    other.close()


def test_a_nudge_told_while_the_swap_runs_is_not_lost(stand: swaps.Stand) -> None:
    nudge = "insert into heed_data.nudge (home, subject, reason) values (0, %s, 'test')"
    stand.build()
    stand.ask(nudge + " returning 1", "contact:waiting")
    told: list[Any] = []

    def tell() -> None:
        with psycopg.connect(stand.dsn, autocommit=True, application_name="an API") as api:
            told.append(api.execute(nudge.encode(), ("contact:told-meanwhile",)))

    def shut() -> None:
        threading.Thread(target=tell, daemon=True).start()
        stack.eventually(waits(stand, "an API"), "the nudge waits for the swap")

    stand.swap(shut)
    stack.eventually(lambda: bool(told), "told")
    subjects = stand.ask("select subject from heed_data.nudge order by id")
    assert subjects == [("contact:waiting",), ("contact:told-meanwhile",)]
    numbered = stand.ask("select id from heed_data_old.nudge union all select id from heed_data.nudge")
    assert len(numbered) == 3 and len(set(numbered)) == 2, "a nudge keeps its number"


def test_errors_of_contacts_are_carried_over_and_found(stand: swaps.Stand) -> None:
    stand.ask(
        "insert into heed_data.nudge (home, subject, reason, error, attempts, retry_at) values "
        "(0, 'contact:c1', 'error', 'as live says', 7, now() + interval '1 h') returning 1"
    )
    stand.built.begin()
    stand.catch_up(swap.read_up_to(stand.sql))
    stand.built.enter(next_pair.Phase.INDEXES)
    stand.built.index()
    stand.sql.execute("alter function heed_data_next.engagement_at rename to engagement_then")
    broken = """
    create function heed_data_next.engagement_at(contacts text[], at timestamptz, upto timestamptz)
    returns table (contact_id text, date_first_click timestamptz, date_last_click timestamptz, frequency int,
        volume int, volume_last_30 int, period_months int, valid_until timestamptz)
    language plpgsql stable as $$ begin
        if contacts && array['c1', 'c2'] then
            raise exception 'this contact is broken';
        end if;
        return query select * from heed_data_next.engagement_then(contacts, at, upto);
    end $$"""
    stand.sql.execute(broken.encode())
    list(stand.built.bring(datetime.now(UTC)))
    assert set(stand.built.failed()) == {"c1", "c2"}
    # Not before the swap is over, however slow the machine: the second try.
    stand.sql.execute("update heed_data_next.nudge set retry_at = retry_at + interval '1 h'")
    stand.built.enter(next_pair.Phase.FOLLOW)
    stand.swap()
    found = stand.ask("select subject, error, attempts from heed_data.nudge order by subject")
    told = "RaiseException: this contact is broken"
    assert found == [("contact:c1", "as live says", 7), ("contact:c2", told, 1)]


def test_a_pair_of_another_revision_is_refused(stand: swaps.Stand) -> None:
    stand.build()
    stand.sql.execute("update heed_data_next.generation set revision = '0000'")
    with pytest.raises(errors.Usage, match="of revision 0000, the live tables of 0001"):
        stand.swap()
    stand.sql.execute("update heed_data_next.generation set revision = '0001'")
    stand.swap()
    stand.sql.execute("update heed_data_old.generation set revision = '0000'")
    with pytest.raises(errors.Usage, match="of revision 0000"):
        swaps.back(stand)


def test_who_holds_the_positions_holds_up_the_swap_and_nobody_else(
    stand: swaps.Stand, monkeypatch: Any
) -> None:
    """The swap gives way after 2 s, so that a fold which waits behind it goes on, and tries again."""
    stand.build()
    with psycopg.connect(stand.dsn) as holder:
        holder.execute("update heed_data.position set log_end = log_end where part = 99")
        with thread(stand.swap) as swapped:
            stack.eventually(waits(stand, swap.NAME), "the swap waits")
            stand.tell(5, "behind")
            stand.worker.advance()
            holder.rollback()
            assert swapped().tries > 1
    stand.check()


DUE = "select contact_id from heed_data.engagement where valid_until <= now() order by 1"


def test_what_is_due_is_told_of_once(stand: swaps.Stand) -> None:
    """A row that live has brought past its time is brought here too; one that live has not is due here."""
    year = swaps.NOW.replace(year=swaps.NOW.year - 1)
    stand.worker.timers = False
    stand.worker.forget()
    stand.worker.claim_all()
    for name in ("told", "untold"):
        stand.log.tell(world.click(year + timedelta(minutes=5), name))
    stand.worker.advance(at=swaps.NOW)
    stand.built.begin()
    stand.catch_up(swap.read_up_to(stand.sql))
    stand.built.enter(next_pair.Phase.INDEXES)
    stand.built.index()
    list(stand.built.bring(swaps.NOW + timedelta(minutes=6)))  # both are past their time there, and gone
    stand.built.enter(next_pair.Phase.FOLLOW)
    stand.sql.execute("update heed_data.position set as_of = %s", (swaps.NOW + timedelta(minutes=7),))
    stand.sql.execute("delete from heed_data.engagement where contact_id = 'told'")  # as its owner would
    stand.sql.execute("insert into heed_data_next.engagement select * from heed_data.engagement "
                      "where contact_id = 'c1' on conflict do nothing")  # fmt: skip
    stand.swap()
    kept = stand.ask("select contact_id from heed_data.engagement where contact_id like '%%told'")
    assert kept == [("untold",)]
