"""The topic `keys` folded: every key of every subject, wrapped, or *destroyed*, by one reader.

Promises: the position of the topic and its keys commit together. Of several records of one key the last
counts, but *destroyed* wins whatever comes before or after it: what was destroyed is never alive again, in
whichever order it is read. The table is a cache of the topic: put back from a backup it catches up, since
its position went back with it. What is ill-formed is left out and named by its offset.
Limits: the connection has search_path = heed_ops and is in autocommit; one partition.
Called by: `streams.keys_loop`, and for what the table answers by whoever seals, opens or rewraps.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Final

import psycopg

from projections import database, positions, records
from schemas import errors, sealing, topics

READER: Final = "keys"
TP: Final = (topics.KEYS, 0)
LOCK: Final = 0x4EED_0002  # of whoever writes over keys that there are: rewraps or destroys them
AT_ONCE: Final = 1_000

# Purpose: those who write over keys that there are come one after another.
TAKE: Final = "select pg_try_advisory_lock(%s)"
GIVE: Final = "select pg_advisory_unlock(%s)"

# Purpose: the last word on every key; one that is destroyed stays so.
MERGE: Final = """
insert into heed_ops.data_key as k (kid, subject, wrapped, master, destroyed, off)
select u.kid, u.subject, u.wrapped, u.master, u.wrapped is null, u.off
from unnest(%s::text[], %s::text[], %s::bytea[], %s::text[], %s::bigint[])
    as u(kid, subject, wrapped, master, off)
on conflict (kid) do update set wrapped = excluded.wrapped, master = excluded.master,
    destroyed = excluded.destroyed, off = excluded.off
where not k.destroyed
"""
# Purpose: a key of somebody who is erased is put on the list, whenever it comes.
OF_ERASED: Final = """
insert into heed_ops.key_to_destroy (subject)
select subject from heed_data.erased where subject = any(%s::text[]) on conflict do nothing
"""
# Purpose: erased subjects, and the keys of theirs that are not destroyed yet.
TO_DESTROY: Final = "select subject from heed_ops.key_to_destroy order by subject limit %s"
STANDING: Final = """
select kid from heed_ops.data_key where subject = any(%s::text[]) and not destroyed order by kid limit %s
"""
DONE: Final = "delete from heed_ops.key_to_destroy where subject = any(%s::text[])"
WAITS: Final = "select exists (select from heed_ops.key_to_destroy)"
# Purpose: how far the topic has been read.
READ_TO: Final = "select next_offset from heed_ops.position where reader = 'keys' and topic = 'keys'"
# Purpose: a key for each of these subjects, of those that have one that is not destroyed: the newest.
OF_SUBJECTS: Final = """
select distinct on (subject) kid, wrapped, master from heed_ops.data_key
where subject = any(%s::text[]) and not destroyed order by subject, off desc
"""
# Purpose: these keys, as far as they have been read, destroyed ones too.
OF_KIDS: Final = "select kid, wrapped, master from heed_ops.data_key where kid = any(%s::text[])"
# Purpose: those of these keys that have been read, destroyed ones too.
THERE: Final = "select kid from heed_ops.data_key where kid = any(%s::text[])"
# Purpose: the installation's secret, as far as the topic has been read: the first that stands.
FIRST: Final = """
select kid, wrapped, master from heed_ops.data_key
where subject = 'installation' and not destroyed order by off limit 1
"""


@dataclasses.dataclass(slots=True)
class Batch:
    """What one transaction reads of the topic: by kid the last word and its offset; offsets left out."""

    moves: dict[positions.TP, positions.Move]
    keys: dict[str, tuple[sealing.KeyRecord, int]] = dataclasses.field(default_factory=dict)
    ill_formed: list[int] = dataclasses.field(default_factory=list)


def decode(found: Iterable[records.Record]) -> Batch:
    """Records of the topic as rows of the table; never raises for what a record holds."""
    batch = Batch({})
    for record in found:
        try:
            read = sealing.read_record(record.value)
        except ValueError:
            batch.ill_formed.append(record.offset)
            continue
        standing = batch.keys.get(read.kid)
        if standing is None or standing[0].wrapped is not None:
            batch.keys[read.kid] = (read, record.offset)
    return batch


def advance(connection: psycopg.Connection, batch: Batch) -> None:
    """Fold a batch, which may be empty; one transaction. Raises `positions.Fenced`, psycopg.Error."""
    with connection.transaction():
        positions.move(connection, READER, batch.moves)
        if batch.keys:
            rows = [(one.kid, one.subject, one.wrapped, one.master, off) for one, off in batch.keys.values()]
            connection.execute(MERGE, [list(column) for column in zip(*rows, strict=True)])
            alive = {one.subject for one, _ in batch.keys.values() if one.wrapped is not None}
            connection.execute(OF_ERASED, (database.array(alive),))


def take_lock(connection: psycopg.Connection) -> bool:
    """Whether this session may write over keys now; it may until `give_lock`, or its end."""
    return bool(connection.execute(TAKE, (LOCK,)).fetchall()[0][0])


def give_lock(connection: psycopg.Connection) -> None:
    """Let others write over keys."""
    connection.execute(GIVE, (LOCK,))


def waits(connection: psycopg.Connection) -> bool:
    """Whether keys of erased subjects are to be destroyed."""
    return bool(connection.execute(WAITS).fetchall()[0][0])


def to_destroy(connection: psycopg.Connection) -> tuple[list[str], list[str]]:
    """A step of erased subjects, and kids of theirs that are not destroyed yet, at most `AT_ONCE`."""
    subjects = [one for (one,) in connection.execute(TO_DESTROY, (AT_ONCE,)).fetchall()]
    kids = connection.execute(STANDING, (database.array(subjects), AT_ONCE)).fetchall()
    return subjects, [kid for (kid,) in kids]


def destroyed(connection: psycopg.Connection, subjects: Iterable[str]) -> None:
    """That the keys of these are destroyed stands on the topic: take them off the list."""
    connection.execute(DONE, (database.array(subjects),))


def read_to(connection: psycopg.Connection) -> int:
    """The offset up to which the topic has been read; 0 when nobody has begun."""
    found = connection.execute(READ_TO).fetchone()
    return int(found[0]) if found else 0


def of_subjects(connection: psycopg.Connection, subjects: Iterable[str]) -> list[sealing.KeyRecord]:
    """A key for each of these subjects that has one."""
    found = connection.execute(OF_SUBJECTS, (database.array(subjects),)).fetchall()
    return [sealing.KeyRecord(*one) for one in found]


def of_kids(connection: psycopg.Connection, kids: Iterable[str]) -> dict[str, sealing.KeyRecord]:
    """These keys by kid, destroyed ones without what they wrapped; none for one that is missing."""
    found = connection.execute(OF_KIDS, (database.array(kids),)).fetchall()
    return {one[0]: sealing.KeyRecord(*one) for one in found}


def missing(connection: psycopg.Connection, kids: Iterable[str]) -> set[str]:
    """Those of these keys that have not been read from the topic, whether destroyed or not."""
    kids = set(kids)
    found = connection.execute(THERE, (database.array(kids),)).fetchall()
    return kids - {kid for (kid,) in found}


def secret_of(dsn: str) -> sealing.KeyRecord | None:
    """The installation's secret, if it has been read into this database; raises `errors.Away`."""
    with database.connect(dsn, database.OPS_PATH, "heed secret") as connection:
        try:
            found = connection.execute(FIRST).fetchone()
        except psycopg.Error as error:
            raise errors.Away("PostgreSQL does not say what it holds of the keys.") from error
    return sealing.KeyRecord(*found) if found else None
