"""What every contender does to the tables: the same statements, whoever brings the records.

Promises: `Counter` keeps a row per contact (n, first, last): COPY into a temporary table and one upsert.
`Engagement` is the fold's own statements (`projections.facts`, `projections.engagement`) around the
leanest decoding that serves them: no conflicts inside a batch, no escaping, nothing set aside, no nudges,
no timers. `each` takes one event in one statement per table, as a stock agent would.
Limits: only records made by `tests.bench.traffic` can be taken; errors are raised and end the run.
Called by `stock`, `handwritten` and `ours`.
"""

from __future__ import annotations

import abc
from collections.abc import Iterable
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, Protocol

import msgspec
import psycopg

from projections import engagement, facts


class Record(Protocol):
    """What is known of a record, whoever fetched it."""

    @property
    def value(self) -> bytes: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...


class Brief(msgspec.Struct, gc=False):
    """What a counter reads of a fact."""

    subject: str
    time: str


class Lean(msgspec.Struct, gc=False):
    """What a row of `fact` needs, times as text."""

    id: str
    source: str
    type: str
    subject: str
    time: str
    digest: str
    accepted: str
    data: msgspec.Raw


class Mailing(msgspec.Struct, gc=False):
    mailing_id: str


_brief = msgspec.json.Decoder(Brief).decode
_lean = msgspec.json.Decoder(Lean).decode
_mailing = msgspec.json.Decoder(Mailing).decode

COUNTER_STAGE = """
create temp table if not exists counted (contact_id text, n bigint, first_at timestamptz, last_at timestamptz)
on commit delete rows
"""
COUNTER_UPSERT = """
insert into bench.counter as t (contact_id, n, first_at, last_at)
select contact_id, n, first_at, last_at from counted
on conflict (contact_id) do update set n = t.n + excluded.n, first_at = least(t.first_at, excluded.first_at),
    last_at = greatest(t.last_at, excluded.last_at)
"""
COUNTER_EACH = """
insert into bench.counter as t (contact_id, n, first_at, last_at) values (%s, 1, %s, %s)
on conflict (contact_id) do update set n = t.n + 1, first_at = least(t.first_at, excluded.first_at),
    last_at = greatest(t.last_at, excluded.last_at)
"""
APPENDED = "appended"  # where Quix's own sink appends events; the counters are a view over it
FACT_EACH = """
insert into fact (subject, key, source, id, type, time, version, digest, accepted, test, part, off, mailing,
    data)
values (%s, %s, %s, %s, %s, %s, 1, %s, %s, false, %s, %s, %s, %s) on conflict (subject, key) do nothing
"""


class Sink(abc.ABC):
    """A fold as all contenders run it. `path` is the search path of its connection."""

    path: str
    stage: str

    @abc.abstractmethod
    def plan(self, records: Iterable[Record]) -> Any:
        """Decode and fold records, without the database."""

    @abc.abstractmethod
    def copy(self, connection: psycopg.Connection, plan: Any) -> None:
        """Bring what was planned into the temporary table."""

    @abc.abstractmethod
    def write(self, connection: psycopg.Connection, plan: Any, at: datetime) -> None:
        """Write rows, inside the caller's transaction."""

    @abc.abstractmethod
    def each(self, connection: psycopg.Connection, record: Record) -> None:
        """One event alone."""


class Counter(Sink):
    """A counter row per contact."""

    path = "bench"
    stage = COUNTER_STAGE

    def plan(self, records: Iterable[Record]) -> bytes:
        rows: dict[str, list[Any]] = {}
        get = rows.get
        for record in records:
            fact = _brief(record.value)
            time = fact.time  # all of 24 characters, so they compare as times do
            row = get(fact.subject)
            if row is None:
                rows[fact.subject] = [1, time, time]
            else:
                row[0] += 1
                if time < row[1]:
                    row[1] = time
                if time > row[2]:
                    row[2] = time
        return "".join(
            [f"{name[8:]}\t{row[0]}\t{row[1]}\t{row[2]}\n" for name, row in sorted(rows.items())]
        ).encode()

    def copy(self, connection: psycopg.Connection, plan: bytes) -> None:
        with connection.cursor().copy("copy counted from stdin") as copy:
            copy.write(plan)

    def write(self, connection: psycopg.Connection, plan: bytes, at: datetime) -> None:
        connection.execute(COUNTER_UPSERT)

    def each(self, connection: psycopg.Connection, record: Record) -> None:
        fact = _brief(record.value)
        connection.execute(COUNTER_EACH, (fact.subject[8:], fact.time, fact.time))


class Engagement(Sink):
    """Facts for ever, and the engagement of their contacts."""

    path = "heed_data,heed_ops"
    stage = facts.STAGE

    def plan(self, records: Iterable[Record]) -> tuple[bytes, dict[str, int]]:
        lines: list[tuple[str, str, str]] = []
        homes: dict[str, int] = {}
        for record in records:
            fact = _lean(record.value)
            subject, data = fact.subject, bytes(fact.data)
            key = blake2b(f"{fact.source}\0{fact.id}".encode(), digest_size=16).hexdigest()
            lines.append((subject, key, (
                f"{subject}\t{key}\t{fact.source}\t{fact.id}\t{fact.type}\t{fact.time}\t1\t{fact.digest}\t"
                f"{fact.accepted}\tf\t{record.partition}\t{record.offset}\t{_mailing(data).mailing_id}\t"
                f"{data.decode()}\n"
            )))  # fmt: skip
            homes[subject[8:]] = record.partition
        return "".join([line for _, _, line in sorted(lines)]).encode(), homes

    def copy(self, connection: psycopg.Connection, plan: tuple[bytes, dict[str, int]]) -> None:
        with connection.cursor().copy(facts.COPY) as copy:
            copy.write(plan[0])

    def write(self, connection: psycopg.Connection, plan: tuple[bytes, dict[str, int]], at: datetime) -> None:
        connection.execute(facts.MERGE)
        names = sorted(plan[1])
        named = {"contacts": names, "homes": [plan[1][name] for name in names], "at": at}
        connection.execute(engagement.BRING, named)

    def each(self, connection: psycopg.Connection, record: Record) -> None:
        fact = _lean(record.value)
        data = bytes(fact.data)
        key = blake2b(f"{fact.source}\0{fact.id}".encode(), digest_size=16).hexdigest()
        values = (fact.subject, key, fact.source, fact.id, fact.type, fact.time, fact.digest, fact.accepted,
                  record.partition, record.offset, _mailing(data).mailing_id, data.decode())  # fmt: skip
        named = {"contacts": [fact.subject[8:]], "homes": [record.partition], "at": datetime.now(UTC)}
        with connection.transaction():
            connection.execute(FACT_EACH, values)
            connection.execute(engagement.BRING, named)


SINKS: dict[str, type[Sink]] = {"counter": Counter, "engagement": Engagement}


def connect(dsn: str, sink: Sink, *, batches: bool = True) -> psycopg.Connection:
    """A connection as every contender has it; for batches, statements are planned for the batch at hand."""
    plans = "force_custom_plan" if batches else "auto"
    connection = psycopg.connect(
        dsn, autocommit=True, options=f"-c search_path={sink.path} -c timezone=UTC -c plan_cache_mode={plans}"
    )
    connection.execute(sink.stage.encode())
    return connection
