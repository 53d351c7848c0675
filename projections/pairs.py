"""Pairs: the two schemas that are built and renamed together, and what is known of each.

Promises: a pair has one row in its table `generation`: the revision of its tables, and whether it is the
live one. The row is changed in the transaction that renames, so a snapshot taken earlier knows that the pair
was not live for it (its views then refuse, rather than show half of it). A pair is built from the same files
as the live one.
Limits: three names: live, next (what a replay builds) and old (what it took the place of).
Called by: `projections.next_pair`, `projections.swap`, `heed replay`.
"""

from __future__ import annotations

import dataclasses
from typing import Final

import psycopg

from projections.migrations import sql

LIVE: Final = sql.LIVE
NEXT: Final = sql.Pair("heed_data_next", "heed_read_next")
OLD: Final = sql.Pair("heed_data_old", "heed_read_old")

SIZE: Final = """
select coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint from pg_class c
where c.relnamespace = to_regnamespace(%s) and c.relkind = 'r'
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Generation:
    """What a pair is: the revision of its tables, whether it is the live one, and its size in bytes."""

    revision: str
    live: bool
    size: int


def find(connection: psycopg.Connection, names: sql.Pair) -> Generation | None:
    """The pair of these names, or None. A pair that was never finished has the revision ''."""
    (there,) = connection.execute("select to_regnamespace(%s)", (names.data,)).fetchall()
    if there[0] is None:
        return None
    [(size,)] = connection.execute(SIZE, (names.data,)).fetchall()
    try:
        found = connection.execute(f"select revision, live from {names.data}.generation".encode()).fetchall()
    except psycopg.errors.UndefinedTable:
        found = []
    revision, live = found[0] if found else ("", False)
    return Generation(revision, live, size)


def create(connection: psycopg.Connection, names: sql.Pair) -> None:
    """Make an empty pair, inside the caller's transaction."""
    for name in (names.data, names.read):
        connection.execute(f"create schema {name}".encode())
    for revision in sql.revisions():
        for statement in sql.pair(revision, names):
            connection.execute(statement.encode())
    connection.execute(sql.activity_kinds(names).encode())
    connection.execute(f"update {names.data}.generation set revision = %s".encode(), (sql.revisions()[-1],))


def drop(connection: psycopg.Connection, names: sql.Pair) -> None:
    """Drop a pair, if it is there."""
    for name in (names.read, names.data):
        connection.execute(f"drop schema if exists {name} cascade".encode())


def rename(connection: psycopg.Connection, names: sql.Pair, to: sql.Pair) -> None:
    """Give a pair other names, inside the caller's transaction; waits for no reader and stops none."""
    connection.execute(f"alter schema {names.data} rename to {to.data}".encode())
    connection.execute(f"alter schema {names.read} rename to {to.read}".encode())


def mark(connection: psycopg.Connection, names: sql.Pair, *, live: bool) -> None:
    """Say whether a pair is the live one, inside the caller's transaction."""
    connection.execute(f"update {names.data}.generation set live = %s".encode(), (live,))
