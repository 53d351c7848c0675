"""How long a page of a timeline takes, and of the audit log; what an index by time costs an insert.

Promises: facts of fourteen months, made by SQL in the tables themselves, in the order of their times, some
told late: twenty a contact, beside them one contact with 100,000, scattered among all others, and one with
50,000 sessions; a registry in which each of these sessions and more of others are linked, by a key. Each
question is asked for its first page and for pages behind, in turn with all others, and quoted as p50 and p95.
`--inserts` puts facts in by the fold's own statements, with the index by time and without, in turn.
Limits: the application is asked in this process, without a socket; nobody folds meanwhile.

`python -m tests.bench.timeline [--facts N] [--requests N] [--inserts]`
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import httpx
import psycopg

from api import app
from deploy import processes
from deploy.postgres import Postgres
from projections import facts
from projections.migrations import apply
from schemas import settings
from tests import keyring

HEAVY: Final = 100_000
SESSIONS: Final = 50_000
PAGES: Final = 5
BATCH: Final = 8_000
QUESTIONS: Final = (
    "/v1/contacts/c000007/activity?",
    "/v1/contacts/heavy/activity?",
    "/v1/contacts/heavy/activity?type=System",
    "/v1/contacts/heavy/activity?action=Bounce",
    "/v1/contacts/heavy/activity?as_of=2026-06-01T00:00:00Z",
    "/v1/contacts/heavy/activity?limit=1000",
    "/v1/contacts/visitor/activity?",
    "/v1/contacts/visitor/activity?as_of=2026-06-01T00:00:00Z",
    "/v1/activity?",
    "/v1/activity?action=Bounce",
    "/v1/activity?from=2026-06-01T00:00:00Z&to=2026-06-02T00:00:00Z",
    "/v1/activity?as_of=2026-06-01T00:00:00Z",
    "/v1/activity?type=Session",
    "/v1/audit?",
    "/v1/audit?type=setting.changed",
    "/v1/audit?about=session:s00007",
)
# Purpose: facts as folding would leave them: one of every so many the heavy contact's, two in a hundred of a
# session. One in fifty was told late, by up to a month.
FACTS: Final = """
insert into heed_data.fact
    (subject, key, source, id, type, time, version, digest, accepted, test, part, off, mailing, data)
