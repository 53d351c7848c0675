"""The next pair: built from the log beside the live one, phase by phase, to take its place.

Promises: the live pair is only read. What a phase has done commits together with how far it has come, so a
replay that was killed goes on from there (`find`); one that was cancelled leaves nothing (`drop`). Facts are
taken in without indexes; then copies go (of two contents under one key the smaller (time, digest) stays),
then come the indexes, then the rows, in sets. From `follow` on facts are folded as a worker folds them,
except that nothing is parked, sent or published: the live fold has done that.
Limits: one at a time, by an advisory lock that ends with its session; never past where live has folded.
Called by: `heed replay`.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Final

import psycopg

from projections import (
    database,
    fold,
    loading,
    next_rows,
    pairs,
    positions,
    recalculation,
    records,
    registry,
    replay_lock,
    swap,
)
from projections.migrations import sql
from schemas import errors, topics

NAME: Final = "heed replay"
PATH: Final = f"{pairs.NEXT.data}, {sql.OPS}"


class Phase(enum.StrEnum):
    """What is being done; in this order."""

    FACTS = "facts"
    INDEXES = "indexes"
    ROWS = "rows"
    FOLLOW = "follow"


# Purpose: a replay whose client is gone ends by itself; losing its last commits loses nothing, as they say
# how far it has come.
PREPARE: Final = """
select set_config(name, value, false) from (values ('client_connection_check_interval', '1s'),
    ('synchronous_commit', 'off'), ('maintenance_work_mem', '256MB'), ('work_mem', '128MB')) as v(name, value)
