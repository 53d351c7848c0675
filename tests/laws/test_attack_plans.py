"""Plans that must not grow with the tables: what a lane asks ten times a second, what each batch asks."""

from __future__ import annotations

import psycopg
import pytest

from projections import database, engagement, facts, nudges

HOMES = "'{0,2,4,6}'"
MANY = """
insert into engagement select 'c' || g, g %% 8, now(), now(), 1, 1, 1, 12, now() + interval '1 day'
from generate_series(1, 20000) g
"""
STAGED = """
insert into incoming select 'contact:' || g, md5(g::text)::uuid, 's', g::text, 'mail.clicked', now(), 1,
    md5(g::text)::uuid, now(), false, 0, g, 'm', '{}' from generate_series(1, 8000) g
"""


@pytest.fixture
def connection(database: str) -> psycopg.Connection:
    return _connected(database)


def _connected(dsn: str) -> psycopg.Connection:
    return database.connect(dsn, database.LIVE_PATH, "plans")


def _plan(connection: psycopg.Connection, statement: str) -> str:
    return "\n".join(row[0] for row in connection.execute(f"explain {statement}".encode()).fetchall())


def test_an_idle_lane_asks_the_index_whether_something_is_due(connection: psycopg.Connection) -> None:
    """A volatile clock read every row of its homes, ten times a second: 0.2 s for 200,000 of them."""
    with connection:
        connection.execute(MANY.replace("%%", "%").encode())
        connection.execute("analyze engagement")
        asked = f"select {nudges.WAITING} or {engagement.WAITING}".replace("%(homes)s", HOMES)
        plan = _plan(connection, asked)
        assert "valid_until <= statement_timestamp()))" in plan.partition("Index Cond")[2], plan


def test_counting_conflicts_looks_each_fact_up(connection: psycopg.Connection) -> None:
    """Planned while `fact` is small and kept: a hash join then read the whole table with every batch."""
    with connection:
        facts.prepare(connection)
        with connection.transaction():
            connection.execute(STAGED)
            connection.execute(facts.MERGE)
            plan = _plan(connection, facts.CONFLICTING)
            assert "Hash" not in plan and "Merge" not in plan, plan
            assert "fact_once" in plan, plan
            assert connection.execute(facts.CONFLICTING).fetchone() == (0,)
