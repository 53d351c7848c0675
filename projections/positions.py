"""Positions: how far a reader has come in each partition, whose the partition is, and the instant T.

Promises: a transaction that moves positions holds their rows, so only the owner of the epoch writes what
belongs to them; who lost a partition learns it before it commits (`Fenced`). T never runs back for a home.
Limits: `position` is the table of the connection's search path (heed_data for the fold, heed_ops for
intake).
Called by: the lanes of `streams`, `projections.fold`, replay, law tests.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

import psycopg

from schemas import errors, topics

TP = tuple[str, int]
Try = tuple[int, datetime]  # what a claim again is known by: its backend and its instant


def log_starts(homes: int) -> dict[TP, int]:
    """Where the log of so many homes begins: its facts, and the registry."""
    return {(topics.FACTS, part): 0 for part in range(homes)} | {(topics.REGISTRY, 0): 0}


class Fenced(errors.Doubt):
    """Another worker owns these homes now: this one was replaced while it stood still. It starts anew."""


class Gap(errors.Doubt):
    """The log jumps: records between the position and the batch were never seen."""


@dataclasses.dataclass(frozen=True, slots=True)
class Held:
    """A partition as it was claimed: the epoch that proves ownership, and where to read on."""

    epoch: int
    next_offset: int
    last_record: str | None


@dataclasses.dataclass(slots=True)
class Move:
    """What a transaction does to one partition; start equals end where nothing was read."""

    epoch: int
    start: int
    end: int
    log_end: int
    last_record: str | None = None
    read_at: datetime | None = None


# Purpose: take partitions over; the update waits for a predecessor's open transaction, which is the fence.
CLAIM: Final = """
insert into position as p (reader, topic, part, epoch, next_offset, as_of, log_end, log_end_at, backend,
    owner, claimed_at)
select %(reader)s, u.topic, u.part, 1, u.first, 'epoch', u.first, clock_timestamp(), pg_backend_pid(),
    %(owner)s, clock_timestamp()
from unnest(%(topics)s::text[], %(parts)s::int[], %(firsts)s::bigint[]) as u(topic, part, first)
order by u.topic, u.part
on conflict (reader, topic, part) do update set epoch = p.epoch + 1, owner = excluded.owner,
    backend = excluded.backend, claimed_at = excluded.claimed_at
returning topic, part, epoch, next_offset, last_record
"""

# Purpose: take our own partitions again on a new connection; nobody else may have taken them meanwhile. An
# earlier try of ours may stand there, committed by a server that died before it said so: by its own mark.
RECLAIM: Final = """
update position p set epoch = p.epoch + 1, backend = pg_backend_pid(), claimed_at = now()
from unnest(%(topics)s::text[], %(parts)s::int[], %(epochs)s::bigint[]) as u(topic, part, epoch)
where p.reader = %(reader)s and p.topic = u.topic and p.part = u.part and (p.epoch = u.epoch
    or (p.backend, p.claimed_at) in (select * from unnest(%(backends)s::int[], %(instants)s::timestamptz[])))
returning p.topic, p.part, p.epoch, p.next_offset, p.last_record
"""
MARK: Final = "select pg_backend_pid(), now()"

# Purpose: compare and set positions, all or none, and fix T once their rows are held.
MOVE: Final = """
with moves as (
    select * from unnest(%(topics)s::text[], %(parts)s::int[], %(epochs)s::bigint[], %(starts)s::bigint[],
        %(ends)s::bigint[], %(log_ends)s::bigint[], %(last_records)s::text[], %(read_ats)s::timestamptz[])
        as u(topic, part, epoch, start, next, log_end, last_record, read_at)
), held as (
    select p.as_of from position p join moves m using (topic, part)
    where p.reader = %(reader)s and p.epoch = m.epoch and p.next_offset = m.start
    order by p.topic, p.part for update of p
), now as (
    select greatest(max(as_of), date_trunc('milliseconds', clock_timestamp()), %(at)s::timestamptz) as t
    from held
)
update position p set next_offset = m.next, as_of = now.t, log_end = greatest(m.log_end, m.next),
    log_end_at = clock_timestamp(), last_record = coalesce(m.last_record, p.last_record),
    read_at = coalesce(m.read_at, p.read_at)
