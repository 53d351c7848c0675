"""What the tables hold before a run: a million contacts with a key each, their facts of fourteen months,
their rows.

Promises: facts of a contact lie scattered over the table, as they do where they came in over months; of
each contact's facts 65 % are deliveries, 20 % opens, 15 % clicks, of 400 mailings; rows are what
`engagement_at` says. The indexes are in the state of a table that lives: a first run, not counted, has
split their pages.
Limits: keys and digests are hashes of a counter, not of contents; twenty million facts take 9 GB.
Called by `tests.bench.servers`.
"""

from __future__ import annotations

import sys
import time
from typing import LiteralString

import psycopg

from projections import engagement
from schemas import topics

CONTACTS = 1_000_000
CHUNK = 20_000

# Purpose: fact number i is the i / contacts-th of contact i * 7919 mod contacts; its mailing says when.
FACTS = """
insert into heed_data.fact
    (subject, key, source, id, type, time, version, digest, accepted, test, part, off, mailing, data)
select 'contact:c' || lpad(contact::text, 7, '0'), md5('k' || i)::uuid, 'urn:bench:before', md5('i' || i),
    'mail.' || kind, time, 1, md5('d' || i)::uuid, time + interval '2 seconds', false, contact %% %(homes)s,
    -1, 'm-' || lpad(mailing::text, 4, '0'),
    '{"mailing_id":"m-' || lpad(mailing::text, 4, '0') || '","message_id":"' || md5('m' || i) || '"'
        || case when kind = 'clicked'
            then ',"url":"https://example.org/p/' || mailing || '?c=' || contact || '"' else '' end || '}'
from (
    select i, contact, mailing,
        case when (n + contact) %% 20 < 13 then 'delivered' when (n + contact) %% 20 < 17 then 'opened'
            else 'clicked' end as kind,
        date_trunc('milliseconds',
            now() - interval '2 hours' - make_interval(secs => mailing * 91980.0 + i %% 86400)) as time
    from (
        select i, i / %(contacts)s as n, i * 7919 %% %(contacts)s as contact,
            (i * 7919 %% %(contacts)s * 31 + i / %(contacts)s * 7) %% 400 as mailing
        from generate_series(%(first)s::bigint, %(last)s::bigint) i
    ) a
) b
"""
# Purpose: the one key of each contact; a fold looks for it and never opens anything.
KEYS = """
insert into heed_ops.data_key (kid, subject, wrapped, master, destroyed, off)
select subject || '#' || repeat('0', 16), subject, decode(md5(subject) || md5(kid), 'hex'), 'bench', false, -1
from (
    select 'contact:c' || lpad(i::text, 7, '0') as subject, i::text as kid
    from generate_series(0, %s - 1) i
) a order by subject
"""
COUNTERS = """
create schema if not exists bench authorization heed;
create table bench.counter (contact_id text primary key, n bigint not null, first_at timestamptz not null,
    last_at timestamptz not null) with (fillfactor = 70);
create table bench.position (like heed_data.position including all);
create table bench.appended (timestamp timestamp not null, __key text, contact_id text, at text, type text);
create view bench.counted as select contact_id, n, first_at, last_at from bench.counter where n > 0
union all
select contact_id, count(*), min(at::timestamptz), max(at::timestamptz) from bench.appended group by 1;
"""
COUNTER_ROWS = """
truncate bench.counter, bench.appended;
insert into bench.counter select 'c' || lpad(i::text, 7, '0'), 0, 'infinity', '-infinity'
from generate_series(0, %s - 1) i
"""
COUNTED = """
select count(*), sum(n), sum(hashtextextended(row(contact_id, n, first_at, last_at)::text, 0))
from bench.counted
"""
INDEXES = """
select indexname, indexdef from pg_indexes where schemaname = 'heed_data' and tablename = 'fact'
order by indexname
"""


def contacts(facts: int) -> int:
    """How many contacts so many facts are of."""
    return min(CONTACTS, facts)


