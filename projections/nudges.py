"""Nudges: "look at this subject again"; appended by anyone, taken by the owner of the home.

Promises: a nudge is deleted before the facts are read that it speaks of, so one that is appended meanwhile
is never lost. A nudge has an id of its own and is never merged with another. A contact in error keeps its
nudge, with the error, to be tried again after 1 s, doubling to 1 h.
Limits: a thousand in one transaction.
Called by: `projections.fold`; the API and the command line append.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Final

import psycopg

MOST: Final = 1000

TAKE: Final = """
delete from nudge where id in (
    select id from nudge where home = any(%(homes)s::smallint[]) and retry_at <= %(at)s::timestamptz
    order by retry_at limit %(most)s)
returning subject, home, attempts
"""
APPEND: Final = """
insert into nudge (home, subject, reason) select u.home, u.subject, %(reason)s
from unnest(%(subjects)s::text[], %(homes)s::smallint[]) as u(subject, home)
"""
# Purpose: one nudge in error a contact: the owner's own older ones give way to it.
KEEP_ERROR: Final = """
with old as (
    delete from nudge where home = %(home)s and subject = %(subject)s and error is not null
    returning attempts
)
insert into nudge (home, subject, reason, error, attempts, retry_at)
select %(home)s, %(subject)s, 'error', %(error)s, n.attempts,
    %(at)s::timestamptz + make_interval(secs => least(3600, 2 ^ least(n.attempts - 1, 12)))
from (select greatest(%(attempts)s, coalesce(max(attempts), 0)) + 1 as attempts from old) n
"""
WAITING: Final = """
exists (select from nudge where home = any(%(homes)s::smallint[]) and retry_at <= statement_timestamp())
"""


def take(connection: psycopg.Connection, homes: Iterable[int], at: datetime) -> list[tuple[str, int, int]]:
    """Delete and answer nudges of these homes that are to be looked at: (subject, home, attempts so far)."""
    return connection.execute(TAKE, {"homes": list(homes), "at": at, "most": MOST}).fetchall()


def append(connection: psycopg.Connection, subjects: Mapping[str, int], reason: str) -> None:
    """Nudge these subjects, each in its given home."""
    append_all(connection, [(home, subject) for subject, home in subjects.items()], reason)


def append_all(connection: psycopg.Connection, told: Collection[tuple[int, str]], reason: str) -> None:
    """Nudge subjects in homes, each (home, subject) once; a subject need not be nudged in its own home."""
    if told:
        homes, subjects = zip(*told, strict=True)
        connection.execute(APPEND, {"subjects": list(subjects), "homes": list(homes), "reason": reason})


def keep_error(
    connection: psycopg.Connection, home: int, subject: str, error: str, attempts: int, at: datetime
) -> None:
    """Leave a nudge with its error where the next try finds it."""
    named = {"home": home, "subject": subject, "error": error[:500], "attempts": attempts, "at": at}
    connection.execute(KEEP_ERROR, named)
