"""A replay is killed in each of its phases, beside traffic; and dashboards that stay long look on.

What was killed is gone on with by the next `heed replay`; nobody else notices, and every row is right.
"""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from tests import cluster as clusters
from tests import stack, traffic
from tests.faults import test_kills
from tests.integration import test_cli
from tests.laws import generator

# Where a replay is killed: the table whose trigger sleeps, or the kind of statement, told apart by its text.
PLACES = {
    "while facts are copied": "fact",
    "while indexes are built": "CREATE INDEX",
    "while rows are brought": "engagement",
    "while positions are taken over": "position",
    "after the names are changed, before the commit": "ALTER SCHEMA",
    "after the commit, before the positions are open": "heed_news",
}
SLEEPING = """
create schema brakes;
grant usage on schema brakes to public;
create table brakes.pressed (place text primary key);
grant select on brakes.pressed to public;
create function brakes.sleep(place text) returns void language plpgsql as $$ begin
    if exists (select from brakes.pressed p where p.place = sleep.place)
        and current_setting('application_name') like 'heed replay%' then
        -- Whoever copies has sent more than was read, so that his end is not seen before the rest is read.
        for second in 1..60 loop
            perform pg_sleep(case when place = 'fact' then 1 else 60 end);
            exit when place <> 'fact' or not exists (select from brakes.pressed);
        end loop;
    end if;
end $$;
create function brakes.on_insert() returns trigger language plpgsql as $$ begin
    if to_regclass('heed_data_next.replay') is not null and (tg_table_name <> 'position'
        or current_setting('application_name') = 'heed replay swap') then
        perform brakes.sleep(tg_table_name);
    end if;
    return null;
end $$;
create function brakes.on_table() returns event_trigger language plpgsql as $$
declare made record;
begin
    for made in select object_identity from pg_event_trigger_ddl_commands() loop
        if made.object_identity in
            ('heed_data_next.fact', 'heed_data_next.engagement', 'heed_data_next."position"') then
            execute 'create trigger brake before insert on ' || made.object_identity
                || ' for each statement execute function brakes.on_insert()';
        elsif made.object_identity = 'pg_temp.heed_news' then
            perform brakes.sleep('heed_news');
        end if;
    end loop;
end $$;
create event trigger on_table on ddl_command_end when tag in ('CREATE TABLE')
    execute function brakes.on_table();
create function brakes.on_other() returns event_trigger language plpgsql as $$ begin
    if tg_tag = 'ALTER SCHEMA' or to_regclass('heed_data_next.replay') is not null then
        perform brakes.sleep(tg_tag);
    end if;
end $$;
create event trigger on_other on ddl_command_end when tag in ('CREATE INDEX', 'ALTER SCHEMA')
    execute function brakes.on_other();
"""
ASLEEP = """
select 1 as one from pg_stat_activity where datname = current_database()
    and application_name like 'heed replay%%' and wait_event = 'PgSleep'
"""


def start(cluster: clusters.Cluster) -> stack.Process:
    return cluster.launch.heed("replay", env=test_cli._env(cluster), name="replay")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.capability("LAW-2", "LAW-4")
@pytest.mark.parametrize("place", PLACES)
def test_a_replay_killed_in_each_phase_is_gone_on_with(
    workers: Callable[..., clusters.Cluster], mortal: stack.Servers, fresh: str, place: str
) -> None:
    admin = mortal.postgres.dsn("postgres", fresh.rpartition("/")[2])
    with psycopg.connect(admin, autocommit=True) as sql:
        sql.execute(SLEEPING)
        sql.execute("insert into brakes.pressed values (%s)", (PLACES[place],))
        cluster = workers(*clusters.THREE)
        events = test_kills._events(12_000, "replay")
        with traffic.Traffic(cluster.bootstrap, events[:8000], 2000) as load:
            load.finish()
        cluster.settle()
        with traffic.Traffic(cluster.bootstrap, events[8000:], 400) as load:
            killed = start(cluster)
            stack.eventually(lambda: bool(cluster.sql(ASLEEP)), f"it stands {place}", 120, 0.05)
            killed.kill()
            sql.execute("delete from brakes.pressed")
            stack.eventually(lambda: not cluster.sql(ASLEEP), "its sessions end", 30)
            again = start(cluster)
            code = again.exit(300)
            said = "\n".join(again.lines)
            load.finish()
        if place.startswith("after the commit"):
            assert code == 2 and "The old tables are still there" in said, said
        else:
            assert code == 0 and "swapped in" in said, said
        cluster.settle()
        cluster.assert_alive()
        assert cluster.check() > 500
        cluster.replay_check()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.capability("LAW-2")
