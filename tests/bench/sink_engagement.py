"""The engagement fold as contenders run it: the fold's own statements around the leanest decoding.

Promises: `projections.facts` and `projections.engagement` say what is done; the decoding knows no conflicts
inside a batch, no escaping, nothing set aside, no nudges, no timers.
Limits: only records made by `tests.bench.traffic` can be taken; apart from `sinks`, which peers import
in environments that have none of Heed's libraries.
Called by `stock` and `handwritten`.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from hashlib import blake2b

import msgspec
import psycopg

from projections import engagement, facts
from tests.bench import sinks


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
    sealed: str
    kid: str


class Mailing(msgspec.Struct, gc=False):
    mailing_id: str


_lean = msgspec.json.Decoder(Lean).decode
_mailing = msgspec.json.Decoder(Mailing).decode

FACT_EACH = """
insert into fact (subject, key, source, id, type, time, version, digest, accepted, test, part, off, mailing,
    data, sealed, kid)
values (%s, %s, %s, %s, %s, %s, 1, %s, %s, false, %s, %s, %s, %s, %s, %s)
on conflict (subject, key) do nothing
"""


class Engagement(sinks.Sink):
    """Facts for ever, and the engagement of their contacts."""

    path = "heed_data,heed_ops"
    stage = facts.STAGE

    def plan(self, records: Iterable[sinks.Record]) -> tuple[bytes, dict[str, int]]:
        lines: list[tuple[str, str, str]] = []
        homes: dict[str, int] = {}
        for record in records:
            fact = _lean(record.value)
            subject, data = fact.subject, bytes(fact.data)
            key = blake2b(f"{fact.source}\0{fact.id}".encode(), digest_size=16).hexdigest()
            lines.append((subject, key, (
                f"{subject}\t{key}\t{fact.source}\t{fact.id}\t{fact.type}\t{fact.time}\t1\t{fact.digest}\t"
                f"{fact.accepted}\tf\t{record.partition}\t{record.offset}\t{_mailing(data).mailing_id}\t"
                f"\\N\t{data.decode()}\t{fact.sealed}\t{fact.kid}\n"
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

    def each(self, connection: psycopg.Connection, record: sinks.Record) -> None:
        fact = _lean(record.value)
        data = bytes(fact.data)
        key = blake2b(f"{fact.source}\0{fact.id}".encode(), digest_size=16).hexdigest()
        values = (fact.subject, key, fact.source, fact.id, fact.type, fact.time, fact.digest, fact.accepted,
                  record.partition, record.offset, _mailing(data).mailing_id, data.decode(), fact.sealed,
                  fact.kid)  # fmt: skip
        named = {"contacts": [fact.subject[8:]], "homes": [record.partition], "at": datetime.now(UTC)}
        with connection.transaction():
            connection.execute(FACT_EACH, values)
            connection.execute(engagement.BRING, named)


SINKS: dict[str, type[sinks.Sink]] = {"counter": sinks.Counter, "engagement": Engagement}
