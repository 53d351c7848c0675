"""What the tests of a swap stand on: a log in memory, a worker that folds it, and a next pair that is built.

Promises: all that a replay does but for Kafka; `check` says whether a pair holds what its positions say.
Limits: one thread at a time for each of its connections.
Called by the contract tests of pairs and of the swap.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from projections import following, next_pair, pairs, records, registry, swap
from schemas import topics
from tests.laws import world

NOW = datetime.now(UTC).replace(microsecond=0)


@dataclasses.dataclass
class Stand:
    """A log, a worker that folds it, and a next pair that is ready to be swapped in."""

    dsn: str
    log: world.Log
    worker: world.Worker
    built: next_pair.Next
    sql: psycopg.Connection

    def tell(self, count: int, name: str = "c") -> None:
        for number in range(count):
            self.log.tell(world.click(NOW - timedelta(days=number % 9), f"{name}{number}", f"m{number % 5}"))

    def build(self) -> None:
        """Through every phase, up to where the worker is now."""
        self.built.begin()
        self.catch_up(swap.read_up_to(self.sql))
        self.built.enter(next_pair.Phase.INDEXES)
        self.built.index()
        list(self.built.bring(datetime.now(UTC)))
        self.built.vacuum()
        self.built.enter(next_pair.Phase.FOLLOW)

    def catch_up(self, bounds: swap.Offsets, pair: following.Pair | None = None) -> None:
        pair = pair or self.built
        pair.claim()
        standing = pair.read_to()
        spans = {
            name: self.log.span(name, standing[name], end - standing[name])
            for name, end in bounds.items()
            if end > standing[name]
        }
        every = [record for span in spans.values() for record in span.records]
        told = [record for record in every if record.topic == topics.FACTS]
        registered = registry.decode(record for record in every if record.topic == topics.REGISTRY)
        ends = {name: span.end for name, span in spans.items()}
        pair.take(records.decode(told, world.HOMES), registered, ends)

    def swap(self, before: Callable[[], None] = lambda: None) -> swap.Swapped:
        def catch_up(bounds: swap.Offsets) -> None:
            before()
            self.catch_up(bounds)

        return swap.swap(self.dsn, pairs.NEXT, catch_up)

    def ask(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        return self.sql.execute(statement.encode(), values or None).fetchall()

    def check(self, schema: str = "heed_data") -> None:
        """The pair holds exactly the facts below its positions, and the rows that these make."""
        offsets = dict(
            self.ask(f"select part, next_offset from {schema}.position where topic = %s", topics.FACTS)
        )
        told = self.log.read({(topics.FACTS, part): end for part, end in offsets.items()})
        wanted = sorted((one.partition, one.offset) for one in told if one.fact)
        assert sorted(self.ask(f"select part, off from {schema}.fact")) == wanted
        rows = self.ask(f"select contact_id, frequency from {schema}.engagement")
        mailings: dict[str, set[str]] = {}
        for one in told:
            if one.fact:
                mailings.setdefault(one.fact["subject"][8:], set()).add(one.fact["data"]["mailing_id"])
        assert dict(rows) == {contact: len(found) for contact, found in mailings.items()}


@contextmanager
def standing(dsn: str) -> Iterator[Stand]:
    """A stand on a new database, with sixty facts folded."""
    log = world.Log()
    with psycopg.connect(dsn, autocommit=True) as sql, next_pair.Next(dsn, world.HOMES) as built:
        worker = world.Worker("w0", dsn, log, "heed_data, heed_ops")
        worker.claim_all()
        made = Stand(dsn, log, worker, built, sql)
        made.tell(60)
        worker.advance()
        yield made
        worker.close()


def back(stand: Stand, before: Callable[[], None] = lambda: None) -> swap.Swapped:
    """As `heed replay --back`; `before` is called once the old pair has come to where live is."""
    with contextlib.closing(following.Pair(stand.dsn, world.HOMES, pairs.OLD)) as old:
        swap.check_revision(stand.sql, pairs.OLD)
        old.number_apart()
        stand.catch_up(swap.read_up_to(stand.sql), old)
        list(old.settle())
        old.carry_due()
        before()
        return swap.swap(stand.dsn, pairs.OLD, lambda bounds: stand.catch_up(bounds, old))
