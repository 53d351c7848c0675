"""The shadow: a second pair of schemas, built from the log beside the live one, and what differs between
them.

Promises: the live pair is only read. Both sides are brought to one instant and one set of offsets, then
every column of every projection is compared (LAW-2). Rows that live had not looked at yet (a waiting nudge,
past `valid_until`) are carried to the instant by the same function, and counted: 0 at rest. A contact that
cannot be computed is named with its error, and stops no other. One shadow at a time, by an advisory lock that
ends with its session; what an ended one left behind is dropped by the next.
Limits: facts are compared by what was read from the log up to the snapshot's offsets; provenance is not
compared.
Called by: `heed replay`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import psycopg

from projections import (
    database,
    engagement,
    erasure,
    fold,
    halving,
    membership,
    positions,
    records,
    registry,
    replay_lock,
)
from projections.migrations import sql
from schemas import errors, topics

PAIR: Final = sql.Pair("heed_data_shadow", "heed_read_shadow")
PATH: Final = f"{PAIR.data}, {sql.OPS}"
CHUNK: Final = 5000
SHOWN: Final = 100

LIVE_POSITIONS: Final = """
select topic, part, next_offset from heed_data.position
where reader = 'fold' and topic = any(%s) order by topic, part
"""

# Purpose: contacts that live had not looked at yet: past their time, or with a waiting nudge, theirs, that of
# what belongs to them, or of a set with an identifier that does.
BEHIND: Final = """
create temp table behind on commit preserve rows as
select contact_id from heed_data.engagement where valid_until <= %(at)s
union select substr(n.subject, 9) from heed_data.nudge n where n.subject like 'contact:%%'
union select substr(m.root, 9) from heed_data.nudge n join heed_data.member m on m.subject = n.subject
union select substr(m.root, 9) from heed_data.nudge n
    join heed_data.set_member e on n.subject in (e.subject, e.member)
    join heed_data.set_member s on s.subject = e.subject
    join heed_data.member m on m.subject = s.member
"""
MEMBERS: Final = """
create temp table live_members on commit preserve rows as select subject, root, home from heed_data.member
"""
NEXT_BEHIND: Final = "select contact_id from behind where contact_id > %s order by 1 limit %s"

# Purpose: live rows at one instant: as stored, and carried to it where live had not looked yet.
AT_REST: Final = """
create temp table live_rows on commit preserve rows as
select {columns}, false as carried from heed_data.engagement e
where not exists (select from behind b where b.contact_id = e.contact_id)
"""
CARRY: Final = """
insert into live_rows
select c.contact_id, b.home, c.date_first_click, c.date_last_click, c.frequency, c.volume, c.volume_last_30,
    c.period_months, c.valid_until, true
from unnest(%(contacts)s::text[], %(homes)s::smallint[]) as b(contact_id, home)
cross join lateral heed_data.engagement_at(array[b.contact_id], %(at)s, 'infinity') c
"""
# Purpose: an instant that no row of the snapshot was brought past, whatever this machine's clock says.
INSTANT: Final = """
select greatest(max(as_of), date_trunc('milliseconds', clock_timestamp())) from heed_data.position
"""

# Purpose: the next contacts, as subjects: those that were told of, and those to whom others belong.
SUBJECTS: Final = """
(select distinct subject from fact where subject > %(after)s and subject like 'contact:%%'
    order by 1 limit %(most)s)
