"""Brakes: chosen workers stand still inside a transaction, at a chosen moment, so that a test can act there.

Promises: the database itself sleeps (a trigger that the test installs), and only in sessions of the worker
named; `wait_at` answers when pg_stat_activity shows the worker there.
Limits: needs a superuser's way in, for the event trigger on the temporary table of COPY.
Called by the tests of frozen and killed workers.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import psycopg
from psycopg.rows import dict_row

from tests import stack


@dataclasses.dataclass(frozen=True)
class Moment:
    """A place inside the fold's transaction: the table whose trigger sleeps, and how the statement begins."""

    name: str
    table: str
    statement: str


COPY = Moment("inside COPY", "incoming", "copy incoming")
CLAIMED = Moment("after the compare-and-set", "heed_data.fact", "with merged as")
WRITTEN = Moment("before COMMIT", "heed_data.engagement", "with computed as")
COMMITTING = Moment("inside COMMIT", "heed_data.engagement, deferred", "COMMIT")
MOMENTS = (COPY, CLAIMED, WRITTEN, COMMITTING)

INSTALL = """
create schema brakes;
grant usage on schema brakes to public;
create table brakes.pressed (worker text primary key, moment text not null, seconds float8 not null);
grant select on brakes.pressed to public;
create function brakes.brake() returns trigger language plpgsql as $$
declare wait float8;
begin
    select seconds into wait from brakes.pressed
        where current_setting('application_name') like worker || ' fold-%' and moment = tg_argv[0];
    if wait is not null then
        perform pg_sleep(wait);
    end if;
    return null;
end $$;
create function brakes.on_stage() returns event_trigger language plpgsql as $$
begin
    if exists (select from pg_event_trigger_ddl_commands() where object_identity = 'pg_temp.incoming') then
        create trigger brake before insert on pg_temp.incoming
            for each statement execute function brakes.brake('inside COPY');
    end if;
end $$;
create event trigger brakes_on_stage on ddl_command_end when tag in ('CREATE TABLE')
    execute function brakes.on_stage();
"""
FIT = """
drop trigger if exists brake on heed_data.fact;
drop trigger if exists brake on heed_data.engagement;
drop trigger if exists brake_at_commit on heed_data.engagement;
create trigger brake before insert on heed_data.fact
    for each statement execute function brakes.brake('after the compare-and-set');
create trigger brake after insert on heed_data.engagement
    for each statement execute function brakes.brake('before COMMIT');
create constraint trigger brake_at_commit after insert or update on heed_data.engagement
    deferrable initially deferred for each row execute function brakes.brake('inside COMMIT');
"""
AT = """
select pid, application_name, state, wait_event_type, wait_event, query, backend_xid is not null as writes,
    clock_timestamp() - query_start as since
from pg_stat_activity
where datname = current_database() and application_name like %s and backend_type = 'client backend'
"""


class Brakes:
    """The brakes of one database. Install them before the workers connect."""

    def __init__(self, servers: stack.Servers, dsn: str) -> None:
        self._dsn = servers.postgres.dsn("postgres", dsn.rpartition("/")[2])
        self._run(INSTALL)
        self.fit()

    def fit(self) -> None:
        """Put the brakes on the tables that are live now; a replay that was swapped in brings others.

        Each is a transaction: none holds two tables, which readers lock in an order of their own.
        """
        for statement in FIT.strip().rstrip(";").split(";"):
            self._run(statement)

    def press(self, worker: str, moment: Moment, seconds: float) -> None:
        """From now on the worker's transactions sleep at this moment."""
        self._run("insert into brakes.pressed values (%s, %s, %s)", worker, moment.name, seconds)

    def release(self, worker: str) -> None:
        self._run("delete from brakes.pressed where worker = %s", worker)

    def wait_at(self, worker: str, moment: Moment, timeout: float = 60) -> dict[str, Any]:
        """Wait until a transaction of the worker sleeps there; answers its line of pg_stat_activity."""
        found: list[dict[str, Any]] = []

        def there() -> bool:
            one = self.at(worker, moment)
            found[:] = [one] if one else []
            return bool(found)

        stack.eventually(there, f"{worker} stands {moment.name}", timeout, 0.01)
        return found[0]

    def sessions(self, worker: str) -> list[dict[str, Any]]:
        """The sessions of the worker's fold lanes."""
        return self._run(AT, f"{worker} fold-%")

    def at(self, worker: str, moment: Moment) -> dict[str, Any] | None:
        """The session of the worker that sleeps at this moment now, if one does."""
        return next(
            (
                one
                for one in self.sessions(worker)
                if one["wait_event"] == "PgSleep"
                and one["query"].strip().lower().startswith(moment.statement.lower())
            ),
            None,
        )

    def session(self, pid: int) -> dict[str, Any] | None:
        return next((one for one in self._run(AT, "%") if one["pid"] == pid), None)

    def _run(self, statement: str, *values: object) -> list[dict[str, Any]]:
        with psycopg.connect(self._dsn, autocommit=True, row_factory=dict_row) as connection:
            cursor = connection.execute(statement.encode(), values or None)
            return cursor.fetchall() if cursor.description is not None else []
