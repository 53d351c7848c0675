"""A log in memory, workers that fold it into a real PostgreSQL, and what has to be there afterwards.

Promises: a worker goes the way of a lane (claim, span, decode, advance, claim again after a lost connection)
without Kafka, and can be cut off at any statement of its transaction. What is read from the tables is read
on another connection.
Limits: one thread, so nobody waits for a lock here; `tests/contract/test_positions.py` has the waiting.
Called by the law tests.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any, cast

import psycopg

from projections import database, fold, positions, records
from schemas import topics
from streams import fold_loop
from tests.laws import generator

HOMES = 3
TABLES = ("heed_data.fact", "heed_data.engagement", "heed_data.nudge", "heed_data.member",
          "heed_data.set_member",
          "heed_data.position", "heed_ops.outbox", "heed_ops.parked", "heed_ops.position")  # fmt: skip
STORED = "contact_id, date_first_click, date_last_click, frequency, volume, volume_last_30, period_months"
CONTENT = "subject, key::text, source, id, type, time, version, digest::text, test, mailing, data"

# The one function, behind a door that can be shut for single contacts: an error inside one contact.
TRIAL = """
create schema if not exists trial;
create table if not exists trial.broken (contact_id text primary key);
create or replace function trial.engagement_at(contacts text[], at timestamptz, upto timestamptz)
returns table (contact_id text, date_first_click timestamptz, date_last_click timestamptz, frequency int,
    volume int, volume_last_30 int, period_months int, valid_until timestamptz)
language plpgsql stable as $$ begin
    if exists (select from trial.broken b where b.contact_id = any(contacts)) then
        raise exception 'this contact is broken';
    end if;
    return query select * from heed_data.engagement_at(contacts, at, upto);