union
(select distinct root from member where root > %(after)s order by 1 limit %(most)s)
order by 1 limit %(most)s
"""


class Shadow:
    """The shadow pair, on a connection of its own; `with` builds it and drops it."""

    def __init__(self, dsn: str, homes: int) -> None:
        self._dsn, self._homes = dsn, homes
        self.connection = database.connect(dsn, PATH, "heed replay", statement_seconds=0, idle_seconds=0)
        self.failed: dict[str, str] = {}
        self._moves: dict[positions.TP, positions.Move] = {}
        self._fold: fold.Fold | None = None

    def __enter__(self) -> Shadow:
        try:
            replay_lock.take(self.connection)
        except errors.Usage:
            self.connection.close()
            raise
        try:
            self._drop()
            self._build()
        except BaseException:
            # An interrupt while it is built is no reason to leave it half-built.
            self.__exit__()
            raise
        return self

    def _build(self) -> None:
        with self.connection.transaction():
            for name in (PAIR.data, PAIR.read):
                self.connection.execute(f"create schema {name}".encode())
            for revision in sql.revisions():
                for statement in sql.pair(revision, PAIR):
                    self.connection.execute(statement.encode())
            self.connection.execute("insert into rule select * from heed_data.rule")
        self._fold = fold.Fold(self.connection, self._homes, rows=False)
        held = positions.claim(self.connection, fold.READER, "replay", positions.log_starts(self._homes))
        self._moves = {name: positions.Move(one.epoch, 0, 0, 0) for name, one in held.items()}

    def __exit__(self, *_: object) -> None:
        if (
            self.connection.closed
            or self.connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE
        ):
            # Interrupted inside a statement: a fresh connection drops, once the old session is gone.
            self.connection.close()
            self.connection = database.connect(self._dsn, PATH, "heed replay", statement_seconds=0)
        self._drop()
        self.connection.close()

    def take(
        self, facts: records.Decoded, registered: registry.Batch, ends: Mapping[positions.TP, int]
    ) -> None:
        """Take in decoded facts; `ends` are the offsets that each partition is read up to now."""
        assert self._fold is not None
        for name, end in ends.items():
            self._moves[name].end = end
        moves = {name: move for name, move in self._moves.items() if name != registry.TP}
        self._fold.advance(fold.Batch(moves, facts))
        with self.connection.transaction():
            registry.merge(self.connection, registered)
        for name in ends:
            self._moves[name].start = self._moves[name].end

    def read_to(self) -> dict[positions.TP, int]:
        """How far each partition of the log has been taken in."""
        return {name: move.start for name, move in self._moves.items()}

    def bring(self, at: datetime) -> Iterator[int]:
        """Make the row of every contact at an instant, in steps; yields how many each step brought.

        Contacts that cannot be computed are in `failed`, with why.
        """
        with self.connection.transaction():
            erasure.purge_all(self.connection)
            membership.build(self.connection, self._homes)
        after = ""
        while True:
            found = self.connection.execute(SUBJECTS, {"after": after, "most": CHUNK}).fetchall()
            if not found:
                return
            after = found[-1][0]
            asked = [(subject[8:], topics.home(subject, self._homes)) for (subject,) in found]
            brought = halving.halve(
                self.connection, asked, lambda some: engagement.bring(self.connection, some, at)
            )
            self.failed |= _failed(brought)
            yield len(found)

    def _drop(self) -> None:
        for name in (PAIR.read, PAIR.data):
            self.connection.execute(f"drop schema if exists {name} cascade".encode())


class Live:
    """A snapshot of the live pair: its offsets, and its rows at an instant chosen later."""

    def __init__(self, dsn: str, homes: int) -> None:
        self._homes = homes
        self.connection = database.connect(
            dsn, "heed_data", "heed replay live", statement_seconds=0, idle_seconds=0
        )
        self.offsets: dict[positions.TP, int] = {}
        self.failed: dict[str, str] = {}

    def __enter__(self) -> Live:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def read_up_to(self) -> dict[positions.TP, int]:
        """How far live has folded each partition of the log, now."""
        found = self.connection.execute(LIVE_POSITIONS, ([topics.FACTS, topics.REGISTRY],)).fetchall()
        return {(topic, part): offset for topic, part, offset in found}

    def snapshot(self) -> dict[positions.TP, int]:
        """Open the snapshot; answers the offsets that it is folded to."""
        self.connection.execute("begin isolation level repeatable read")
        self.offsets = self.read_up_to()
        return self.offsets

    def instant(self) -> datetime:
        """The instant to bring both sides to."""
        row = self.connection.execute(INSTANT).fetchone()
        assert row is not None
        instant: datetime = row[0]
        return instant

    def carry(self, at: datetime) -> int:
        """Rows of the snapshot at an instant; answers how many contacts had to be carried to it.

        Contacts that cannot be computed are in `failed`, with why.
        """
        columns = ", ".join(f"e.{name}" for name in engagement.COLUMNS)
        self.connection.execute(MEMBERS)
        self.connection.execute(BEHIND, {"at": at})
        self.connection.execute("create index on behind (contact_id)")
        self.connection.execute("analyze behind")
        self.connection.execute(AT_REST.format(columns=columns).encode())
        after, number = "", 0
        while found := self.connection.execute(NEXT_BEHIND, (after, CHUNK)).fetchall():
            after, number = found[-1][0], number + len(found)
            behind = [(contact, topics.home(f"contact:{contact}", self._homes)) for (contact,) in found]
            self.failed |= _failed(halving.halve(self.connection, behind, lambda some: self._carry(some, at)))
        self.connection.execute("commit")
        self.connection.execute("analyze live_rows")
        return number

    def _carry(self, asked: Sequence[tuple[str, int]], at: datetime) -> None:
        contacts, homes = [contact for contact, _ in asked], [home for _, home in asked]
        self.connection.execute(CARRY, {"contacts": contacts, "homes": homes, "at": at})


def _failed(found: halving.Halved[tuple[str, int], Any]) -> dict[str, str]:
    return {contact: halving.told(error) for (contact, _), error in found.failed}
