"""Schedules: what is done by the clock, in cron form, by whichever worker comes first (CEE-13).

Promises: each slot fires once however many workers run: it is taken in PostgreSQL, by one statement, before
anything is done. A slot that passed while nobody ran fires once, late, whatever their number; one that
passed before the schedule was ever looked at does not. What a firing came to stands in `heed_ops.schedule`;
one whose worker was killed shows no end. An error of a firing is kept there and stops no worker.
Limits: minutes; in the time zone that is set (`zone`); one firing of a schedule at a time in a process.
Called by: `streams.app` (a thread of each worker); `heed schedules` and the API show.
"""

from __future__ import annotations

import dataclasses
import zoneinfo
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import cronsim
import psycopg

from projections import database
from schemas import errors, metrics, settings
from streams import process, recalculation, refresh, server_loop

LOOK: Final = 1.0

# Purpose: the schedule as this worker has it; a new or changed one begins now, with no slot of the past.
STATE: Final = """
insert into heed_ops.schedule as s (name, cron, slot) values (%(name)s, %(cron)s, %(slot)s)
on conflict (name) do update set cron = excluded.cron, slot = greatest(s.slot, excluded.slot)
where s.cron is distinct from excluded.cron
"""
# Purpose: a slot is taken once: who comes second finds it taken.
TAKE: Final = """
update heed_ops.schedule set slot = %(slot)s, fired_at = clock_timestamp(), ended_at = null, outcome = null,
    owner = %(owner)s
where name = %(name)s and slot < %(slot)s returning slot
"""
ENDED: Final = """
update heed_ops.schedule set ended_at = clock_timestamp(), outcome = %s
where name = %s and slot = %s and owner = %s
"""
SHOW: Final = (
    "select name, cron, slot, fired_at, ended_at, outcome, owner from heed_ops.schedule order by name"
)
# Purpose: PostgreSQL's clock, which all workers share, and the time zone that slots are told in.
NOW: Final = "select clock_timestamp(), coalesce(setting_at('zone', 'infinity'), 'UTC')"

Firing = Callable[[psycopg.Connection], str]


def _refresh_expired(connection: psycopg.Connection) -> str:
    return f"{refresh.run(connection)} rows refreshed"


def _run_queue(connection: psycopg.Connection) -> str:
    ran = recalculation.run(connection)
    return f"{ran.done} done, {ran.failed} failed, {ran.remaining} remaining"


FIRINGS: Final[dict[str, Firing]] = {"refresh-expired": _refresh_expired, "run-queue": _run_queue}


@dataclasses.dataclass(frozen=True, slots=True)
class Schedule:
    """What is done when: its name, and its slots in cron form."""

    name: str
    cron: str

    def last(self, now: datetime, zone: str) -> datetime:
        """The latest slot up to an instant, in UTC."""
        # The iterator leaves out the instant that it starts from.
        there = now.astimezone(zoneinfo.ZoneInfo(zone)).replace(microsecond=0) + timedelta(seconds=1)
        return next(cronsim.CronSim(self.cron, there, reverse=True)).astimezone(UTC)

    def next(self, now: datetime, zone: str) -> datetime:
        """The first slot after an instant, in UTC."""
        there = now.astimezone(zoneinfo.ZoneInfo(zone))
        return next(cronsim.CronSim(self.cron, there)).astimezone(UTC)


def schedules(chosen: settings.Settings) -> list[Schedule]:
    """Every schedule as the settings have it; an empty cron is off."""
    crons = {"refresh-expired": chosen.schedule_refresh_expired, "run-queue": chosen.schedule_run_queue}
    return [Schedule(name, crons[name]) for name in FIRINGS]


class Keeper(server_loop.ServerLoop):
    """Fires one schedule, in a thread of its own, as long as the worker runs."""

    def __init__(self, owner: str, dsn: str, schedule: Schedule) -> None:
        super().__init__(f"schedule {schedule.name}")
        self._owner, self._dsn, self._schedule = owner, dsn, schedule

    def stop(self, seconds: float = 0.0) -> None:
        """Fire no more; a firing under way is left to end with the process."""
        super().stop(seconds)

    def connect(self) -> psycopg.Connection:
        connection = recalculation.connect(self._dsn, f"{self._owner} {self._schedule.name}")
        state(connection, self._schedule)
        return connection

    def look(self, connection: psycopg.Connection) -> float:
        if self._schedule.cron:
            self._fire(connection)
        return LOOK

    def _fire(self, connection: psycopg.Connection) -> None:
        """Do what is due, if nobody else has taken its slot."""
        slot = self._schedule.last(*clock(connection))
        if not take(connection, self._schedule.name, slot, self._owner):
            return
        try:
            outcome = FIRINGS[self._schedule.name](connection)
        except (errors.HeedError, psycopg.Error) as error:
            if isinstance(error, psycopg.Error) and database.is_away(error):
                raise
            outcome = f"{type(error).__name__}: {process.told(error)}"
        metrics.SCHEDULED.labels(schedule=self._schedule.name).inc()
        connection.execute(ENDED, (outcome, self._schedule.name, slot, self._owner))
        self._log.info("fired", slot=slot.isoformat(), outcome=outcome)


def state(connection: psycopg.Connection, schedule: Schedule) -> None:
    """Say what the schedule is from now on; slots that have passed are not fired for it."""
    now, zone = clock(connection)
    slot = schedule.last(now, zone) if schedule.cron else now
    connection.execute(STATE, {"name": schedule.name, "cron": schedule.cron, "slot": slot})


def take(connection: psycopg.Connection, name: str, slot: datetime, owner: str) -> bool:
    """Whether this slot is ours to fire; nobody else's then."""
    named = {"name": name, "slot": slot, "owner": owner}
    return bool(connection.execute(TAKE, named).fetchall())


def clock(connection: psycopg.Connection) -> tuple[datetime, str]:
    """Now, and the time zone that slots are told in."""
    [(now, zone)] = connection.execute(NOW).fetchall()
    return now, zone


def show(connection: psycopg.Connection) -> list[dict[str, Any]]:
    """Every schedule with its last slot and firing, and the next slot; one that is off has none."""
    now, zone = clock(connection)
    shown = []
    for name, cron, slot, fired, ended, outcome, owner in connection.execute(SHOW).fetchall():
        shown.append({
            "name": name, "cron": cron or None, "last_slot": slot if fired else None, "fired_at": fired,
            "ended_at": ended, "outcome": outcome, "owner": owner,
            "next_slot": Schedule(name, cron).next(now, zone) if cron else None,
        })  # fmt: skip
    return shown
