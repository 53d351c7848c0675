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
from streams import nudging

SECONDS: Final = 30.0
STEP: Final = 5000

NOW: Final = "select date_trunc('milliseconds', clock_timestamp())"
NUDGE: Final = """
insert into nudge (home, subject, reason)
select home, 'contact:' || contact_id, 'expired' from engagement e
where valid_until <= %s and not exists (select from nudge n where n.subject = 'contact:' || e.contact_id
    and (n.reason = 'expired' or n.error is not null))
order by home, valid_until limit %s returning id, subject
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
    stopping: Callable[[], bool] = lambda: False,
) -> int:
    """Have the owners look at every row that is due now; answers how many they have brought.

    Blocks for at most so many seconds; raises `Behind` when they take longer.
    """
    until = clock() + seconds
    refreshed = 0
    now = _now(connection)
    while True:
        nudged: dict[int, str] = dict(connection.execute(NUDGE, (now, STEP)).fetchall())
        if not nudged:
            return refreshed
        waited = nudging.wait(connection, nudged, until, clock=clock, stopping=stopping)
        refreshed += len(nudged) - len(waited.left) - len(waited.failed)
        if waited.left:
            raise Behind(refreshed)


def _now(connection: psycopg.Connection) -> datetime:
    [(now,)] = connection.execute(NOW).fetchall()
    moment: datetime = now
    return moment
