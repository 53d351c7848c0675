"""What a reader could not fold, kept with its reason and its bytes (LAW-7): set aside, found, let go.

Promises: a record is parked once, by its place and its bytes, in the transaction that moves the position: a
topic that was made anew has other records at the same places.
Limits: text that PostgreSQL cannot keep loses what it cannot keep; the bytes are kept as they came, and given
out only as far as admission would look at them. `judged_by` names the table of event types that judged last.
Called by: intake, `projections.fold`, `projections.parked_again`, `streams.parked`, `streams.parked_loop`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any, Final

import psycopg

from projections import database, records
from schemas import admission, errors, events

AT_ONCE: Final = 500  # records in one step, whatever is done with them
AT_ONCE_BYTES: Final = 8 << 20
LONGEST: Final = admission.MAX_BYTES + 1  # bytes of a door's record that admission needs to see

PARK: Final = """
insert into parked (reason, detail, type, source, event_id, subject, door, topic, part, off, event_time,
    bytes, batch, judged_by)
values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
on conflict (topic, part, off, hash) do nothing
"""
NEWEST: Final = "select coalesce(max(id), 0) from parked"
FIND: Final = """
select id from parked where id > %(after)s and id <= %(upto)s and {where} order by id limit %(most)s
"""
# Purpose: these records, held against whoever drives or discards them too, and the instant of judging.
LOCK: Final = """
select date_trunc('milliseconds', clock_timestamp()), id, reason, detail, door, topic, part, off, batch,
    event_time, case when batch or door is null then ''::bytea else substring(bytes for %(longest)s) end
from parked where id = any(%(ids)s) order by id for update skip locked
"""
STATE: Final = "select id, reason, detail, asked from parked where id = any(%s)"
HASHES: Final = "select id, encode(hash, 'hex') from parked where id = any(%s)"
# Purpose: these go; one that somebody holds is left to them, since a fold must not wait for a client.
LET_GO: Final = """
delete from parked where id in (select id from parked where id = any(%s) for update skip locked) returning id
"""
ASK: Final = "update parked set asked = true where id = any(%s) and not asked"
# Purpose: judged again and still not to be folded; one that was waiting for its time waits anew from now on.
STILL: Final = """
update parked set reason = %(reason)s, detail = %(detail)s, type = coalesce(%(type)s, type),
    source = coalesce(%(source)s, source), event_id = coalesce(%(event_id)s, event_id),
    event_time = coalesce(%(event_time)s, event_time), judged_by = %(judged_by)s, asked = false,
    parked_at = case when reason = 'future' and %(reason)s <> 'future'
        then date_trunc('milliseconds', clock_timestamp()) else parked_at end
where id = (select id from parked where id = %(id)s and (asked or (reason, detail, judged_by)
    is distinct from (%(reason)s::text, %(detail)s::text, %(judged_by)s::text)) for update skip locked)
"""
# Purpose: what waited for its time at these doors and is due, the longest due first; and when the next is.
DUE: Final = """
select p.id, extract(epoch from statement_timestamp() - p.event_time)::float8
from unnest(%(topics)s::text[], %(parts)s::int[]) o(topic, part)
cross join lateral (
    select id, event_time from parked
    where topic = o.topic and part = o.part and reason = 'future' order by event_time, id limit %(most)s) p
order by p.event_time, p.id limit %(most)s
"""
# Purpose: records of these partitions that were kept long enough; what waits for its time, or for an owner
# that was asked, stays, and so does what somebody holds.
EXPIRED: Final = """
delete from parked where id in (
    select id from parked where id = any(array(
        select p.id from unnest(%(topics)s::text[], %(parts)s::int[]) o(topic, part)
        cross join lateral (
            select id from parked
            where topic = o.topic and part = o.part and reason <> 'future' and not asked
                and parked_at < statement_timestamp() - make_interval(days => %(days)s)
            order by parked_at limit %(most)s) p
        limit %(most)s)) for update skip locked)
returning reason
"""

Places = Collection[tuple[str, int]]


@dataclasses.dataclass(frozen=True, slots=True)
class Filter:
    """Which parked records are meant: all of these, where given; `before` and `since` are of `parked_at`."""

    reason: errors.Reason | None = None
    type: str | None = None
    door: str | None = None
    topic: str | None = None
    since: datetime | None = None
    before: datetime | None = None

    @property
    def empty(self) -> bool:
        return all(getattr(self, one.name) is None for one in dataclasses.fields(self))

    def where(self) -> tuple[str, dict[str, Any]]:
        """As a condition of SQL, with its values; conditions that are not asked for are left out."""
        given = {one.name: getattr(self, one.name) for one in dataclasses.fields(self)}
        given = {name: value for name, value in given.items() if value is not None}
        written = {"since": "parked_at >= %(since)s", "before": "parked_at < %(before)s"}
        conditions = [written.get(name, f"{name} = %({name})s") for name in given]
        return " and ".join(conditions) or "true", given


@dataclasses.dataclass(frozen=True, slots=True)
class Kept:
    """A parked record as it is judged again; stands for the record that it was (`records.Record`)."""

    id: int
    reason: str
    detail: str
    topic: str
    partition: int
    offset: int
    value: bytes
    door: str | None = None
    batch: bool = False
    event_time: datetime | None = None
    timestamp: int = 0

    @property
    def place(self) -> tuple[str, int, int]:
        """Where it stands, or stood: its topic, partition and offset."""
        return self.topic, self.partition, self.offset


def park(connection: psycopg.Connection, asides: Sequence[records.Aside]) -> None:
    """Set records aside, inside the caller's transaction; one that stands there already is left as it is."""
    if asides:
        judged_by = events.fingerprint()
        with connection.cursor() as cursor:
            cursor.executemany(PARK, [(*_row(aside), judged_by) for aside in asides])


