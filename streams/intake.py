"""Intake: what stands at the doors goes onto the log, or is parked with its reason.

Promises: judged by the one admission function, and sealed, with keys that stand on their topic by then; the
position moves after the log's acknowledgements, so nothing is lost, and what is appended twice after a crash
is one fact. Nothing goes on of whoever is erased. Nothing that stands at a door can stop this reader.
Limits: at least once; the append time at the door is the clock an event is judged by.
Called by: `streams.app`.
"""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from faust.types import TP

from projections import data_keys, database, erasure, parked, positions, records
from schemas import admission, metrics, topics
from streams import claims, judge, key_watch, lanes, log, producer, tracing, vault

READER = "intake"

Judged = list[tuple[admission.Admitted, records.Record]]


class IntakeLane(lanes.Lane):
    """The reader of the doors."""

    reader = READER
    path = database.OPS_PATH

    def __init__(
        self,
        owner: str,
        dsn: str,
        inspector: log.Inspector,
        wake: Callable[[], None],
        *,
        homes: int,
        ahead: timedelta,
        keys: vault.Vault,
        out: producer.LogProducer,
        loop: asyncio.AbstractEventLoop,
        highwater: Callable[[TP], int | None],
    ) -> None:
        super().__init__(READER, owner, dsn, inspector, wake)
        self.homes, self.ahead, self._vault = homes, ahead, keys
        self._keys = key_watch.KeyWatch(inspector)
        self._out, self._loop = out, loop
        self._highwater = highwater

    def owns(self, tp: TP) -> bool:
        return tp.topic in topics.DOORS

    def look(self, _: claims.Claim) -> bool:
        return False

    def work(self, claim: claims.Claim, spans: Mapping[TP, Any]) -> bool:
        assert self.connection is not None
        self._keys.begin(self.connection)
        with tracing.batch(READER, spans) as told:
            judged, asides = self._without_erased(*self._judge(spans))
            admitted = self._sealed(judged)
            told.link(tracing.of_records(admitted))
            told.tell({"admitted": len(judged), "parked": len(asides)})
            if admitted:
                with tracing.span("append", "producer", records=len(admitted)):
                    self._out.append_from_thread(admitted, self._loop)
            self._commit(claim, spans, asides)
        self.moved(claim, spans)
        for door, number in collections.Counter(event.door for event, _ in judged).items():
            metrics.ADMITTED.labels(door=door).inc(number)
        for aside in asides:
            metrics.PARKED.labels(reason=aside.reason).inc()
        return False

    def _judge(self, spans: Mapping[TP, Any]) -> tuple[Judged, list[records.Aside]]:
        judged: Judged = []
        asides: list[records.Aside] = []
        secret = self._vault.secret
        for tp, span in spans.items():
            for record in span.records:
                found = judge.record(record, tp.topic, self.homes, self.ahead, secret)
                if isinstance(found, records.Aside):
                    asides.append(found)
                else:
                    judged.append((found, record))
        return judged, asides

    def _without_erased(
        self, judged: Judged, asides: list[records.Aside]
    ) -> tuple[Judged, list[records.Aside]]:
        """What is about somebody who is erased is set aside, by its place alone."""
        gone = erasure.of(self._connected(), {event.subject for event, _ in judged})
        if gone:
            asides = asides + [
                judge.erased(record.topic, record.partition, record.offset)
                for event, record in judged
                if event.subject in gone
            ]
            judged = [one for one in judged if one[0].subject not in gone]
        return judged, asides

    def _sealed(self, judged: Judged) -> list[producer.Record]:
        """What goes onto the log; keys that are new are on their topic by then."""
        sealed = self._vault.sealed(
            [event for event, _ in judged],
            lambda subjects: data_keys.of_subjects(self._connected(), subjects),
            lambda found: self._out.append_from_thread(found, self._loop),
        )
        return [
            one
            for event, (_, record) in zip(sealed, judged, strict=True)
            for one in judge.fact_records(event, record.partition, record.offset)
        ]

    def _commit(self, claim: claims.Claim, spans: Mapping[TP, Any], asides: list[records.Aside]) -> None:
        assert self.connection is not None
        with self.connection.transaction():
            positions.move(self.connection, self.reader, claim.moves(spans, self._highwater))
            if asides:
                erasure.shared(self.connection)
                gone = erasure.of(self.connection, {one.subject for one in asides if one.subject})
                asides = [
                    judge.erased(one.topic, one.part, one.off) if one.subject in gone else one
                    for one in asides
                ]
            parked.park(self.connection, asides)
