"""Having every row that is due looked at: what timers do by themselves, by hand or from cron (CEE-8).

Promises: nothing here writes a row: due contacts are nudged, and the owners of their homes bring them. A
contact in error is left to its own nudge: it would be due again, and nudged again, for ever.
Limits: what is due when it begins; 5,000 contacts under way at one time.
Called by: schedules, the API.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import Final

import psycopg

from schemas import errors

SECONDS: Final = 30.0
STEP: Final = 5000
POLL: Final = 0.05

NOW: Final = "select date_trunc('milliseconds', clock_timestamp())"
NUDGE: Final = """
insert into nudge (home, subject, reason)
select home, 'contact:' || contact_id, 'expired' from engagement e
where valid_until <= %s and not exists (select from nudge n where n.subject = 'contact:' || e.contact_id
    and (n.reason = 'expired' or n.error is not null))
order by home, valid_until limit %s returning id, subject
"""
LEFT: Final = """
select count(*) filter (where id = any(%(ids)s) and error is null),
    count(distinct subject) filter (where subject = any(%(subjects)s) and error is not null)
from nudge where id = any(%(ids)s) or (subject = any(%(subjects)s) and error is not null)
"""


class Behind(errors.Away):
    """The workers have not taken all nudges in time; they stay and are taken later."""

    def __init__(self, refreshed: int) -> None:
        super().__init__()
        self.refreshed = refreshed


def run(
    connection: psycopg.Connection,
    seconds: float = SECONDS,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """Have the owners look at every row that is due now; answers how many they have brought.

    Blocks for at most so many seconds; raises `Behind` when they take longer.
    """
    until = clock() + seconds
    refreshed = 0
    now = _now(connection)
    while True:
        nudged = connection.execute(NUDGE, (now, STEP)).fetchall()
        if not nudged:
            return refreshed
        left, failed = _wait(connection, nudged, until, clock)
        refreshed += len(nudged) - left - failed
        if left:
            raise Behind(refreshed)


def _now(connection: psycopg.Connection) -> datetime:
    [(now,)] = connection.execute(NOW).fetchall()
    moment: datetime = now
    return moment


def _wait(
    connection: psycopg.Connection, nudged: list[tuple[int, str]], until: float, clock: Callable[[], float]
) -> tuple[int, int]:
    named = {"ids": [id_ for id_, _ in nudged], "subjects": [subject for _, subject in nudged]}
    while True:
        [(left, failed)] = connection.execute(LEFT, named).fetchall()
        if not left or clock() >= until:
            return left, failed
        time.sleep(POLL)
