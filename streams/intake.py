"""Intake: what stands at the doors goes onto the log, or is parked with its reason.

Promises: judged by the one admission function; the position moves after the log's acknowledgements, so
nothing is lost, and what is appended twice after a crash is one fact. Nothing that stands at a door can stop
this reader.
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

from projections import database, parked, positions, records
from schemas import metrics, topics
from streams import claims, judge, lanes, log, producer, tracing, vault

READER = "intake"


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
        self._out, self._loop = out, loop
        self._highwater = highwater

    def owns(self, tp: TP) -> bool:
        return tp.topic in topics.DOORS

    def look(self, _: claims.Claim) -> bool:
        return False

    def work(self, claim: claims.Claim, spans: Mapping[TP, Any]) -> bool:
        admitted: list[producer.Record] = []
        asides: list[records.Aside] = []
        secret = self._vault.secret
        with tracing.batch(READER, spans) as told:
            for tp, span in spans.items():
                for record in span.records:
                    judge.record(record, tp.topic, self.homes, self.ahead, secret, admitted, asides)
            told.link(tracing.of_records(admitted))
            told.tell({"admitted": len(admitted), "parked": len(asides)})
            if admitted:
                with tracing.span("append", "producer", records=len(admitted)):
                    self._out.append_from_thread(admitted, self._loop)
            self._commit(claim, spans, asides)
        self.moved(claim, spans)
        for door, number in collections.Counter(dict(record.headers)["door"] for record in admitted).items():
            metrics.ADMITTED.labels(door=door.decode()).inc(number)
        for aside in asides:
            metrics.PARKED.labels(reason=aside.reason).inc()
        return False

    def _commit(self, claim: claims.Claim, spans: Mapping[TP, Any], asides: list[records.Aside]) -> None:
        assert self.connection is not None
        with self.connection.transaction():
            positions.move(self.connection, self.reader, claim.moves(spans, self._highwater))
            parked.park(self.connection, asides)
