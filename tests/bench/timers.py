"""Timers: what an idle look for due rows costs, and how late rows are that fall due by the thousands.

Promises: rows that wait are rows like any other, due in more than a year; those that fall due are computed
by the fold from a click that leaves its window at the moment wanted. Lateness is taken when the transaction
has committed that took the row. A reader's snapshot (REPEATABLE READ) is held open the while, so that
nothing that was deleted can be cleared away, in the table or in its index. The look is timed on a
connection of the fold's.
Limits: one worker, all homes. Ten million rows take 4 GB.
Called by `tests.bench.__main__`.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from projections import database, engagement, fold, positions
from schemas import topics
from tests.bench import runs, servers, sizes

DATABASE = "timers"
LOOKS = 200
CHUNK = 5_000
LEAD = 12  # seconds for a worker to start
LANE = range(0, servers.HOMES, 2)  # the homes of one of a worker's two lanes

WAITING = """
insert into heed_data.engagement
select 'w' || lpad(i::text, 8, '0'), i %% %(homes)s, now() - interval '1 month',
    now() - interval '1 month', 1, 1, 0, 12, now() + interval '1 year' + make_interval(secs => i %% 10000000)
from generate_series(%(first)s::bigint, %(last)s::bigint) i
"""
# Purpose: a click that leaves its window of twelve months at the moment wanted.
CLICKS = """
insert into heed_data.fact
    (subject, key, source, id, type, time, version, digest, accepted, test, part, off, mailing, data)
select 'contact:' || u.name, md5('t' || u.name)::uuid, 'urn:bench:due', u.name, 'mail.clicked',
    u.due - interval '12 months' - interval '1 millisecond', 1, md5(u.name)::uuid,
    u.due - interval '12 months', false, u.home, -1, 'm-due', '{"mailing_id":"m-due"}'
from unnest(%(names)s::text[], %(homes)s::int[], %(dues)s::timestamptz[]) as u(name, home, due)
"""


def run(up: servers.Servers, repeat: int, chosen: sizes.Sizes) -> list[runs.Figure]:
    """Looks at each size, then the storm at the largest, then looks beside what it left."""
    dsn = up.database(DATABASE)
    up.empty_topics()
    found, there = [], 0
    with psycopg.connect(dsn, autocommit=True) as connection:
        for wanted in chosen.waiting:
            connection.execute(WAITING, {"homes": servers.HOMES, "first": there + 1, "last": wanted})
            connection.execute("vacuum analyze heed_data.engagement")
            there = wanted
            found.append(_figure(f"idle look, {wanted:,} rows", repeat, _looks(dsn)))
        with _snapshot(dsn):
            late = _storm(up, connection, dsn, chosen)
            name = f"{chosen.due:,} due in {chosen.within} s, {there:,} wait, a snapshot is held"
            found.append(_figure(name, repeat, late))
            name = "idle look after it, the snapshot still held"
            found.append(_figure(name, repeat, _looks(dsn)))
            name = "the same from the start, as every two seconds"
            found.append(_figure(name, repeat, _looks(dsn, swept=False)))
    return found


def _figure(name: str, repeat: int, figures: dict[str, Any]) -> runs.Figure:
    sys.stderr.write(f"  {repeat} timers {name}: {figures}\n")
    return runs.Figure("timers", name, "due", repeat, figures)


def _looks(dsn: str, *, swept: bool = True) -> dict[str, Any]:
    """How long an idle lane's look takes, in ms, once it has taken what was due; else one from the start."""
    with database.connect(dsn, database.LIVE_PATH, "bench") as connection:
        looker = fold.Fold(connection, servers.HOMES)
        firsts = {(topics.FACTS, home): 0 for home in LANE}
        held = positions.claim(connection, fold.READER, "bench", firsts)
        stay = {
            name: positions.Move(one.epoch, one.next_offset, one.next_offset, one.next_offset)
            for name, one in held.items()
        }
        if swept:
            looker.advance(fold.Batch(stay))
        taken = []
        for _ in range(LOOKS):
            began = time.perf_counter()
            looker.waiting(LANE)
            taken.append(1000 * (time.perf_counter() - began))
    taken.sort()
    return {"p50": round(statistics.median(taken), 3), "p99": round(taken[len(taken) * 99 // 100], 3)}


def _storm(
    up: servers.Servers, connection: psycopg.Connection, dsn: str, chosen: sizes.Sizes
) -> dict[str, Any]:
    """Rows that fall due evenly over `within` seconds, and how late a worker takes them."""
    first = datetime.now(UTC) + timedelta(seconds=LEAD + chosen.due / 2_000)
    with connection.transaction():
        connection.execute(f"set local search_path = {database.LIVE_PATH}".encode())
        for some in _chunks(chosen.due):
            names = [f"t{i:07}" for i in some]
            homes = [topics.home(f"contact:{name}", servers.HOMES) for name in names]
            dues = [first + timedelta(seconds=chosen.within * i / chosen.due) for i in some]
            connection.execute(CLICKS, {"names": names, "homes": homes, "dues": dues})
            engagement.bring(connection, list(zip(names, homes, strict=True)), datetime.now(UTC))
    connection.execute("analyze heed_data.fact")
    if datetime.now(UTC) > first - timedelta(seconds=LEAD / 2):
        raise RuntimeError("making the rows took longer than they had: this machine is too slow for so many")
    return runs.run(up, runs.Contender("timers", "ours", "ours", "timers"), "due", chosen.due, dsn=dsn)


def _chunks(count: int) -> Iterator[range]:
    for first in range(0, count, CHUNK):
        yield range(first, min(count, first + CHUNK))


@contextmanager
def _snapshot(dsn: str) -> Iterator[None]:
    """A long analytic query's transaction."""
    with psycopg.connect(dsn) as reader:
        reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        reader.execute("select count(*) from (select from heed_data.engagement limit 10) one")
        yield
