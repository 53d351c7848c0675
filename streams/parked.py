"""Parked records by hand: list them, drive them again.

Promises: driving again judges the stored bytes by the one admission function and the clock of now; a record
leaves `parked` only after the log has acknowledged its fact, so a crash between makes at worst a duplicate.
Limits: a thousand records at a time, oldest first.
Called by: `heed parked`.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import psycopg.rows

from projections import database
from schemas import admission, errors, settings, topics
from streams import judge, producer

MOST: Final = 1000

LIST: Final = """
select id, reason, detail, type, source, event_id, door, topic, partition, "offset", event_time, parked_at
from heed_read.parked where %(reason)s::text is null or reason = %(reason)s order by id desc limit %(limit)s
"""
OLDEST: Final = """
select id, topic, part, off, door, bytes from parked
where reason = %s and id > %s and door is not null order by id limit %s
"""
GONE: Final = "delete from parked where id = any(%s)"


def find(chosen: settings.Settings, reason: str | None, limit: int) -> list[dict[str, Any]]:
    """Parked records, the newest first."""
    with database.connect(chosen.postgres, "heed_read", "heed parked list") as connection:
        cursor = connection.cursor(row_factory=psycopg.rows.dict_row)
        return cursor.execute(LIST, {"reason": reason, "limit": limit}).fetchall()


def redrive(chosen: settings.Settings, reason: errors.Reason) -> dict[str, int]:
    """Drive every record of a reason again; answers how many went onto the log and how many stay."""
    return asyncio.run(_redrive(chosen, reason))


async def _redrive(chosen: settings.Settings, reason: errors.Reason) -> dict[str, int]:
    out = producer.LogProducer(chosen.kafka, "heed-redrive")
    counts = {"driven": 0, "parked": 0}
    after = 0
    try:
        with database.connect(chosen.postgres, database.OPS_PATH, "heed parked redrive") as connection:
            while rows := connection.execute(OLDEST, (reason, after, MOST)).fetchall():
                after = rows[-1][0]
                facts, driven = _judge(chosen, rows)
                if facts:
                    await out.append(facts)
                    connection.execute(GONE, (driven,))
                counts["driven"] += len(driven)
                counts["parked"] += len(rows) - len(driven)
    finally:
        await out.stop()
    return counts


def _judge(chosen: settings.Settings, rows: list[Any]) -> tuple[list[producer.Record], list[int]]:
    now = datetime.now(UTC)
    facts, driven = [], []
    for id_, topic, part, off, door, raw in rows:
        if topic not in topics.DOORS:
            continue
        outcome = admission.admit(
            bytes(raw), at=now, door=door, homes=chosen.homes, ahead=timedelta(seconds=chosen.ahead_seconds)
        )
        if isinstance(outcome, admission.Admitted):
            facts.append(judge.fact_record(outcome, part, off))
            driven.append(id_)
    return facts, driven
