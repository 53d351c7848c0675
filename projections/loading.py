"""Facts by the million into a table without indexes, for a pair that nobody reads yet.

Promises: a batch and its positions commit together; copies come in as they are, and `once` takes them out:
of two contents under one key the smaller (time, digest) stays (LAW-1). Several may load at once, each the
partitions that are its own.
Limits: what PostgreSQL refuses to keep is left out; the live fold has parked it.
Called by: `projections.next_pair`, `streams.replay_crew`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Final

import psycopg

from projections import database, facts, fold, halving, positions, records, registry

COPY: Final = "copy fact from stdin"
# Purpose: keys that stand there more than once. By the key alone, which is a hash: a sort by subject and key
# costs three times as much.
TWICE: Final = """
create temp table twice on commit drop as select key from fact group by key having count(*) > 1
"""
# Purpose: of all contents under one key the smallest stays.
ONCE: Final = """
delete from fact where ctid = any(array(select ctid from (
    select ctid, row_number() over (partition by subject, key order by time, digest) as place
    from fact where key in (select key from twice)
) f where place > 1))
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Loader:
    """Takes in what was read of the partitions that it may move."""

    connection: psycopg.Connection
    moves: dict[positions.TP, positions.Move]

    def take(
        self, batch: records.Decoded, registered: registry.Batch, ends: Mapping[positions.TP, int]
    ) -> None:
        """Take in a batch; `ends` are the offsets that each partition is read up to now.

        Raises `positions.Fenced`; psycopg.Error when the database is away.
        """
        for name, end in ends.items():
            self.moves[name].end = end
        try:
            self._take(batch, registered, ends)
        except psycopg.Error as error:
            if database.is_away(error) or not batch.lines:
                raise
            _sift(self.connection, batch)
            self._take(batch, registered, ends)
        for name in ends:
            self.moves[name].start = self.moves[name].end

    def _take(
        self, batch: records.Decoded, registered: registry.Batch, ends: Mapping[positions.TP, int]
    ) -> None:
        with self.connection.transaction():
            _copy(self.connection, batch.text())
            facts.keep_sets(self.connection, batch)
            positions.move(self.connection, fold.READER, {name: self.moves[name] for name in ends})
            registry.merge(self.connection, registered)


def once(connection: psycopg.Connection) -> None:
    """Leave every fact once, inside the caller's transaction."""
    if connection.execute(TWICE).rowcount:
        connection.execute(ONCE)


def _copy(connection: psycopg.Connection, lines: bytes) -> None:
    with connection.cursor().copy(COPY) as copy:
        copy.write(lines)


def _sift(connection: psycopg.Connection, batch: records.Decoded) -> None:
    with connection.transaction():
        found = halving.halve(
            connection,
            list(batch.lines.items()),
            lambda some: _copy(connection, records.Decoded(lines=dict(some)).text()),
            undo=True,
        )
    for (name, _), _ in found.failed:
        del batch.lines[name]
