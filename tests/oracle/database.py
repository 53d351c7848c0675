"""What Heed's database holds, read in one snapshot with plain SQL.

Promises: rows, positions, nudges and parked records of one instant (REPEATABLE READ, read only), so that the
set of facts behind the rows is exactly known, also while traffic flows.

Limits: holds all rows in memory.

Called by `oracle.__main__` and by the fault tests.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import psycopg
from psycopg.rows import class_row

from tests.oracle.model import CONTACT, Row, Rule


@dataclass(frozen=True, slots=True)
class Stored:
    """A row as it stands in the table, right until (not at) `valid_until`."""

    row: Row
    home: int
    valid_until: datetime | None


@dataclass(frozen=True, slots=True)
class Shown:
    """A row as the view answers it at `date_calculated`."""

    row: Row
    recency: int | None
    date_calculated: datetime


@dataclass(frozen=True, slots=True)
class Snapshot:
    at: datetime
    rule: Rule
    positions: dict[tuple[str, int], int]
    stored: dict[str, Stored]
    shown: dict[str, Shown]
    nudged: frozenset[str]
    parked: dict[tuple[str, int, int], str]


def snapshot(dsn: str) -> Snapshot:
    """Everything of one instant; psycopg.Error when the database does not answer."""
    with psycopg.connect(dsn) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        connection.execute("set local time zone 'UTC'")
        [(at,)] = connection.execute("select clock_timestamp()").fetchall()
        return Snapshot(
            at=at,
            rule=_rule(connection),
            positions=_positions(connection),
            stored=_stored(connection),
            shown=_shown(connection),
            nudged=_nudged(connection),
            parked=_parked(connection),
        )


def wait_past(dsn: str, ends: dict[tuple[str, int], int], deadline: float) -> bool:
    """Whether the readers of these partitions come to these offsets in time (of `time.monotonic`)."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        return _until(
            deadline, lambda: all(_positions(connection).get(at, 0) >= end for at, end in ends.items())
        )


def wait_for_nudges(dsn: str, deadline: float) -> bool:
    """Whether every nudge is taken in time (of `time.monotonic`)."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        return _until(deadline, lambda: not _nudged(connection))


def _until(deadline: float, holds: Callable[[], bool]) -> bool:
    while not (held := holds()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return held


def _positions(connection: psycopg.Connection) -> dict[tuple[str, int], int]:
    found = connection.execute(
        """
        select topic, part, next_offset from heed_data.position where reader = 'fold'
         union all
        select topic, part, next_offset from heed_ops.position where reader = 'intake'
        """
    )
    return {(topic, part): offset for topic, part, offset in found}


def _rule(connection: psycopg.Connection) -> Rule:
    with connection.cursor(row_factory=class_row(Rule)) as cursor:
        return cursor.execute("select period_months, keep_row_without_clicks from heed_data.rule").fetchall()[
            0
        ]


def _stored(connection: psycopg.Connection) -> dict[str, Stored]:
    found = connection.execute(
        """
        select contact_id, date_first_click, date_last_click, frequency, volume, volume_last_30,
               period_months, home, valid_until
          from heed_data.engagement
        """
    )
    return {line[0]: Stored(Row(*line[:7]), line[7], line[8]) for line in found}


def _shown(connection: psycopg.Connection) -> dict[str, Shown]:
    found = connection.execute(
        """
        select contact_id, date_first_click, date_last_click, frequency, volume, volume_last_30,
               period_months, recency, date_calculated
          from heed_read.contact_engagement
        """
    )
    return {line[0]: Shown(Row(*line[:7]), line[7], line[8]) for line in found}


def _nudged(connection: psycopg.Connection) -> frozenset[str]:
    found = connection.execute("select distinct subject from heed_data.nudge")
    return frozenset(subject.removeprefix(CONTACT) for (subject,) in found)


def _parked(connection: psycopg.Connection) -> dict[tuple[str, int, int], str]:
    found = connection.execute(
        'select topic, partition, "offset", reason from heed_read.parked where topic is not null'
    )
    return {(topic, part, offset): reason for topic, part, offset, reason in found}
