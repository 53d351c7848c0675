"""What every contender does to the tables: the same statements, whoever brings the records.

Promises: `Counter` keeps a row per contact (n, first, last): COPY into a temporary table and one upsert.
`each` takes one event in one statement per table, as a stock agent would.
Limits: only records made by `tests.bench.traffic` can be taken; errors are raised and end the run.
Called by `stock`, `handwritten`, `ours` and the peers, which have none of Heed's libraries: it imports none.
"""

from __future__ import annotations

import abc
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Protocol

import msgspec
import psycopg


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


_brief = msgspec.json.Decoder(Brief).decode

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


def connect(dsn: str, sink: Sink, *, batches: bool = True) -> psycopg.Connection:
    """A connection as every contender has it; for batches, statements are planned for the batch at hand."""
    plans = "force_custom_plan" if batches else "auto"
    connection = psycopg.connect(
        dsn, autocommit=True, options=f"-c search_path={sink.path} -c timezone=UTC -c plan_cache_mode={plans}"
    )
    connection.execute(sink.stage.encode())
    return connection
