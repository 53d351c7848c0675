"""The fold's lanes: facts and commands in, rows out.

Promises: what one transaction does is `projections.fold`'s; here batches are decoded, positions are told how
far they move, and what was done is counted. Nudges and due rows are looked for every 100 ms, with or without
records, so rows follow time though Kafka be away (CEE-8).
Limits: one transaction at a time in a lane; a batch is at most 8,000 records or 8 MiB.
Called by: `streams.app`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
import psycopg
from faust.types import TP

from projections import database, engagement, error_rate, fold, parked_again, records
from schemas import commands, errors, metrics, topics
from streams import claims, key_watch, lanes, log, parked_fold, tracing

TOPICS = frozenset({topics.FACTS, topics.COMMANDS})
SAMPLES = 200  # facts of a batch whose delay is observed


class FoldLane(lanes.Lane):
    """One lane of the fold: homes whose number is `index` modulo `count`."""

    reader = fold.READER
    path = database.LIVE_PATH

    def __init__(
        self,
        index: int,
        count: int,
        owner: str,
        dsn: str,
        inspector: log.Inspector,
        wake: Callable[[], None],
        *,
        homes: int,
        timers: bool,
        recalculate: bool,
        rate: error_rate.ErrorRate,
        highwater: Callable[[TP], int | None],
        told: Callable[[], None],
    ) -> None:
        super().__init__(f"fold-{index}", owner, dsn, inspector, wake)
        self.index, self.count = index, count
        self.homes, self.timers, self.recalculate = homes, timers, recalculate
        self._rate = rate
        self._highwater = highwater
        self._told = told
        self._fold: fold.Fold | None = None
        self._keys = key_watch.KeyWatch(inspector)
        self.again = parked_fold.Asked()

    def owns(self, tp: TP) -> bool:
        return tp.topic in TOPICS and tp.partition % self.count == self.index

    def mine(self) -> list[int]:
        """The homes that this lane reads now."""
        claim = self._claim
        return [] if claim is None else _homes(claim)

    def opened(self, connection: psycopg.Connection) -> None:
        self._fold = fold.Fold(connection, self.homes, timers=self.timers, recalculate=self.recalculate)

    def look(self, claim: claims.Claim) -> bool:
        assert self._fold is not None
        return self.again.waits or self._fold.waiting(_homes(claim))

    def work(self, claim: claims.Claim, spans: Mapping[TP, Any]) -> bool:
        assert self._fold is not None
        batch = self._read(claim, spans)
        began = time.monotonic()
        with metrics.TRANSACTION_SECONDS.time():
            done = self._advance(batch)
        if tracing.on() and (spans or done.contacts):
            _trace(spans, done, time.monotonic() - began)
        self.moved(claim, spans)
        self._count(batch, spans, done)
        self._rate.add(done.contacts, done.failed)
        if done.commands:
            self._told()
        return done.more or self.again.waits

    def _advance(self, batch: fold.Batch) -> fold.Done:
        assert self._fold is not None
        try:
            return self._fold.advance(batch)
        except psycopg.Error as error:
            if database.is_away(error) or not batch.facts.lines:
                raise
            self._log.warning("the database refuses a record of the log; sifting", error=type(error).__name__)
            self._fold.sift(batch.facts)
            if batch.again is not None:
                batch.again.take_out(batch.facts.asides)
            return self._fold.advance(batch)

    def _read(self, claim: claims.Claim, spans: Mapping[TP, Any]) -> fold.Batch:
        assert self.connection is not None
        kept = self.again.take(self.connection, claim)
        told: list[records.Record] = [
            r for tp, span in spans.items() if tp.topic == topics.FACTS for r in span.records
        ]
        told += [one for one in kept if one.topic == topics.FACTS]
        batch = fold.Batch(claim.moves(spans, self._highwater), records.decode(told, self.homes))
        if told:
            self._keys.begin(self.connection)
            self._keys.demand(self.connection, batch.facts.kids)
        for tp, span in spans.items():
            if tp.topic == topics.COMMANDS:
                for record in span.records:
                    read_back(batch, record)
        for one in kept:
            if one.topic == topics.COMMANDS:
                read_back(batch, one)
        if kept:
            batch.again = parked_again.Again.of(kept)
            batch.again.take_out(batch.facts.asides)
        return batch

    def _count(self, batch: fold.Batch, spans: Mapping[TP, Any], done: fold.Done) -> None:
        facts = batch.facts
        for type_, number in done.folded.items():
            metrics.EVENTS_FOLDED.labels(type=type_).inc(number)
        metrics.DUPLICATES.inc(done.duplicates)
        metrics.CONFLICTS.inc(done.conflicts)
        for aside in facts.asides:
            metrics.PARKED.labels(reason=aside.reason).inc()
        parked_fold.count(batch.again)
        if spans:
            metrics.BATCH_RECORDS.observe(sum(len(span.records) for span in spans.values()))
        now = datetime.now(UTC)
        for accepted in facts.accepted[:: max(1, len(facts.accepted) // SAMPLES)]:
            delay = now - datetime.fromisoformat(accepted)
            metrics.ROW_DELAY_SECONDS.observe(max(0.0, delay.total_seconds()))
        for due in done.expired:
            metrics.TIMER_LATENESS_SECONDS.labels(kind=engagement.COMMAND).observe(
                (done.at - due).total_seconds()
            )
        metrics.COMMANDS.labels(kind=engagement.COMMAND).inc(done.commands)


def _homes(claim: claims.Claim) -> list[int]:
    return [tp.partition for tp in claim.held if tp.topic == topics.FACTS]


def _trace(spans: Mapping[TP, Any], done: fold.Done, seconds: float) -> None:
    """One span for a transaction, linked to some of the traces that its facts name."""
    read = [record for span in spans.values() for record in span.records]
    facts = sum(done.folded.values())
    tracing.done(
        "fold", seconds, tracing.of_records(read), records=len(read), facts=facts,
        duplicates=done.duplicates, conflicts=done.conflicts, contacts=done.contacts,
    )  # fmt: skip


def read_back(batch: fold.Batch, record: records.Record) -> None:
    """A record of `commands`: its outbox row may go, who is named is looked at; a stranger's does nothing."""
    try:
        told = commands.read(record.value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        batch.facts.asides.append(
            records.aside(record, errors.Reason.UNDECODABLE, "this record is not a command that Heed wrote.")
        )
        return
    if commands.is_ours(told.id):
        batch.read_back.append(told.id)
    batch.named.extend(item.contact_id for item in told.data.items)