end $$;
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """A record of the log, and what is known of it apart from Heed: a fact, or why it is parked."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    value: bytes | None
    fact: dict[str, Any] | None = None
    reason: str | None = None


class Log:
    """Partitions of `facts` and `commands`; offsets may have holes, as control records leave them."""

    def __init__(self, homes: int = HOMES) -> None:
        self.homes = homes
        names = [(topic, part) for topic in (topics.FACTS, topics.COMMANDS) for part in range(homes)]
        self.entries: dict[positions.TP, list[Entry]] = {name: [] for name in names}
        self.ends: dict[positions.TP, int] = dict.fromkeys(names, 0)

    def append(
        self,
        topic: str,
        part: int,
        value: bytes | None,
        *,
        fact: dict[str, Any] | None = None,
        reason: str | None = None,
    ) -> None:
        offset = self.ends[(topic, part)]
        entry = Entry(topic, part, offset, 1_700_000_000_000 + offset, value, fact, reason)
        self.entries[(topic, part)].append(entry)
        self.ends[(topic, part)] += 1

    def tell(self, envelope: dict[str, Any], stray: int = 0) -> None:
        """A fact, in its home's partition or (a stranger's doing) `stray` partitions further."""
        part = (topics.home(envelope["subject"], self.homes) + stray) % self.homes
        self.append(topics.FACTS, part, encode(envelope), fact=envelope)

    def hole(self, name: positions.TP) -> None:
        self.ends[name] += 1

    def span(self, name: positions.TP, start: int, most: int | None = None) -> records.Span:
        end = self.ends[name] if most is None else min(self.ends[name], start + most)
        found = [entry for entry in self.entries[name] if start <= entry.offset < end]
        return records.Span(start, end, cast("list[records.Record]", found))

    def read(self, upto: Mapping[positions.TP, int]) -> list[Entry]:
        """What stands below these offsets."""
        return [e for name, end in upto.items() for e in self.entries[name] if e.offset < end]


class Crash(Exception):
    """The worker is gone, at once."""


class Fuse:
    """A connection that is cut when it is used for the n-th time; whole while no fuse is lit.

    With `between` it is not cut: somebody else has his turn then, and it goes on.
    """

    def __init__(self, real: psycopg.Connection) -> None:
        self.real = real
        self.left: int | None = None
        self.between: Callable[[], None] | None = None

    def execute(self, *args: Any) -> Any:
        self._burn()
        return self.real.execute(*args)

    def cursor(self) -> Any:
        self._burn()
        return self.real.cursor()

    def transaction(self, **named: Any) -> AbstractContextManager[Any]:
        return self.real.transaction(**named)

    def _burn(self) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                self.left, between, self.between = None, self.between, None
                if between is not None:
                    between()
                    return
                self.real.close()
                raise Crash


class Worker:
    """A lane without Kafka and threads."""

    def __init__(self, name: str, dsn: str, log: Log, path: str = "trial, " + database.LIVE_PATH) -> None:
        self.name, self.dsn, self.log, self.path = name, dsn, log, path
        self.timers = True
        self.held: dict[positions.TP, positions.Held] = {}
        self.next: dict[positions.TP, int] = {}
        self.tries: list[positions.Try] = []
        self.connect()

    def connect(self) -> None:
        real = database.connect(self.dsn, self.path, self.name)
        real.execute("set synchronous_commit = off")
        self.fuse = Fuse(real)
        self.fold = fold.Fold(cast("psycopg.Connection", self.fuse), self.log.homes, timers=self.timers)

    def close(self) -> None:
        self.fuse.real.close()

    def forget(self) -> None:
        """What a process loses when it ends."""
        self.close()
        self.held, self.next = {}, {}
        self.tries.clear()
        self.connect()

    def claim(self, names: Iterable[positions.TP]) -> None:
        held = positions.claim(self.fuse.real, fold.READER, self.name, dict.fromkeys(names, 0))
        self._stand(held)

    def claim_all(self) -> None:
        self.claim(self.log.entries)

    def reclaim(self, heard: bool = True) -> None:
        """After a lost connection; raises positions.Fenced. The server's answer may not be heard."""
        self.close()
        self.connect()
        held = positions.reclaim(self.fuse.real, fold.READER, self.held, self.tries)
        if heard:
            self._stand(held)
            self.tries.clear()

    def _stand(self, held: Mapping[positions.TP, positions.Held]) -> None:
        self.held.update(held)
        self.next.update({name: one.next_offset for name, one in held.items()})

    def advance(
        self,
        most: Mapping[positions.TP, int] | None = None,
        at: datetime | None = None,
        fuse: int | None = None,
    ) -> fold.Done:
        """Read on in every partition held, by at most so many offsets (None: all there is); commit."""
        spans = {
            name: self.log.span(name, self.next[name], None if most is None else most.get(name, 0))
            for name in self.held
        }
        batch = self._batch(spans)
        self.fold.timers = self.timers
        if self.fuse.between is None:
            self.fuse.left = fuse
        try:
            done = self.fold.advance(batch, at)
        except psycopg.DataError:
            self.fuse.left = None
            self.fold.sift(batch.facts)
            done = self.fold.advance(batch, at)
        if fuse is not None:
            raise Crash
        self.next.update({name: span.end for name, span in spans.items()})
        return done

    def _batch(self, spans: Mapping[positions.TP, records.Span]) -> fold.Batch:
        told = [r for (topic, _), span in spans.items() if topic == topics.FACTS for r in span.records]
        moves = {name: self._move(name, span) for name, span in spans.items()}
        batch = fold.Batch(moves, records.decode(told, self.log.homes))
        for (topic, _), span in spans.items():
            if topic == topics.COMMANDS:
                for record in span.records:
                    fold_loop.read_back(batch, record)
        return batch

    def _move(self, name: positions.TP, span: records.Span) -> positions.Move:
        move = positions.Move(self.held[name].epoch, span.start, span.end, self.log.ends[name])
        if span.records:
            move.last_record = records.identity(span.records[-1])
            move.read_at = datetime.fromtimestamp(span.records[-1].timestamp / 1000, UTC)
        return move