def newest(connection: psycopg.Connection) -> int:
    """The largest id, which bounds a walk over what is parked now."""
    return int(_one(connection, NEWEST))


def find(connection: psycopg.Connection, wanted: Filter, after: int, upto: int) -> list[int]:
    """The next ids behind `after` that a filter means, in their order."""
    where, values = wanted.where()
    named = values | {"after": after, "upto": upto, "most": AT_ONCE}
    return ids_of(connection, FIND.format(where=where), named)


def lock(connection: psycopg.Connection, ids: Sequence[int]) -> tuple[datetime | None, list[Kept]]:
    """Those of these records that nobody else holds, and the database's clock; inside a transaction.

    Whole batches and records of the log come without their bytes: nobody but their owner judges them.
    """
    rows = connection.execute(LOCK, {"ids": list(ids), "longest": LONGEST}).fetchall()
    kept = [
        Kept(id_, reason, detail, topic, part, off, bytes(raw), door, batch, event_time)
        for _, id_, reason, detail, door, topic, part, off, batch, event_time, raw in rows
    ]
    return (rows[0][0] if rows else None), kept


def state(connection: psycopg.Connection, ids: Sequence[int]) -> dict[int, tuple[str, str, bool]]:
    """Of these records those that are there: reason, detail, whether their owner was asked."""
    found = connection.execute(STATE, (list(ids),)).fetchall()
    return {id_: (reason, detail, asked) for id_, reason, detail, asked in found}


def hashes(connection: psycopg.Connection, ids: Sequence[int]) -> dict[int, str]:
    """The SHA-256 of the bytes of each."""
    return dict(connection.execute(HASHES, (list(ids),)).fetchall())


def let_go(connection: psycopg.Connection, ids: Sequence[int]) -> set[int]:
    """Delete these; answers those that were there."""
    return {id_ for (id_,) in connection.execute(LET_GO, (list(ids),)).fetchall()} if ids else set()


def ask(connection: psycopg.Connection, ids: Sequence[int]) -> None:
    """Ask the owners of these records' partitions to fold them again."""
    if ids:
        connection.execute(ASK, (list(ids),))


def keep(connection: psycopg.Connection, still: Iterable[tuple[int, records.Aside]]) -> None:
    """Records that were judged again and stay, with what was said of them now."""
    judged_by = events.fingerprint()
    rows = [
        {
            "id": id_, "reason": one.reason, "detail": one.detail, "type": _plain(one.type),
            "source": _plain(one.source), "event_id": _plain(one.event_id), "event_time": one.event_time,
            "judged_by": judged_by,
        }
        for id_, one in still
    ]  # fmt: skip
    if rows:
        with connection.cursor() as cursor:
            cursor.executemany(STILL, rows)


def due(connection: psycopg.Connection, places: Places) -> tuple[dict[int, float], float | None]:
    """Records of these doors whose time has come, and for how many seconds; and when the next one's comes.

    By the database's clock, as T is. None: no other is known of; more may be there once these are driven.
    """
    rows = connection.execute(DUE, named(places)).fetchall()
    return {id_: late for id_, late in rows if late >= 0}, next((-late for _, late in rows if late < 0), None)


def expire(connection: psycopg.Connection, places: Places, days: int) -> list[str]:
    """Delete a step of what was kept longer than `days` in these partitions; answers the reasons."""
    found = connection.execute(EXPIRED, named(places) | {"days": days}).fetchall()
    return [reason for (reason,) in found]


def _row(one: records.Aside) -> tuple[object, ...]:
    told = (_plain(one.type), _plain(one.source), _plain(one.event_id), one.subject)
    place = (one.topic, one.part, one.off)
    batch = isinstance(one.raw, records.Unread)
    return (one.reason, one.detail, *told, one.door, *place, one.event_time, one.raw, batch)


def named(places: Places) -> dict[str, Any]:
    listed = sorted(places)
    return {
        "topics": database.array(topic for topic, _ in listed),
        "parts": database.array(part for _, part in listed),
        "most": AT_ONCE,
    }


def ids_of(connection: psycopg.Connection, statement: str, named: dict[str, Any]) -> list[int]:
    return [id_ for (id_,) in connection.execute(statement.encode(), named).fetchall()]


def _one(connection: psycopg.Connection, statement: str) -> Any:
    row = connection.execute(statement.encode()).fetchone()
    assert row is not None
    return row[0]


def _plain(text: str | None) -> str | None:
    """Text as PostgreSQL can keep it: without NUL and lone surrogates."""
    if text is None:
        return None
    return text.replace("\0", "").encode("utf-8", "replace").decode()[:256]
