"""The final state of a run, at rest: the log, the facts kept, the rows, the commands.

Promises: read with plain clients, none of Heed's code; everything of the database in one snapshot.
Limits: holds it all in memory. Called by: `tests.soak.__main__`.
"""

from __future__ import annotations

import json

import orjson
import psycopg

from tests.oracle import broker, instants, model
from tests.soak import checker

KEPT = "select subject, source, id, (extract(epoch from time) * 1000)::bigint from heed_data.fact"
ROWS = """
select date_calculated, contact_id, date_first_click, date_last_click, frequency, volume,
    volume_last_30, period_months
from heed_read.contact_engagement
"""
NOW = "select date_trunc('milliseconds', statement_timestamp())"


def state(bootstrap: str, dsn: str) -> checker.State:
    """Everything that the checker needs, of a stack at rest."""
    log = [
        (record.partition, record.offset, model.read(orjson.loads(record.value)))
        for record in broker.records(bootstrap, "facts")
    ]
    with psycopg.connect(dsn) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.execute("set local time zone 'UTC'")
        kept = [((s, source, id), time) for s, source, id, time in connection.execute(KEPT.encode())]
        found = connection.execute(ROWS.encode()).fetchall()
        [(asked,)] = connection.execute(NOW.encode()).fetchall()
        at = found[0][0] if found else asked
        rows = {line[1]: model.Row(*line[1:]) for line in found}
    return checker.State(at, log, kept, rows, commands(bootstrap))


def commands(bootstrap: str) -> list[tuple[str, int, str]]:
    found = []
    for record in broker.records(bootstrap, "commands"):
        told = json.loads(record.value)
        found += [
            (item["contact_id"], instants.instant(item["due"]), told["id"]) for item in told["data"]["items"]
        ]
    return found