"""
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
# Purpose: who cannot be computed, and how many there are in all, whichever run of the replay met them.
FAILED: Final = "select substr(subject, 9), max(error) from nudge where error is not null group by 1"
CONTACTS: Final = "select contacts from replay"
ERRORS: Final = (100, 0.01)  # so many contacts that cannot be computed, and this share, are a bad deploy

# Purpose: nudges of ours get numbers that live, whose nudges keep theirs, does not come to meanwhile.
APART: Final = """
select setval(pg_get_serial_sequence('nudge', 'id'), last_value + 1000000000) from heed_data.nudge_id_seq
"""

INDEXES: Final = """
select indexname, indexdef from pg_indexes where schemaname = %s and tablename = 'fact'
order by indexname desc
"""
TABLES: Final = (
    "select relname from pg_class where relnamespace = %s::regnamespace and relkind = 'r' order by 1"
)
ESTIMATE: Final = """
select coalesce(max(case when n_distinct < 0 then -n_distinct * c.reltuples else n_distinct end), 0)
from pg_stats s, pg_class c
where (s.schemaname, s.tablename, s.attname) = (%s, 'fact', 'subject') and c.oid = 'fact'::regclass
"""
COUNT: Final = "select (select count(*) from fact), (select count(*) from registry)"


class Next:
    """The next pair, on connections of its own; `with` ends them and leaves the pair as it is."""

    def __init__(self, dsn: str, homes: int) -> None:
        self._dsn, self._homes = dsn, homes
        self.connection = connect(dsn)
        self.phase = Phase.FACTS
        self.began: datetime | None = None
        self.resumed = False
        self._done_to = ""
        self._indexes: list[str] = []
        self._moves: dict[positions.TP, positions.Move] = {}
        self._fold: fold.Fold | None = None

    def __enter__(self) -> Next:
        replay_lock.take(self.connection)
        return self

    def __exit__(self, *_: object) -> None:
        if self._fold is not None:
            self._fold.connection.close()
        self.connection.close()

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
        if self._fold is not None:
            self._fold.connection.close()
            self._fold = None
        pairs.drop(self.connection, pairs.NEXT)

    def check_alive(self) -> None:
        """Raises psycopg.Error when the session that holds the lock of replays was ended."""
        self.connection.execute("select 1")

    def claim(self) -> None:
        """Own the pair's positions from here on: an earlier replay that still works in it is fenced."""
        held = positions.claim(self.connection, fold.READER, "replay", log_starts(self._homes))
        self._moves = {
            name: positions.Move(one.epoch, one.next_offset, one.next_offset, 0) for name, one in held.items()
        }

    def read_to(self) -> dict[positions.TP, int]:
        """How far each partition of the log has been taken in."""
        return {name: move.start for name, move in self._moves.items()}

    def moves(self) -> dict[positions.TP, positions.Move]:
        """The positions as this replay may move them."""
        return {name: dataclasses.replace(move) for name, move in self._moves.items()}

    def take(
        self, batch: records.Decoded, registered: registry.Batch, ends: Mapping[positions.TP, int]
    ) -> None:
        """Take in decoded facts; `ends` are the offsets that each partition is read up to now."""
        if self.phase is Phase.FACTS:
            loading.Loader(self.connection, self._moves).take(batch, registered, ends)
            return
        for name, end in ends.items():
            self._moves[name].end = end
        if registry.TP in ends:
            self._register(registered)
        if len(ends) > (registry.TP in ends):
            self._follow(batch)
        for name in ends:
            self._moves[name].start = self._moves[name].end

    def _register(self, batch: registry.Batch) -> None:
        """Facts of the registry; a rule that changes now that there are rows puts everyone up, as in live."""
        with self.connection.transaction():
            move = {registry.TP: self._moves[registry.TP]}
            at = positions.move(self.connection, fold.READER, move)
            if registry.merge(self.connection, batch.facts):
                recalculation.everyone(self.connection, recalculation.RULE, at)

    def enter(self, phase: Phase) -> None:
        """Begin a phase."""
        self.connection.execute(ENTER, (phase,))
        self.phase, self._done_to = phase, ""

    def index(self) -> None:
        """Facts once, and their indexes; the phase of rows begins in the same transaction."""
        with self.connection.transaction():
            loading.once(self.connection)
            for statement in self._indexes:
                self.connection.execute(statement.encode())
            self.enter(Phase.ROWS)

    def count(self) -> tuple[int, int]:
        """How many facts there are, and how many facts of the registry."""
        [(facts, registered)] = self.connection.execute(COUNT).fetchall()
        return facts, registered

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
        found: dict[str, str] = dict(self.connection.execute(FAILED).fetchall())
        [(contacts,)] = self.connection.execute(CONTACTS).fetchall()
        if len(found) > max(ERRORS[0], contacts * ERRORS[1]):
            raise errors.Doubt(
                f"{len(found)} of {contacts} contacts cannot be computed, as {next(iter(found.items()))}: "
                "nothing was swapped, `heed replay --cancel` drops it."
            )
        return found

    def estimate(self) -> int:
        """How many contacts there are, about."""
        [(number,)] = self.connection.execute(ESTIMATE, (pairs.NEXT.data,)).fetchall()
        return int(number)

    def carry_due(self) -> int:
        """Make due here what is due in live, and nothing else; answers how many rows changed."""
        return swap.carry_due(self.connection)

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
            self.connection.execute(APART)

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

    def _named(self) -> dict[positions.TP, positions.Move]:
        return {name: move for name, move in self._moves.items() if name != registry.TP}

    def _follow(self, batch: records.Decoded) -> None:
        """As a worker folds, rows and all, on a connection with a worker's plans."""
        if self._fold is None:
            connection = database.connect(self._dsn, PATH, NAME)
            self._fold = fold.Fold(connection, self._homes, timers=False, recalculate=False, live=False)
        try:
            self._fold.advance(fold.Batch(self._named(), batch))
        except psycopg.Error as error:
            if database.is_away(error) or not batch.lines:
                raise
            self._fold.sift(batch)
            self._fold.advance(fold.Batch(self._named(), batch))


def connect(dsn: str) -> psycopg.Connection:
    """A connection of a replay to the next pair; raises `errors.Away`."""
    connection = database.connect(dsn, PATH, NAME, statement_seconds=0, idle_seconds=0)
    connection.execute(PREPARE)
    return connection


def log_starts(homes: int) -> dict[positions.TP, int]:
    """Where the log of so many homes begins: its facts, and the registry."""
    return {(topics.FACTS, part): 0 for part in range(homes)} | {registry.TP: 0}
