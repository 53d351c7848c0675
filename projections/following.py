"""A pair that follows live: folded on beside it, from its own positions up to where live is, to replace it.

Promises: the live pair is only read. Facts are folded as a worker folds them, except that nothing is parked,
sent or published: the live fold has done that. How far it has come commits with the facts, so whoever is
stopped goes on from there. Once it has been followed, settled and made due (`settle`, `carry_due`) at live's
offsets, every row knows the time that live's row knows: whichever pair holds it then, a command tells of it.
Limits: one at a time, by an advisory lock that ends with its session; never past where live has folded.
Called by: `heed replay` (`projections.next_pair`), `heed replay --back`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Final, Self

import psycopg

from projections import (
    database,
    erasure,
    fold,
    membership,
    next_rows,
    positions,
    recalculation,
    records,
    registry,
    replay_lock,
    shadow,
    swap,
)
from projections.migrations import sql

NAME: Final = "heed replay"

# Purpose: a replay whose client is gone ends by itself; losing its last commits loses nothing, as they say
# how far it has come.
PREPARE: Final = """
select set_config(name, value, false) from (values ('client_connection_check_interval', '1s'),
    ('synchronous_commit', 'off'), ('maintenance_work_mem', '256MB'), ('work_mem', '128MB')) as v(name, value)
"""
# Purpose: nudges of ours get numbers that live, whose nudges keep theirs, does not come to meanwhile.
APART: Final = """
select setval(pg_get_serial_sequence('nudge', 'id'), greatest(own.last_value, live.last_value + 1000000000))
from nudge_id_seq own, heed_data.nudge_id_seq live
"""
# Purpose: who cannot be computed, whichever run met them.
FAILED: Final = "select substr(subject, 9), max(error) from nudge where error is not null group by 1"
COUNT: Final = "select (select count(*) from fact), (select count(*) from registry)"
ESTIMATE: Final = """
select coalesce(max(case when n_distinct < 0 then -n_distinct * c.reltuples else n_distinct end), 0)
from pg_stats s, pg_class c
where (s.schemaname, s.tablename, s.attname) = (%s, 'fact', 'subject') and c.oid = 'fact'::regclass
"""
# Purpose: a row that somebody else's fact changed, and that is not looked at before the swap, does not know
# when it runs out.
NUDGED: Final = """
select exists (select from nudge where error is null and retry_at <= statement_timestamp())
"""
UNSETTLED: Final = """
select exists (select from recalculation_cause where not finished)
    or exists (select from recalculation where error is null)
