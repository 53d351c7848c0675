"""The schemas as the migrations leave them: commented, the same under any names, shut to dashboards."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import psycopg
import pytest

from projections import database, tables
from projections.migrations import apply, sql
from schemas import errors, settings
from tests import stack

SHADOW = sql.Pair("trial_data", "trial_read")
VIEWS = {
    "activity": "contact contact_id time type action feature text status actor event_type source event_id"
    " subject",
    "contact_engagement": "contact_id date_first_click date_last_click recency frequency volume"
    " volume_last_30 period_months date_calculated",
    "freshness": "projection topic partition as_of log_end log_end_at lag_records lag_seconds owner_state",
    "parked": "id reason detail type source event_id door topic partition offset event_time parked_at",
}
EVERYTHING = """
select c.relkind::text, c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
    col_description(c.oid, a.attnum), obj_description(c.oid)
from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
where c.relnamespace = %s::regnamespace and c.relkind in ('r', 'v', 'i')
order by 1, 2, 3
"""


@pytest.fixture
def connection(module_database: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(module_database, autocommit=True) as connection:
        yield connection


@pytest.fixture
def dashboard(module_database: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(
        module_database.replace("//heed@", "//heed_dashboard@"), autocommit=True
    ) as connection:
        yield connection


def build(connection: psycopg.Connection, names: sql.Pair) -> None:
    connection.execute(f"create schema {names.data}; create schema {names.read}".encode())
    for revision in sql.revisions():
        for statement in sql.pair(revision, names):
            connection.execute(statement.encode())


def everything(connection: psycopg.Connection, names: sql.Pair) -> list[tuple[object, ...]]:
    """Tables, views and indexes with their columns, and the functions, of a pair, without its names."""
    found: list[tuple[object, ...]] = []
    for schema in (names.data, names.read):
        found += connection.execute(EVERYTHING, (schema,)).fetchall()
        functions = (
            "select proname, pg_get_functiondef(oid) from pg_proc where pronamespace = %s::regnamespace"
        )
        views = "select viewname, definition from pg_views where schemaname = %s"
        for name, text in [
            *connection.execute(functions, (schema,)).fetchall(),
            *connection.execute(views, (schema,)).fetchall(),
        ]:
            found.append((name, text.replace(names.data, "data").replace(names.read, "read")))
    return sorted(found, key=repr)


def test_a_second_upgrade_changes_nothing(module_database: str, connection: psycopg.Connection) -> None:
    before = everything(connection, sql.LIVE)
    connection.execute("update heed_data.rule set period_months = 24")
    apply.upgrade(module_database, settings.Settings.load({"HEED_ENGAGEMENT_PERIOD_MONTHS": "6"}))
    assert everything(connection, sql.LIVE) == before
    assert connection.execute("select period_months from heed_data.rule").fetchall() == [(24,)]
    connection.execute("update heed_data.rule set period_months = 12")


def test_workers_that_start_together_migrate_once(servers: stack.Servers) -> None:
    dsn = servers.make_empty_database()
    wrong: list[BaseException] = []

    def upgrade() -> None:
        try:
            apply.upgrade(dsn)
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=upgrade) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []
    with psycopg.connect(dsn) as connection:
        assert connection.execute("select count(*) from heed_data.rule").fetchall() == [(1,)]
    servers.drop_database(dsn)


@pytest.mark.capability("CEE-6")
def test_the_first_values_of_the_rules_come_from_the_settings(servers: stack.Servers) -> None:
    dsn = servers.make_empty_database()
    chosen = {"HEED_ENGAGEMENT_PERIOD_MONTHS": "24", "HEED_KEEP_ROW_WITHOUT_CLICKS": "on"}
    apply.upgrade(dsn, settings.Settings.load(chosen))
    with psycopg.connect(dsn) as connection:
        found = connection.execute(
            "select period_months, keep_row_without_clicks from heed_data.rule"
        ).fetchall()
    assert found == [(24, True)]
    servers.drop_database(dsn)


def test_a_server_that_is_not_there_is_away() -> None:
    with pytest.raises(errors.Away):
        apply.upgrade("postgresql://heed@127.0.0.1:9/heed?connect_timeout=2")


def test_a_pair_of_other_names_is_the_same(connection: psycopg.Connection) -> None:
    build(connection, SHADOW)
    try:
        assert everything(connection, SHADOW) == everything(connection, sql.LIVE)
        live = (
            "select count(*) from pg_depend d join pg_rewrite r on r.oid = d.objid join pg_class v on v.oid ="
        )
        refers = (
            f"{live} r.ev_class join pg_class t on t.oid = d.refobjid where v.relnamespace = %s::regnamespace"
        )
        found = connection.execute(
            f"{refers} and t.relnamespace = 'heed_data'::regnamespace".encode(), (SHADOW.read,)
        ).fetchall()
        assert found == [(0,)], "a shadow's views read nothing live"
    finally:
        connection.execute(f"drop schema {SHADOW.read} cascade; drop schema {SHADOW.data} cascade".encode())


def test_only_heed_read_refers_to_heed_data(connection: psycopg.Connection) -> None:
    """A view elsewhere would go on reading the old tables after a rename."""
    found = connection.execute(
        """select distinct v.relnamespace::regnamespace::text from pg_depend d
        join pg_rewrite r on r.oid = d.objid join pg_class v on v.oid = r.ev_class
        join pg_class t on t.oid = d.refobjid
        where t.relnamespace = 'heed_data'::regnamespace and v.relnamespace <> t.relnamespace"""
    ).fetchall()
    assert found == [("heed_read",)]


def test_views_have_the_columns_that_others_rely_on(connection: psycopg.Connection) -> None:
    found = connection.execute(
        """select c.relname, string_agg(a.attname, ' ' order by a.attnum) from pg_class c
        join pg_attribute a on a.attrelid = c.oid and a.attnum > 0
        where c.relnamespace = 'heed_read'::regnamespace and c.relkind = 'v' group by 1"""
    ).fetchall()
    assert dict(found) == VIEWS


def test_every_view_and_column_says_what_it_is(connection: psycopg.Connection) -> None:
    found = connection.execute(EVERYTHING, ("heed_read",)).fetchall()
    assert found
    silent = [(view, column) for _, view, column, _, _, said, of_view in found if not said or not of_view]
    assert silent == []


def test_ids_are_in_the_order_of_their_bytes(connection: psycopg.Connection) -> None:
    """In whatever language the database sorts: the latest of two facts of one instant hangs on it."""
    found = connection.execute(
        """select a.attname, l.collname from pg_attribute a join pg_collation l on l.oid = a.attcollation
        where a.attrelid = 'heed_data.fact'::regclass and a.attname in ('id', 'source', 'subject')
        order by 1"""
    ).fetchall()
    assert found == [("id", "C"), ("source", "C"), ("subject", "C")]


def test_the_tables_in_python_are_those_in_the_database(connection: psycopg.Connection) -> None:
    for name in tables.METADATA.tables.values():
        found = connection.execute(
            """select attname::text from pg_attribute
            where attrelid = %s::regclass and attnum > 0 and not attisdropped""",
            (f"{name.schema}.{name.name}",),
        ).fetchall()
        assert {column.name for column in name.columns} <= {column for (column,) in found}


@pytest.mark.parametrize("view", sorted(VIEWS))
def test_a_dashboard_reads_every_view(
    dashboard: psycopg.Connection, connection: psycopg.Connection, view: str
) -> None:
    """Also a row past its time, which the view computes from facts that a dashboard may not see."""
    connection.execute(
        """insert into heed_data.engagement
        values ('ada', 0, now(), now(), 1, 0, 0, 12, now() - interval '1 s')"""
    )
    dashboard.execute(f"select * from heed_read.{view}".encode()).fetchall()
    connection.execute("delete from heed_data.engagement")


def test_a_dashboard_reads_nothing_else(
    dashboard: psycopg.Connection, connection: psycopg.Connection
) -> None:
    names = connection.execute(
        "select schemaname || '.' || tablename from pg_tables where schemaname in ('heed_data', 'heed_ops')"
    ).fetchall()
    assert len(names) > 8
    for (name,) in names:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            dashboard.execute(f"select * from {name}".encode())
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        dashboard.execute("select * from heed_data.engagement_at(array['ada'], now(), 'infinity')")


@pytest.mark.parametrize(
    "statement",
    [
        "insert into heed_data.nudge (home, subject, reason) values (0, 'contact:ada', 'x')",
        "update heed_data.engagement set frequency = 9",
        "delete from heed_ops.parked",
        "delete from heed_read.parked",
        "update heed_read.contact_engagement set frequency = 9",
        "create table heed_read.mine (x int)",
        "create table public.mine (x int)",
        "create schema mine",
        "truncate heed_data.fact",
    ],
)
def test_a_dashboard_writes_nothing(dashboard: psycopg.Connection, statement: str) -> None:
    refused = (psycopg.errors.ReadOnlySqlTransaction, psycopg.errors.InsufficientPrivilege)
    with pytest.raises((*refused, psycopg.errors.ObjectNotInPrerequisiteState)):
        dashboard.execute(statement.encode())
    dashboard.execute("set default_transaction_read_only = off")
    with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.ObjectNotInPrerequisiteState)):
        dashboard.execute(statement.encode())


def test_a_dashboard_works_in_utc_and_within_bounds(dashboard: psycopg.Connection) -> None:
    assert dashboard.execute("show timezone").fetchall() == [("UTC",)]
    assert dashboard.execute("show statement_timeout").fetchall() == [("30s",)]
    assert dashboard.execute("show default_transaction_read_only").fetchall() == [("on",)]


def test_every_connection_of_ours_works_in_utc(module_database: str) -> None:
    with database.connect(module_database, database.LIVE_PATH, "a test") as connection:
        assert connection.execute("show timezone").fetchall() == [("UTC",)]
