"""Bring a database to this version of Heed's tables.

Promises: idempotent; one at a time (an advisory lock), so that every worker may call it; nothing half-made
(one transaction). Workers may fold meanwhile: what it locks, it waits for only a moment, and tries again, so
that nobody stands behind it while it stands behind a dashboard's long query. The first values of the rules
come from the settings, once.
Limits: PostgreSQL 15 and later.
Called by: `heed migrate`, tests.
"""

from __future__ import annotations

import random
import time
from pathlib import Path

import psycopg
import sqlalchemy
from alembic import command
from alembic.config import Config

from projections.migrations import sql
from schemas import errors, settings

LOCK = 0x4EED_0001
MINIMUM = 150000
LOCK_WAIT = "300ms"  # how long others may stand behind an attempt
PATIENCE = 120.0  # seconds of attempts


def upgrade(dsn: str, chosen: settings.Settings | None = None) -> None:
    """Create or upgrade the schemas; raises `errors.Away` when the server cannot be reached."""
    chosen = chosen or settings.Settings.load({})
    engine = sqlalchemy.create_engine(sqlalchemy_url(dsn), poolclass=sqlalchemy.NullPool)
    until = time.monotonic() + PATIENCE
    try:
        while not _attempt(engine, chosen):
            if time.monotonic() > until:
                raise errors.Away(
                    f"Another session has held Heed's tables for {PATIENCE:.0f} s: see pg_stat_activity for "
                    "the oldest transaction, end it or wait for it, and run `heed migrate` again."
                )
            time.sleep(random.uniform(0.2, 0.6))
    except sqlalchemy.exc.OperationalError as error:
        raise errors.Away(f"PostgreSQL cannot be reached or refused: {error.orig}") from error
    finally:
        engine.dispose()


def _attempt(engine: sqlalchemy.Engine, chosen: settings.Settings) -> bool:
    """The whole upgrade in one transaction; False when somebody held what it needs to lock."""
    try:
        with engine.begin() as connection:
            connection.execute(sqlalchemy.text(f"set local lock_timeout = '{LOCK_WAIT}'"))
            _require_version(connection)
            connection.execute(sqlalchemy.text("select pg_advisory_xact_lock(:k)"), {"k": LOCK})
            _roles(connection)
            for schema in (sql.OPS, sql.LIVE.data, sql.LIVE.read):
                connection.execute(sqlalchemy.text(f"create schema if not exists {schema}"))
            config = Config()
            config.set_main_option("script_location", str(Path(__file__).parent))
            config.set_main_option("path_separator", "os")
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            connection.exec_driver_sql(sql.activity_kinds(sql.LIVE))
            connection.execute(
                sqlalchemy.text(
                    "update heed_data.generation set live = true, revision = :r "
                    "where not live or revision <> :r"
                ),
                {"r": sql.revisions()[-1]},
            )
            connection.execute(
                sqlalchemy.text(
                    "insert into heed_data.rule (period_months, keep_row_without_clicks) "
                    "values (:months, :keep) on conflict do nothing"
                ),
                {"months": chosen.engagement_period_months, "keep": chosen.keep_row_without_clicks},
            )
    except sqlalchemy.exc.OperationalError as error:
        if isinstance(error.orig, psycopg.errors.LockNotAvailable):
            return False
        raise
    return True


def sqlalchemy_url(dsn: str) -> str:
    """The DSN (`postgresql://…`) as SQLAlchemy wants it, for psycopg 3."""
    scheme, _, rest = dsn.partition("://")
    if scheme not in ("postgresql", "postgres"):
        raise errors.Usage("HEED_POSTGRES takes a URL such as postgresql://user@127.0.0.1:5432/heed")
    return f"postgresql+psycopg://{rest}"


def _require_version(connection: sqlalchemy.Connection) -> None:
    found = int(connection.execute(sqlalchemy.text("show server_version_num")).scalar_one())
    if found < MINIMUM:
        raise errors.Usage(f"Heed needs PostgreSQL 15 or later; this server is {found // 10000}: upgrade it.")


def _roles(connection: sqlalchemy.Connection) -> None:
    connection.execute(
        sqlalchemy.text(
            """do $$ begin
            if not exists (select from pg_roles where rolname = 'heed_dashboard') then
                create role heed_dashboard login;
                alter role heed_dashboard set statement_timeout = '30s';
                alter role heed_dashboard set timezone = 'UTC';
                alter role heed_dashboard set default_transaction_read_only = on;
            end if; end $$"""
        )
    )
