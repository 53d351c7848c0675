"""Having contacts looked at by the owners of their homes, and waiting until they have been.

Promises: nothing here writes a row. Who takes a nudge and fails leaves another in its place, with the error;
an older one tells of an older try. What is waited for in vain stays, and is taken later.
Limits: blocks, for as long as the caller says; the connection's search path is the pair's.
Called by: `streams.refresh`, `streams.recalculation`, the API.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import psycopg

POLL: Final = 0.05

NUDGE: Final = """
insert into nudge (home, subject, reason)
select u.home, 'contact:' || u.contact_id, %s
from unnest(%s::smallint[], %s::text[]) as u(home, contact_id) returning id, subject
"""
LEFT: Final = "select subject from nudge where id = any(%s) and error is null"
FAILED: Final = """
select subject, max(error) from nudge where subject = any(%s) and error is not null and id > %s
group by subject
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Waited:
    """What came of nudges: subjects that nobody has taken, and the errors of those who failed."""

    left: frozenset[str]
    failed: Mapping[str, str]


def ask(connection: psycopg.Connection, contacts: Sequence[tuple[int, str]], reason: str) -> dict[int, str]:
    """Nudge contacts, each (home, id); answers the subject of each nudge."""
    homes, ids = [home for home, _ in contacts], [id_ for _, id_ in contacts]
    return dict(connection.execute(NUDGE, (reason, homes, ids)).fetchall())


def wait(
    connection: psycopg.Connection,
    nudged: Mapping[int, str],
    until: float,
    *,
    clock: Callable[[], float] = time.monotonic,
    stopping: Callable[[], bool] = lambda: False,
) -> Waited:
    """Wait until each of these nudges is taken, the time has come, or the caller goes."""
    while left := connection.execute(LEFT, (list(nudged),)).fetchall():
        if clock() >= until or stopping():
            break
        time.sleep(POLL)
    failed = connection.execute(FAILED, (list(nudged.values()), min(nudged))).fetchall()
    return Waited(frozenset(subject for (subject,) in left), dict(failed))