select case when i %% greatest(1, {facts} / {heavy}) = 0 then 'contact:heavy'
        when i %% 50 = 1 then 'session:s' || lpad((i / 50 %% {sessions})::text, 5, '0')
        else 'contact:c' || lpad(((hashint8(i) & 2147483647) %% greatest(1, {facts} / 20))::text, 6, '0') end,
    md5(i::text)::uuid, 'urn:example:mail', md5(i::text)::uuid::text,
    (array['mail.sent', 'mail.delivered', 'mail.sent', 'mail.delivered', 'mail.sent', 'mail.delivered',
        'mail.opened', 'mail.clicked', 'mail.delivered', case i %% 500 when 4 then 'mail.bounced'
        else 'mail.sent' end])[1 + (hashint8(i # 5) & 1023) %% 10],
    date_trunc('milliseconds', timestamptz '2025-10-01' + interval '420 days' * (i::float8 / {facts})
        - case when i %% 50 = 7 then interval '30 days' * ((hashint8(i # 9) & 65535) / 65536.0)
            else interval '0' end),
    1, md5(i::text)::uuid, now(), false, 0, i, 'spring-' || (i %% 400),
    '{{"mailing_id":"spring-' || (i %% 400) || '","message_id":"' || i || '"}}'
from generate_series({first}::bigint, {last}::bigint) i
"""
REGISTRY: Final = """
insert into heed_data.registry
    (subject, key, source, id, type, time, version, digest, accepted, actor, off, target, data)
select 'session:s' || lpad(i::text, 5, '0'), md5('l' || i)::uuid, 'urn:example:site', 'l' || i,
    'session.linked',
    date_trunc('milliseconds', timestamptz '2025-10-01' + interval '420 days' * (i::float8 / {sessions})),
    1, md5(i::text)::uuid, now(), 'key:site', i, 'contact:visitor', '{{"contact_id":"visitor"}}'
from generate_series(0, {sessions} - 1) i
"""
MORE_LINKS: Final = """
insert into heed_data.registry
    (subject, key, source, id, type, time, version, digest, accepted, actor, off, target, data)
select 'session:t' || i, md5('t' || i)::uuid, 'urn:example:site', 't' || i, 'session.linked',
    date_trunc('milliseconds', timestamptz '2025-10-01' + interval '420 days' * (i::float8 / {links})),
    1, md5(i::text)::uuid, now(), 'key:site', i, 'contact:c' || lpad((i %% 1000)::text, 6, '0'),
    jsonb_build_object('contact_id', 'c' || lpad((i %% 1000)::text, 6, '0'))
from generate_series(1, {links}) i
"""
SETTINGS: Final = """
insert into heed_data.registry
    (subject, key, source, id, type, time, version, digest, accepted, actor, off, data)
select 'setting:zone', md5('s' || i)::uuid, 'urn:heed', 's' || i, 'setting.changed',
    timestamptz '2025-10-01' + interval '1 day' * i, 1, md5(i::text)::uuid, now(), 'cli:ada', i,
    '{{"name":"zone","value":"UTC"}}'
from generate_series(1, 300) i
"""
MEMBERS: Final = """
insert into heed_data.member select r.subject, r.target, 0 from heed_data.registry r
where r.target is not null
"""


def fill(connection: psycopg.Connection, count: int, links: int) -> None:
    """The facts, in steps, and the registry; then statistics and visibility."""
    for first in range(0, count, 1_000_000):
        last = min(count, first + 1_000_000) - 1
        text = FACTS.format(facts=count, sessions=SESSIONS, heavy=HEAVY, first=first, last=last)
        connection.execute(text.replace("%%", "%").encode())
        sys.stderr.write(f"{last + 1:,} facts\n")
    for statement in (REGISTRY, MORE_LINKS, SETTINGS, MEMBERS):
        connection.execute(statement.format(sessions=SESSIONS, links=links).replace("%%", "%").encode())
    connection.execute("vacuum analyze")


async def measure(dsn: str, requests: int) -> dict[str, list[float]]:
    """Seconds of each request, by question."""
    served = app.create_app(settings.Settings(kafka="127.0.0.1:1", postgres=dsn), keys=keyring.held())
    transport = httpx.ASGITransport(served)  # type: ignore[arg-type]
    took: dict[str, list[float]] = {question: [] for question in QUESTIONS}
    behind: dict[str, str | None] = dict.fromkeys(QUESTIONS)
    async with served.lifespan(), httpx.AsyncClient(transport=transport, base_url="http://heed") as client:
        for number, question in itertools.product(range(requests), QUESTIONS):
            after = behind[question] if number % PAGES else None
            began = time.perf_counter()
            response = await client.get(question + (f"&after={after}" if after else ""))
            took[question].append(time.perf_counter() - began)
            if response.status_code != 200:
                sys.stderr.write(f"{question}: {response.status_code} {response.text}\n")
            behind[question] = response.json()["next"] if response.status_code == 200 else None
        for whole in ("/v1/contacts/heavy/activity?format=csv", "/v1/audit?format=csv"):
            began = time.perf_counter()
            text = (await client.get(whole)).text
            took[f"{whole}, {text.count(chr(10)) - 1:,} rows"] = [time.perf_counter() - began] * 2
    return took


def inserts(connection: psycopg.Connection, first: int, batches: int, repeats: int) -> dict[str, list[float]]:
    """Microseconds of the server's CPU for each fact, with the index by time and without, in turn."""
    connection.execute("set search_path = heed_data")
    facts.prepare(connection)
    made = "create index fact_by_time on heed_data.fact (time desc)"
    took: dict[str, list[float]] = {"with": [], "without": []}
    for _ in range(repeats):
        for name, costs in took.items():
            connection.execute("drop index if exists heed_data.fact_by_time")
            if name == "with":
                connection.execute(made.encode())
            costs.append(inserted(connection, first, batches))
            first += batches * BATCH
    return took


def inserted(connection: psycopg.Connection, first: int, batches: int) -> float:
    """Microseconds of the server's CPU for each fact put in by the fold's own statement."""
    [(pid,)] = connection.execute("select pg_backend_pid()").fetchall()
    used = 0.0
    for start in range(first, first + batches * BATCH, BATCH):
        with connection.transaction():
            text = FACTS.format(
                facts=first, sessions=SESSIONS, heavy=HEAVY, first=start, last=start + BATCH - 1
            )
            text = text.replace("insert into heed_data.fact\n", "insert into incoming\n").replace("%%", "%")
            connection.execute(text.encode())
            began = cpu(pid)
            connection.execute(facts.MERGE.encode())
            used += cpu(pid) - began
    return used / (batches * BATCH) * 1e6


def cpu(pid: int) -> float:
    """Seconds of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.bench.timeline", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--facts", type=int, default=10_000_000)
    parser.add_argument("--links", type=int, default=1_000_000, help="of other sessions, in the registry")
    parser.add_argument("--inserts", action="store_true", help="what the index by time costs, too")
    parser.add_argument("--requests", type=int, default=40, help="of each question")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="heed-timeline-", ignore_cleanup_errors=True) as folder:
        (port,) = processes.free_ports(1)
        postgres = Postgres(Path(folder) / "postgres", port, settings={"shared_buffers": "1GB"})
        try:
            postgres.start()
            postgres.wait()
            apply.upgrade(postgres.dsn())
            with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
                fill(connection, chosen.facts, chosen.links)
                if chosen.inserts:
                    for name, costs in inserts(connection, chosen.facts, 25, 3).items():
                        sys.stdout.write(f"{name}: {' '.join(f'{cost:.1f}' for cost in costs)} µs a fact\n")
            took = asyncio.run(measure(postgres.dsn(), chosen.requests))
        finally:
            postgres.stop()
    for question, seconds in took.items():
        cuts: list[Any] = statistics.quantiles(seconds, n=20, method="inclusive")
        sys.stdout.write(f"| `{question.rstrip('?')}` | {cuts[9] * 1e3:.1f} | {cuts[18] * 1e3:.1f} |\n")


if __name__ == "__main__":
    main()
