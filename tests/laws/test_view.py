"""What dashboards read: never a value past its time, and the same instants from any zone."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from tests import oracle
from tests.laws import generator, world
from tests.oracle import database

MS = timedelta(milliseconds=1)
MONTHS = 48  # every day has one like it so many months before
AT_NOW = f"heed_data.engagement_at(array[s.contact_id], '{generator.NOW.isoformat()}', 'infinity') e"


def in_utc(value: Any) -> Any:
    return value.astimezone(UTC) if isinstance(value, datetime) else value


@pytest.mark.capability("CEE-8")
def test_by_the_real_clock_it_follows_every_end_of_a_window(
    worker: world.Worker, observer: world.Observer, module_database: str
) -> None:
    """Timers off: the stored rows grow old while the view is read, as fast as it can be."""
    worker.timers = False
    observer.rule(MONTHS, keep=False)
    now = datetime.now(UTC)
    now = now.replace(microsecond=now.microsecond // 1000 * 1000)
    told = []
    for number in range(60):
        end = now + (150 + 10 * number) * MS
        told.append(
            world.click(
                end.replace(year=end.year - 4), f"c{number % 7}", f"m{number % 5}", id=f"click {number}"
            )
        )
        told.append(
            world.delivery(end - timedelta(days=30), f"c{number % 7}", f"m{number % 3}", id=f"told {number}")
        )
    for envelope in told:
        worker.log.tell(envelope)
    worker.advance()
    seen = set()
    while datetime.now(UTC) < now + 900 * MS:
        shown = database.snapshot(module_database).shown
        for contact, one in shown.items():
            at = one.date_calculated
            assert one.row == oracle.expected(told, at, MONTHS).get(contact)
            assert one.recency == oracle.recency(one.row, at)
            seen.add(one.row)
        time.sleep(0.005)
    assert len(seen) > 20
    assert database.snapshot(module_database).shown == {}
    assert len(observer.rows()) == 7, "the table is as the last transaction left it"


def test_a_session_in_new_york_reads_the_same_instants(
    worker: world.Worker, observer: world.Observer, module_database: str
) -> None:
    ledger = generator.seeded(5, size=400).ledger
    for envelope in ledger:
        worker.log.tell(envelope)
    worker.advance(at=generator.NOW)
    questions = (
        f"select {world.STORED} from heed_read.contact_engagement order by 1",
        "select * from heed_data.engagement order by 1",
        "select subject, id, time, accepted from heed_data.fact order by 1, 2, 3",
        f"select e.* from heed_data.engagement s, {AT_NOW} order by 1",
    )
    with psycopg.connect(module_database, options="-c timezone=America/New_York") as there:
        assert there.execute("show timezone").fetchall() == [("America/New_York",)]
        for question in questions:
            # Compared in one zone: to Python an hour that comes twice equals nothing of another zone.
            found = [tuple(map(in_utc, line)) for line in there.execute(question.encode()).fetchall()]
            assert found == observer.all(question)
            assert found
    assert {line[0]: oracle.Row(*line) for line in observer.all(questions[0])} == oracle.expected(
        ledger, generator.NOW
    )
    assert {line[0]: oracle.Row(*line[:7]) for line in observer.all(questions[3])} == oracle.expected(
        ledger, generator.NOW
    )