class Observer:
    """Reads the tables from outside, in autocommit, so that it sees what is committed."""

    def __init__(self, dsn: str) -> None:
        self.connection = psycopg.connect(
            dsn,
            autocommit=True,
            options="-c timezone=UTC -c synchronous_commit=off -c search_path=heed_data,heed_ops",
        )
        self.connection.execute(TRIAL)
        self._view()

    def close(self) -> None:
        self.connection.close()

    def all(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        return self.connection.execute(statement.encode(), values).fetchall()

    def clear(self, months: int = 12, keep: bool = False) -> None:
        """As after the migrations, with these rules."""
        self.connection.execute(
            "; ".join(f"delete from {name}" for name in (*TABLES, "trial.broken")).encode()
        )
        self.rule(months, keep)

    def rule(self, months: int, keep: bool) -> None:
        self.connection.execute(
            "update heed_data.rule set period_months = %s, keep_row_without_clicks = %s", (months, keep)
        )

    def rows(self) -> dict[str, tuple[Any, ...]]:
        """Stored rows by contact: the columns of the oracle's row, then home and valid_until."""
        return {
            line[0]: line
            for line in self.all(f"select {STORED}, home, valid_until from heed_data.engagement")
        }

    def facts(self) -> list[tuple[Any, ...]]:
        """What is known, without how it came to be known."""
        return sorted(self.all(f"select {CONTENT} from heed_data.fact"), key=lambda line: (line[0], line[1]))

    def nudged(self) -> dict[str, str | None]:
        return {
            subject.removeprefix("contact:"): error
            for subject, error in self.all("select subject, max(error) from heed_data.nudge group by subject")
        }

    def shown(self, at: datetime) -> dict[str, tuple[Any, ...]]:
        """What the view says at an instant that is not now: its own text, with another clock."""
        self.connection.execute("select set_config('trial.now', %s, false)", (at.isoformat(),))
        return {
            line[0]: line
            for line in self.all(f"select {STORED}, recency, date_calculated from trial.contact_engagement")
        }

    def fingerprint(self) -> list[tuple[Any, ...]]:
        """Everything that a transaction could change, in one value."""
        each = " union all ".join(
            f"select '{name}', md5(string_agg(t::text, '|' order by t::text)) from {name} t"
            for name in TABLES
        )
        return self.all(each)

    def _view(self) -> None:
        [(text,)] = self.all("select pg_get_viewdef('heed_read.contact_engagement'::regclass)")
        assert text.count("statement_timestamp()") == 1
        moved = text.replace("statement_timestamp()", "current_setting('trial.now')::timestamptz")
        self.connection.execute(f"create or replace view trial.contact_engagement as {moved}".encode())


def encode(envelope: Mapping[str, Any]) -> bytes:
    return json.dumps(envelope, separators=(",", ":")).encode()


def content(envelope: Mapping[str, Any]) -> tuple[Any, ...]:
    """What the fact table has to say of an envelope, in the order of `CONTENT`."""
    from hashlib import blake2b

    data = envelope["data"]
    key = blake2b(f"{envelope['source']}\0{envelope['id']}".encode(), digest_size=16).hexdigest()
    return (
        envelope["subject"], _dashed(key), envelope["source"], envelope["id"], envelope["type"],
        datetime.fromisoformat(envelope["time"]), 1, _dashed(envelope["digest"]), data.get("test") is True,
        data.get("mailing_id"), json.dumps(data, separators=(",", ":")),
    )  # fmt: skip


def distinct(envelopes: Iterable[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    """One content for each subject and key: the one with the smaller (time, digest)."""
    held: dict[tuple[str, str], tuple[Any, ...]] = {}
    for line in map(content, envelopes):
        other = held.get(line[:2])
        if other is None or (line[5], line[7]) < (other[5], other[7]):
            held[line[:2]] = line
    return sorted(held.values(), key=lambda line: (line[0], line[1]))


def _dashed(digits: str) -> str:
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def click(time: datetime, contact: str = "ada", mailing: str | None = "m1", **more: Any) -> dict[str, Any]:
    return told("mail.clicked", time, contact, mailing, **more)


def delivery(time: datetime, contact: str = "ada", mailing: str | None = "m1", **more: Any) -> dict[str, Any]:
    return told("mail.delivered", time, contact, mailing, **more)


def told(
    kind: str,
    time: datetime,
    contact: str = "ada",
    mailing: str | None = "m1",
    id: str | None = None,
    **more: Any,
) -> dict[str, Any]:
    """An envelope of the log; its id follows from what it says unless one is given."""
    event = generator.Told(
        kind, contact, time, id or f"{kind}-{time.isoformat()}-{mailing}-{more}", mailing=mailing, **more
    )
    return generator.envelope(event, time)