def fill(connection: psycopg.Connection, facts: int, homes: int) -> None:
    """Facts, rows and counters, once; raises RuntimeError when another number of facts is there."""
    connection.execute("create schema if not exists bench")
    connection.execute("create table if not exists bench.filled (facts bigint, boundary bigint)")
    there = connection.execute("select facts from bench.filled").fetchone()
    if there is not None:
        if there[0] != facts:
            raise RuntimeError(f"this folder holds {there[0]:,} facts, not {facts:,}: give another folder")
        return
    began = time.monotonic()
    indexes = connection.execute(INDEXES).fetchall()
    for name, _ in indexes:
        connection.execute(f"drop index heed_data.{name}".encode())
    for first in range(0, facts, CONTACTS):
        last = min(facts, first + CONTACTS) - 1
        named = {"homes": homes, "contacts": contacts(facts), "first": first, "last": last}
        connection.execute(FACTS, named)
        say(f"facts {last + 1:,} of {facts:,}", began)
    for name, definition in indexes:
        connection.execute(definition.encode())
        say(f"index {name}", began)
    connection.execute("vacuum analyze heed_data.fact")
    connection.execute(KEYS, (contacts(facts),))
    connection.execute("vacuum analyze heed_ops.data_key")
    _rows(connection, contacts(facts), homes, began)
    connection.execute(COUNTERS)
    connection.execute(
        "create table bench.engagement as select * from heed_data.engagement order by contact_id"
    )
    connection.execute("vacuum analyze bench.engagement")
    boundary = "pg_relation_size('heed_data.fact') / current_setting('block_size')::int"
    connection.execute(f"insert into bench.filled select %s, {boundary}".encode(), (facts,))


def _rows(connection: psycopg.Connection, contacts: int, homes: int, began: float) -> None:
    at = connection.execute("select date_trunc('milliseconds', now())").fetchone()
    assert at is not None
    connection.execute("set search_path = heed_data")
    for first in range(0, contacts, CHUNK):
        names = [f"c{number:07}" for number in range(first, min(contacts, first + CHUNK))]
        where = [topics.home(f"contact:{name}", homes) for name in names]
        connection.execute(engagement.BRING, {"contacts": names, "homes": where, "at": at[0]})
    connection.execute("reset search_path")
    connection.execute("vacuum analyze heed_data.engagement")
    say("rows", began)


def counted(connection: psycopg.Connection) -> str:
    """What the counters hold, as one text: the same for whoever counted the same."""
    found = connection.execute(COUNTED).fetchone()
    return " ".join(str(value) for value in found or ())


def reset(connection: psycopg.Connection, table: str) -> None:
    """Tables as `fill` left them: `table` is counter, engagement or none."""
    for name in ("heed_data.position", "heed_ops.position", "bench.position", "heed_data.nudge"):
        connection.execute(f"truncate {name}".encode())
    if table == "counter":
        facts = connection.execute("select facts from bench.filled").fetchone()
        connection.execute(COUNTER_ROWS.replace("%s", str(contacts(facts[0] if facts else 0))).encode())
        connection.execute("vacuum analyze bench.counter")
    if table == "engagement":
        _reset_engagement(connection)
    connection.execute("checkpoint")


def _reset_engagement(connection: psycopg.Connection) -> None:
    boundary = connection.execute("select boundary from bench.filled").fetchone()
    assert boundary is not None
    # What a run added lies behind the boundary; the block before it may hold both.
    connection.execute(
        f"delete from heed_data.fact where ctid >= '({boundary[0] - 1},0)'::tid and off >= 0".encode()
    )
    connection.execute("vacuum (analyze) heed_data.fact")
    connection.execute("truncate heed_data.engagement, heed_ops.parked, heed_ops.outbox")
    connection.execute("insert into heed_data.engagement select * from bench.engagement")
    connection.execute("vacuum analyze heed_data.engagement")


def say(text: LiteralString | str, began: float) -> None:
    """Progress, for people."""
    sys.stderr.write(f"  {time.monotonic() - began:6.0f} s  {text}\n")
