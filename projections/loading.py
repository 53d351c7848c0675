"""Facts by the million into a table without indexes, for a pair that nobody reads yet.

Promises: a batch and its positions commit together; copies come in as they are, and `once` takes them out:
of two contents under one key the smaller (time, digest) stays (LAW-1).
Limits: what PostgreSQL refuses to keep is left out; the live fold has parked it.
Called by: `projections.next_pair`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import psycopg

from projections import database, fold, halving, positions, records

COPY: Final = "copy fact from stdin"
# Purpose: of all contents under one key the smallest stays.
ONCE: Final = """
delete from fact where ctid = any(array(select ctid from (
    select ctid, row_number() over (partition by subject, key order by time, digest) as place from fact
) f where place > 1))
"""


def load(
    connection: psycopg.Connection, batch: records.Decoded, moves: Mapping[positions.TP, positions.Move]
) -> None:
    """Take in a batch, in one transaction. Raises `positions.Fenced`; psycopg.Error when it is away."""
    try:
        _load(connection, batch, moves)
    except psycopg.Error as error:
        if database.is_away(error) or not batch.lines:
            raise
        _sift(connection, batch)
        _load(connection, batch, moves)


def once(connection: psycopg.Connection) -> None:
    """Leave every fact once, inside the caller's transaction."""
    connection.execute(ONCE)


def _load(
    connection: psycopg.Connection, batch: records.Decoded, moves: Mapping[positions.TP, positions.Move]
) -> None:
    with connection.transaction():
        _copy(connection, batch.text())
        positions.move(connection, fold.READER, moves)


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
