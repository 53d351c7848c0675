"""Working off who waits to be computed anew, by hand or from cron: `run-queue` and `recompute` (CEE-9).

Promises: nothing here writes a row: contacts are nudged, and the owners of their homes bring them. A contact
leaves the queue once it was brought, and only if it was not queued again meanwhile; one that fails keeps its
place, its reason and its error, and stops no other. Killed at any instant, nobody is lost: who was brought
and not taken out is brought again. A run ends within a second of its limit.
Limits: a thousand contacts under way at one time; needs workers: a home without one keeps its contacts.
Called by: the API, schedules, the command line.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any, Final

import psycopg

from projections import database, recalculation
from schemas import errors, identity, topics
from streams import nudging

MOST_SECONDS: Final = 600.0
STEP: Final = 1000
SHOWN: Final = 10_000
REASON: Final = "recalculate"

Place = tuple[int, str]

# Purpose: the next who wait, in homes whose owner lives; at the first pass those in error are tried too.
NEXT: Final = """
select q.home, q.contact_id, q.reason, q.since from recalculation q
where (q.home, q.contact_id) > (%(home)s, %(contact)s) and (q.error is null or %(first)s)
    and q.home = any(array(select part from position where reader = 'fold' and topic = %(topic)s
        and as_of > clock_timestamp() - interval '10 seconds'))
order by q.home, q.contact_id limit %(most)s
"""
DONE: Final = """
delete from recalculation q
using unnest(%s::smallint[], %s::text[], %s::timestamptz[]) as u(home, contact_id, since)
where (q.home, q.contact_id, q.since) = (u.home, u.contact_id, u.since)
"""
KEEP: Final = """
update recalculation q set error = u.error
from unnest(%s::smallint[], %s::text[], %s::text[]) as u(home, contact_id, error)
where (q.home, q.contact_id) = (u.home, u.contact_id)
"""
STATE: Final = """
select (select count(*) from recalculation), (select count(*) from recalculation where error is not null),
    exists (select from recalculation_cause where not finished),
    coalesce((select queued from recalculation_cause where reason = 'recompute'), 0)
"""


@dataclasses.dataclass(frozen=True, slots=True)
class State:
    """How far everybody is: who waits, how many of them in error, whether more are still being queued; and
    how many the last `recompute` has queued."""

    waiting: int
    failed: int
    filling: bool
    queued: int


@dataclasses.dataclass(slots=True)
class Ran:
    """What a run did: contacts brought, failed, still waiting; outcomes of the first 10,000."""

    done: int = 0
    failed: int = 0
    remaining: int = 0
    outcomes: list[dict[str, Any]] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True, slots=True)
class _Waiting:
    home: int
    contact: str
    reason: str
    since: datetime


def state(connection: psycopg.Connection) -> State:
    """Who waits now."""
    row = connection.execute(STATE).fetchone()
    assert row is not None
    return State(*row)


def ask(connection: psycopg.Connection) -> None:
    """Have everyone who has a fact computed anew; the registry's owner puts them into the queue."""
    with connection.transaction():
        [(now,)] = connection.execute("select date_trunc('milliseconds', clock_timestamp())").fetchall()
        recalculation.everyone(connection, recalculation.ASKED, now)


def run(
    connection: psycopg.Connection,
    seconds: float = MOST_SECONDS,
    *,
    clock: Callable[[], float] = time.monotonic,
    stopping: Callable[[], bool] = lambda: False,
) -> Ran:
    """Work off the queue until it is empty, for at most so many seconds; psycopg.Error when the server goes.

    Blocks. The connection's search path is the pair's.
    """
    until = clock() + seconds
    ran = Ran()
    for step in _steps(connection, until, clock, stopping):
        _bring(connection, step, until, clock, stopping, ran)
    ran.remaining = state(connection).waiting
    return ran


def bring_one(connection: psycopg.Connection, contact: str, home: int, seconds: float = 30.0) -> str | None:
    """Have one contact's owner compute it anew; answers the error when it cannot be. Raises `errors.Away`."""
    nudged = nudging.ask(connection, [(home, contact)], REASON)
    waited = nudging.wait(connection, nudged, time.monotonic() + seconds)
    if waited.left:
        raise errors.Away(f"No worker has taken it within {seconds:.0f} s: is one running for home {home}?")
    return next(iter(waited.failed.values()), None)


def _steps(
    connection: psycopg.Connection, until: float, clock: Callable[[], float], stopping: Callable[[], bool]
) -> Iterator[Sequence[_Waiting]]:
    """Steps of the queue, from its start to its end; again from the start while others come into it."""
    place, first = recalculation.START, True
    while clock() < until and not stopping():
        named = {"home": place[0], "contact": place[1], "first": first, "most": STEP, "topic": topics.FACTS}
        found = [_Waiting(*row) for row in connection.execute(NEXT, named).fetchall()]
        if found:
            place = (found[-1].home, found[-1].contact)
            yield found
            continue
        now = state(connection)
        if not now.filling and now.waiting == now.failed:
            return
        place, first = recalculation.START, False
        time.sleep(nudging.POLL)


def _bring(
    connection: psycopg.Connection,
    step: Sequence[_Waiting],
    until: float,
    clock: Callable[[], float],
    stopping: Callable[[], bool],
    ran: Ran,
) -> None:
    nudged = nudging.ask(connection, [(one.home, one.contact) for one in step], REASON)
    waited = nudging.wait(connection, nudged, until, clock=clock, stopping=stopping)
    failed = waited.failed
    settled = [one for one in step if identity.CONTACT + one.contact not in waited.left]
    wrong = [(one, failed[identity.CONTACT + one.contact]) for one in settled
              if identity.CONTACT + one.contact in failed]  # fmt: skip
    good = [one for one in settled if identity.CONTACT + one.contact not in failed]
    with connection.transaction():
        connection.execute(DONE, _columns([(one.home, one.contact, one.since) for one in good], 3))
        connection.execute(KEEP, _columns([(one.home, one.contact, error) for one, error in wrong], 3))
    ran.done += len(good)
    ran.failed += len(wrong)
    room = SHOWN - len(ran.outcomes)
    told = [_outcome(one, "done") for one in good] + [_outcome(one, "failed", error) for one, error in wrong]
    ran.outcomes += told[:room]


def _outcome(one: _Waiting, status: str, detail: str | None = None) -> dict[str, Any]:
    return {
        "contact_id": one.contact,
        "status": status,
        "reason": one.reason,
        "since": one.since,
        "detail": detail,
    }


def _columns(rows: Sequence[tuple[Any, ...]], width: int) -> tuple[list[Any], ...]:
    return tuple([row[i] for row in rows] for i in range(width))


def connect(dsn: str, name: str) -> psycopg.Connection:
    """A connection for the functions here; raises `errors.Away`."""
    return database.connect(dsn, database.LIVE_PATH, name)
