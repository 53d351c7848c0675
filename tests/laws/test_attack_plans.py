"""Plans that must not grow with the tables: what a lane asks ten times a second, what each batch asks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

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
    md5(g::text)::uuid, now(), false, 0, g, 'm', null, '{}' from generate_series(1, 8000) g
"""
FACTS = """
insert into fact select 'contact:c' || g % 5000, md5(g::text)::uuid, 's', g::text, 'mail.clicked',
    now() - g * interval '1 s', 1, md5(g::text)::uuid, now(), false, 0, g, 'm', null, repeat('x', 400)
from generate_series(1, 100000) g
"""
LINKS = """
insert into registry select 'session:s' || g, md5(g::text)::uuid, 's', g::text, 'session.linked',
    now() - g * interval '1 s', 1, md5(g::text)::uuid, now(), null, g, 'contact:c' || g, null,
    to_jsonb(repeat('x', 400))
from generate_series(1, 100000) g
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
        plan = _plan(connection, asked.replace("%(since)s", "'2020-01-01'"))
        [bounds] = [line for line in plan.splitlines() if "Index Cond" in line and "valid_until" in line]
        assert "valid_until <= statement_timestamp()" in bounds, plan
        assert "valid_until >= '2020-01-01" in bounds, plan


def test_a_look_does_not_pass_over_what_was_taken_before(database: str) -> None:
    """A long snapshot keeps the index entries of rows that went: each look passed over all of them."""
    due = datetime(2026, 1, 1, tzinfo=UTC)
    homes = frozenset({0})
    with _connected(database) as connection, _connected(database) as reader:
        connection.execute(
            "insert into engagement select 'c' || i, 0, %(due)s, %(due)s, 1, 1, 0, 12, "
            "%(due)s::timestamptz + i * interval '1 ms' from generate_series(1, 20000) i",
            {"due": due},
        )
        connection.execute("analyze engagement")
        with reader.transaction():
            reader.execute("set transaction isolation level repeatable read")
            reader.execute("select from engagement limit 1")
            connection.execute("delete from engagement where contact_id <> 'c20000'")
            front = engagement.Front()
            assert _touched(connection, front.begin(homes)) > 200
            front = front.moved(homes, front.begin(homes), due + timedelta(seconds=19), [])
            assert _touched(connection, front.begin(homes)) < 30


def _touched(connection: psycopg.Connection, since: datetime) -> int:
    """Pages that a look for due rows touches."""
    asked = engagement.DUE.replace("%(homes)s", HOMES).replace("%(since)s", f"'{since.isoformat()}'")
    asked = asked.replace("%(at)s", "'2026-01-01 00:00:19+00'").replace("%(most)s", "1000")
    return _pages(connection, asked)


def test_a_look_begins_where_the_last_one_ended_and_at_the_start_from_time_to_time() -> None:
    at, homes = datetime(2026, 1, 1, tzinfo=UTC), frozenset({0, 2})
    full = [("c", 0, at)] * engagement.MOST
    front = engagement.Front().moved(homes, engagement.FIRST, at + timedelta(hours=1), full)
    assert front.begin(homes) == at, "there are more: from the last that was taken"
    front = engagement.Front().moved(homes, engagement.FIRST, at, full[1:])
    assert front.begin(homes) == front.sweep(homes, at + engagement.SWEEP / 2) == at
    assert front.begin(frozenset({0})) == engagement.FIRST, "other homes: nothing is known of them"
    assert front.sweep(homes, at + engagement.SWEEP) == engagement.FIRST
    on = front.moved(homes, at, at + engagement.SWEEP / 2, [])
    assert on.sweep(homes, at + engagement.SWEEP) == engagement.FIRST, "only a look from the start is a sweep"


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


@pytest.mark.parametrize(
    "grown", [False, True], ids=["planned while it is small", "planned when it has grown"]
)
@pytest.mark.parametrize(
    ("table", "filled", "asked"),
    [
        ("fact", FACTS, "select * from engagement_at(array['c5'], now(), 'infinity')"),
        ("registry", LINKS, "select link_at('session:s5', 'infinity')"),
    ],
)
def test_one_contact_reads_what_is_its_own_alone(
    connection: psycopg.Connection, table: str, filled: str, asked: str, grown: bool
) -> None:
    """By a table that nobody has analysed yet: an index by time then was read whole for every contact."""
    with connection:
        connection.execute("set plan_cache_mode = force_generic_plan")
        connection.execute(f"alter table {table} set (autovacuum_enabled = off)".encode())
        connection.execute(f"prepare asked as {asked}".encode())
        if not grown:
            connection.execute("execute asked")
        connection.execute(filled)
        connection.execute("execute asked")  # what is planned inside of a function is planned now
        assert _pages(connection, "execute asked") < 60


def _pages(connection: psycopg.Connection, statement: str) -> int:
    """Pages that a statement touches."""
    found = connection.execute(f"explain (analyze, buffers, format json) {statement}".encode()).fetchone()
    assert found is not None
    plan = found[0][0]["Plan"]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])