"""
CAUSES: Final = "select reason, since from recalculation_cause where not finished"
SETTLED: Final = "update recalculation_cause set finished = true where (reason, since) = (%s, %s)"
NO_QUEUE: Final = "delete from recalculation where error is null"


class Pair:
    """A pair that follows live, on connections of its own; `with` ends them and leaves the pair as it is."""

    def __init__(self, dsn: str, homes: int, names: sql.Pair) -> None:
        self.names = names
        self._dsn, self._homes = dsn, homes
        self.connection = connect(dsn, names)
        self._moves: dict[positions.TP, positions.Move] = {}
        self._fold: fold.Fold | None = None

    def __enter__(self) -> Self:
        try:
            replay_lock.take(self.connection)
        except BaseException:
            self.connection.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End its connections, and with them the lock."""
        self._end_fold()
        self.connection.close()

    def check_alive(self) -> None:
        """Raises psycopg.Error when the session that holds the lock of replays was ended."""
        self.connection.execute("select 1")

    def claim(self) -> None:
        """Own the pair's positions from here on: whoever still works in it is fenced."""
        held = positions.claim(self.connection, fold.READER, "replay", positions.log_starts(self._homes))
        self._moves = {
            name: positions.Move(one.epoch, one.next_offset, one.next_offset, 0) for name, one in held.items()
        }

    def number_apart(self) -> None:
        """Number nudges from here on as live does not: theirs are taken over by their number."""
        self.connection.execute(APART)

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
        for name, end in ends.items():
            self._moves[name].end = end
        if registry.TP in ends:
            self._register(registered)
        if len(ends) > (registry.TP in ends):
            self._follow(batch)
        for name in ends:
            self._moves[name].start = self._moves[name].end
        while self.connection.execute(NUDGED).fetchall() == [(True,)]:
            self._follow(records.Decoded())

    def is_settled(self) -> bool:
        """Whether nobody waits here to be computed anew."""
        return self.connection.execute(UNSETTLED).fetchall() == [(False,)]

    def settle(self) -> Iterator[int]:
        """Make every row anew where somebody waits for that, as after a change of the rule; yields how many
        contacts each step had. Contacts that cannot be computed get a nudge with their error.

        Live has done that, or has it still to do (the swap takes over who waits there): a row that this pair
        left to later would not know when it runs out.
        """
        if self.is_settled():
            return
        causes = self.connection.execute(CAUSES).fetchall()
        [(at,)] = self.connection.execute(shadow.INSTANT).fetchall()
        for _, brought in next_rows.bring(lambda: connect(self._dsn, self.names), self._homes, at, "", 1):
            yield brought
        with self.connection.transaction():
            for cause in causes:
                self.connection.execute(SETTLED, cause)
            self.connection.execute(NO_QUEUE)

    def carry_due(self) -> int:
        """Make due here what is due in live, and nothing else; answers how many rows changed."""
        return swap.carry_due(self.connection)

    def count(self) -> tuple[int, int]:
        """How many facts there are, and how many facts of the registry."""
        [(facts, registered)] = self.connection.execute(COUNT).fetchall()
        return facts, registered

    def estimate(self) -> int:
        """How many contacts there are, about."""
        [(number,)] = self.connection.execute(ESTIMATE, (self.names.data,)).fetchall()
        return int(number)

    def failed(self) -> dict[str, str]:
        """Contacts that cannot be computed now, with their errors."""
        return dict(self.connection.execute(FAILED).fetchall())

    def _end_fold(self) -> None:
        if self._fold is not None:
            self._fold.connection.close()
            self._fold = None

    def _register(self, batch: registry.Batch) -> None:
        """Facts of the registry; a rule that changes now that there are rows puts everyone up, as in live."""
        with self.connection.transaction():
            move = {registry.TP: self._moves[registry.TP]}
            at = positions.move(self.connection, fold.READER, move)
            if registry.merge(self.connection, batch):
                recalculation.everyone(self.connection, recalculation.RULE, at)
            membership.follow(self.connection, batch.linked, batch.holders, self._homes)
            erasure.tell(self.connection, batch.erased, self._homes)

    def _follow(self, batch: records.Decoded) -> None:
        """As a worker folds, rows and all, on a connection with a worker's plans."""
        if self._fold is None:
            connection = database.connect(self._dsn, _path(self.names), NAME)
            self._fold = fold.Fold(connection, self._homes, timers=False, recalculate=False, live=False)
        try:
            self._fold.advance(fold.Batch(self._named(), batch))
        except psycopg.Error as error:
            if database.is_away(error) or not batch.lines:
                raise
            self._fold.sift(batch)
            self._fold.advance(fold.Batch(self._named(), batch))

    def _named(self) -> dict[positions.TP, positions.Move]:
        return {name: move for name, move in self._moves.items() if name != registry.TP}


def connect(dsn: str, names: sql.Pair) -> psycopg.Connection:
    """A connection of a replay to a pair that stands aside; raises `errors.Away`."""
    connection = database.connect(dsn, _path(names), NAME, statement_seconds=0, idle_seconds=0)
    connection.execute(PREPARE)
    return connection


def _path(names: sql.Pair) -> str:
    return f"{names.data}, {sql.OPS}"