def test_dashboards_that_stay_long_see_no_error_and_delay_nothing(
    workers: Callable[..., clusters.Cluster], mortal: stack.Servers, fresh: str
) -> None:
    """Queries of 25 s, a READ COMMITTED transaction of 60 s or more and one that keeps its snapshot, at half
    of the capacity, all over the swap.
    """
    cluster = workers(*clusters.THREE)
    rate = min(test_kills._capacity(cluster) // 2, 3000)
    with traffic.Traffic(cluster.bootstrap, _without_end("long"), rate) as load:
        kept = psycopg.connect(fresh.replace("//heed@", "//heed_dashboard@"), autocommit=True)
        kept.execute("begin isolation level repeatable read")
        kept.execute("select count(*) from heed_read.contact_engagement")
        open_, long_queries = OpenTransaction(fresh), LongQueries(fresh)
        began = time.monotonic()
        done = test_cli.heed(cluster, "replay", "--json")
        took = time.monotonic() - began
        assert done.returncode == 0, done.stdout + done.stderr
        told = json.loads(done.stdout)
        print(f"at {rate} events/s: {told}")
        with pytest.raises(psycopg.errors.SerializationFailure, match="replaced by heed replay"):
            kept.execute("select count(*) from heed_read.contact_engagement")
        kept.close()
        swapped_at = time.monotonic()
        time.sleep(max(5.0, began + 60 - swapped_at))
        open_.finish()
        long_queries.finish()
        load.stop(300)
    assert took < clusters.patience(40)
    assert told["pause_seconds"] < clusters.patience(3)
    assert [before for _, _, before, after in long_queries.rows if before != after] == []
    assert any(began < swapped_at < ended for began, ended, _, _ in long_queries.rows), (
        "none lay over the swap"
    )
    assert len(open_.rows) > 10
    late = [rows for at, rows in open_.rows if at > swapped_at]
    assert late and late[-1] >= open_.rows[0][1], "the open transaction reads on in the new tables"
    cluster.settle(180)
    cluster.assert_alive()
    assert cluster.check() > 500


LONG_QUERY = """
select (select count(*) from heed_read.contact_engagement),
    pg_sleep(extract(epoch from statement_timestamp() + interval '25 s' - clock_timestamp()))::text,
    (select count(*) from heed_read.contact_engagement)
"""
POLLED = """
select e.n, f.n from (select count(*) as n from heed_read.contact_engagement) e,
    (select count(*) as n from heed_read.freshness where projection = 'engagement') f
"""


def _without_end(name: str) -> Iterator[generator.Sent]:
    """Events of ever more contacts, so that there are ever more rows."""
    now = datetime.now(UTC).replace(microsecond=0)
    for number in itertools.count(1):
        yield from generator.seeded(number, 20_000, 2_000 * number, now, name=f"{name}-{number}-").sent


class Look:
    """A dashboard's session in a thread of its own, until `finish`, which raises what it met."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn.replace("//heed@", "//heed_dashboard@")
        self.rows: list[Any] = []
        self.error: BaseException | None = None
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def finish(self) -> None:
        assert self.thread.is_alive(), self.error
        self.ending.set()
        self.thread.join(120)
        assert not self.thread.is_alive()
        if self.error is not None:
            raise self.error

    def _run(self) -> None:
        try:
            with psycopg.connect(self._dsn, autocommit=True) as connection:
                self.look(connection)
        except BaseException as error:
            self.error = error

    def look(self, connection: psycopg.Connection) -> None:
        raise NotImplementedError


class LongQueries(Look):
    """Queries of 25 s, one after the other: when each began and ended, and what it read first and last."""

    def look(self, connection: psycopg.Connection) -> None:
        while not self.ending.is_set():
            began = time.monotonic()
            [(before, _, after)] = connection.execute(LONG_QUERY).fetchall()
            self.rows.append((began, time.monotonic(), before, after))


class OpenTransaction(Look):
    """One READ COMMITTED transaction that asks again and again."""

    def look(self, connection: psycopg.Connection) -> None:
        connection.execute("begin")
        while not self.ending.wait(0.5):
            [(rows, partitions)] = connection.execute(POLLED).fetchall()
            assert partitions == 2 * stack.HOMES
            self.rows.append((time.monotonic(), rows))
        connection.execute("commit")