from moves m, now
where p.reader = %(reader)s and p.topic = m.topic and p.part = m.part and p.epoch = m.epoch
    and p.next_offset = m.start
returning now.t
"""

# Purpose: backends that hold partitions which a claim waits for.
HOLDERS: Final = """
select distinct p.backend from position p
join unnest(%(topics)s::text[], %(parts)s::int[]) as u(topic, part) using (topic, part)
join pg_stat_activity a
    on a.pid = p.backend and a.datname = current_database() and a.backend_start <= p.claimed_at
where p.reader = %(reader)s and p.backend <> pg_backend_pid()
"""


def claim(
    connection: psycopg.Connection, reader: str, owner: str, firsts: Mapping[TP, int]
) -> dict[TP, Held]:
    """Own these partitions from now on; a partition never read before starts at its given first offset.

    Waits for a predecessor's open transaction as long as the connection's lock_timeout allows
    (psycopg.errors.LockNotAvailable then; `evict` ends the predecessor's backend).
    """
    found = connection.execute(
        CLAIM, _named(reader, sorted(firsts)) | {"owner": owner, "firsts": _by(firsts)}
    )
    return _held(found)


def reclaim(
    connection: psycopg.Connection, reader: str, held: Mapping[TP, Held], tries: list[Try]
) -> dict[TP, Held]:
    """Own the same partitions on a new connection; raises `Fenced` if another worker took one of them.

    `tries` are the earlier calls for `held` that got no answer; this one is added before it is committed.
    """
    names: list[TP] = sorted(held)
    named = _named(reader, names) | {
        "epochs": [held[name].epoch for name in names],
        "backends": [backend for backend, _ in tries],
        "instants": [instant for _, instant in tries],
    }
    with connection.transaction():
        found = _held(connection.execute(RECLAIM, named))
        if len(found) != len(held):
            raise Fenced
        tries += connection.execute(MARK).fetchall()
    return found


def evict(connection: psycopg.Connection, reader: str, partitions: Sequence[TP]) -> int:
    """End the backends that still hold these partitions; returns how many."""
    ended = 0
    for (backend,) in connection.execute(HOLDERS, _named(reader, sorted(partitions))).fetchall():
        connection.execute("select pg_terminate_backend(%s)", (backend,))
        ended += 1
    return ended


def move(
    connection: psycopg.Connection, reader: str, moves: Mapping[TP, Move], at: datetime | None = None
) -> datetime:
    """Compare and set all these positions inside the caller's transaction; answers T, cut to the millisecond.

    `at` is a lower bound of T for tests and replays. Raises `Fenced` when any position is not as expected.
    """
    names = sorted(moves)
    values = [moves[name] for name in names]
    named = _named(reader, names) | {
        "epochs": [m.epoch for m in values],
        "starts": [m.start for m in values],
        "ends": [m.end for m in values],
        "log_ends": [m.log_end for m in values],
        "last_records": [m.last_record for m in values],
        "read_ats": [m.read_at for m in values],
        "at": at,
    }
    found = connection.execute(MOVE, named).fetchall()
    if len(found) != len(names):
        raise Fenced
    instant: datetime = found[0][0]
    return instant.astimezone(UTC)


def _named(reader: str, names: Sequence[TP]) -> dict[str, object]:
    return {"reader": reader, "topics": [name[0] for name in names], "parts": [name[1] for name in names]}


def _by(firsts: Mapping[TP, int]) -> list[int]:
    return [firsts[name] for name in sorted(firsts)]


def _held(cursor: psycopg.Cursor) -> dict[TP, Held]:
    return {
        (topic, part): Held(epoch, offset, last) for topic, part, epoch, offset, last in cursor.fetchall()
    }
