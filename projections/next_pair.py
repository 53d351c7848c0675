"""The next pair: built from the log beside the live one, phase by phase, to take its place.

Promises: the live pair is only read. What a phase has done commits together with how far it has come, so a
replay that was killed goes on from there (`find`); one that was cancelled leaves nothing (`drop`). Facts are
taken in without indexes; then copies go (of two contents under one key the smaller (time, digest) stays),
then come the indexes, then the rows, in sets. From `follow` on it follows live (`projections.following`).
Limits: one at a time, by an advisory lock that ends with its session; never past where live has folded.
Called by: `heed replay`.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Final

import psycopg

from projections import (
    erasure,
    following,
    loading,
    membership,
    next_rows,
    pairs,
    positions,
    records,
    registry,
    replay_lock,
)
from projections.migrations import sql
from schemas import errors


class Phase(enum.StrEnum):
    """What is being done; in this order."""

    FACTS = "facts"
    INDEXES = "indexes"
    ROWS = "rows"
    FOLLOW = "follow"


PROGRESS: Final = """
create table replay (
    only_one bool primary key default true check (only_one),
    phase text not null,
    done_to text not null default '',
    contacts int not null default 0,
    homes int not null,
    indexes text[] not null,
    began timestamptz not null default clock_timestamp()
)
"""
BEGIN: Final = "insert into replay (phase, homes, indexes) values (%s, %s, %s)"
WHERE: Final = "select phase, done_to, homes, indexes, began, contacts from replay"
ENTER: Final = "update replay set phase = %s, done_to = ''"
DONE_TO: Final = "update replay set done_to = %s, contacts = contacts + %s"
# Purpose: how many were computed in all, whichever run of the replay did.
CONTACTS: Final = "select contacts from replay"
ERRORS: Final = (100, 0.01)  # so many contacts that cannot be computed, and this share, are a bad deploy

INDEXES: Final = """
select indexname, indexdef from pg_indexes where schemaname = %s and tablename = 'fact'
order by indexname desc
"""
TABLES: Final = (
    "select relname from pg_class where relnamespace = %s::regnamespace and relkind = 'r' order by 1"
)


class Next(following.Pair):
    """The next pair, on connections of its own; `with` ends them and leaves the pair as it is."""

    def __init__(self, dsn: str, homes: int) -> None:
        super().__init__(dsn, homes, pairs.NEXT)
        self.phase = Phase.FACTS
        self.began: datetime | None = None
        self.resumed = False
        self._done_to = ""
        self._indexes: list[str] = []

    def find(self) -> dict[positions.TP, int] | None:
        """Go on with what an earlier replay left behind; answers how far that is, or None."""
        standing = pairs.find(self.connection, pairs.NEXT)
        if standing is None or standing.revision != sql.revisions()[-1] or not self._read():
            return None
        self.resumed = True
        self.claim()
        return self.read_to()

    def begin(self) -> None:
        """Begin anew; what is there and of no use is dropped."""
        pairs.drop(self.connection, pairs.NEXT)
        self._build()
        self._read()
        self.claim()

    def drop(self) -> None:
        """Leave nothing, whatever the connection was interrupted in."""
        if self.connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
            self.connection.close()
            self.connection = connect(self._dsn)
            replay_lock.end_holder(self.connection)
            replay_lock.take(self.connection)
        self._end_fold()
        pairs.drop(self.connection, pairs.NEXT)

    def take(
        self, batch: records.Decoded, registered: registry.Batch, ends: Mapping[positions.TP, int]
    ) -> None:
        """Take in decoded facts; `ends` are the offsets that each partition is read up to now."""
        if self.phase is Phase.FACTS:
            loading.Loader(self.connection, self._moves).take(batch, registered, ends)
        else:
            super().take(batch, registered, ends)

    def enter(self, phase: Phase) -> None:
        """Begin a phase."""
        self.connection.execute(ENTER, (phase,))
        self.phase, self._done_to = phase, ""

    def index(self) -> None:
        """Facts once, and their indexes, and who belongs to whom; the phase of rows begins in the same
        transaction."""
        with self.connection.transaction():
            loading.once(self.connection)
            for statement in self._indexes:
                self.connection.execute(statement.encode())
            erasure.purge_all(self.connection)
            membership.build(self.connection, self._homes)
            self.enter(Phase.ROWS)

    def bring(self, at: datetime, jobs: int = 1) -> Iterator[int]:
        """Make the row of every contact at an instant, in steps, over so many connections; yields how many
        contacts each step had. Contacts that cannot be computed get a nudge with their error (`failed`).
        """
        for after, brought in next_rows.bring(
            lambda: connect(self._dsn), self._homes, at, self._done_to, jobs
        ):
            self.connection.execute(DONE_TO, (after, brought))
            yield brought

    def failed(self) -> dict[str, str]:
        """Contacts that cannot be computed now, with their errors; raises errors.Doubt for too many."""
        found = super().failed()
        [(contacts,)] = self.connection.execute(CONTACTS).fetchall()
        if len(found) > max(ERRORS[0], contacts * ERRORS[1]):
            raise errors.Doubt(
                f"{len(found)} of {contacts} contacts cannot be computed, as {next(iter(found.items()))}: "
                "nothing was swapped, `heed replay --cancel` drops it."
            )
        return found

    def vacuum(self) -> None:
        """Fresh statistics, and pages known to be visible to all, for every table."""
        for (table,) in self.connection.execute(TABLES, (pairs.NEXT.data,)).fetchall():
            self.connection.execute(f"vacuum (analyze) {pairs.NEXT.data}.{table}".encode())

    def _build(self) -> None:
        with self.connection.transaction():
            pairs.create(self.connection, pairs.NEXT)
            found = self.connection.execute(INDEXES, (pairs.NEXT.data,)).fetchall()
            for name, _ in found:
                self.connection.execute(f"drop index {pairs.NEXT.data}.{name}".encode())
            self.connection.execute(PROGRESS)
            self.connection.execute(BEGIN, (Phase.FACTS, self._homes, [statement for _, statement in found]))
            self.connection.execute("insert into rule select * from heed_data.rule")
            self.number_apart()

    def _read(self) -> bool:
        """What the pair says of itself; False where it is of no use."""
        try:
            found = self.connection.execute(WHERE).fetchall()
        except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn):
            return False
        if not found or found[0][2] != self._homes:
            return False
        phase, self._done_to, _, self._indexes, self.began, _ = found[0]
        self.phase = Phase(phase)
        return True


def connect(dsn: str) -> psycopg.Connection:
    """A connection of a replay to the next pair; raises `errors.Away`."""
    return following.connect(dsn, pairs.NEXT)
