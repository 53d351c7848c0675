"""The registry's lane: settings, keys and what else was decided for all of Heed, folded by one writer.

Promises: what one transaction does is `projections.registry`'s. A worker that owns the registry and has read
it to its end writes the first values of the settings that nobody has set yet, dated 1970, from its own
environment; an environment that differs from what holds is only warned of. While everyone is put up for
recalculation it goes on by steps, between which records are read.
Limits: one worker has it, since the topic has one partition.
Called by: `streams.app`.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final

import psycopg
from faust.types import TP

from projections import database, fold, parked_again, recalculation, registry
from schemas import metrics, settings, topics
from schemas import registry as facts
from streams import claims, lanes, log, parked_fold, producer, telling

_NAMESPACE: Final = uuid.UUID("3c0f1f52-54c0-5f0b-9d39-6a6f0d1f7c55")
ACTOR: Final = "environment"


class RegistryLane(lanes.Lane):
    """The reader of the registry."""

    reader = registry.READER
    path = database.LIVE_PATH

    def __init__(
        self,
        owner: str,
        dsn: str,
        inspector: log.Inspector,
        wake: Callable[[], None],
        *,
        chosen: settings.Settings,
        stated: frozenset[str],
        out: producer.LogProducer,
        loop: asyncio.AbstractEventLoop,
        highwater: Callable[[TP], int | None],
    ) -> None:
        super().__init__("registry", owner, dsn, inspector, wake)
        self._chosen, self._stated = chosen, stated
        self._out, self._loop = out, loop
        self._highwater = highwater
        self.again = parked_fold.Asked()
        self._looked_at = 0  # the claim under which the first values were looked for

    def owns(self, tp: TP) -> bool:
        return tp.topic == topics.REGISTRY

    def opened(self, connection: psycopg.Connection) -> None:
        connection.execute(fold.PLAN)

    def look(self, claim: claims.Claim) -> bool:
        assert self.connection is not None
        if claim.number not in (0, self._looked_at):
            return True
        return self.again.waits or recalculation.is_filling(self.connection)

    def work(self, claim: claims.Claim, spans: Mapping[TP, Any]) -> bool:
        assert self.connection is not None
        kept = self.again.take(self.connection, claim)
        batch = registry.decode([*(record for span in spans.values() for record in span.records), *kept])
        if kept:
            batch.again = parked_again.Again.of(kept)
            batch.again.take_out(batch.asides)
        batch.moves = claim.moves(spans, self._highwater)
        done = registry.advance(self.connection, batch, self._chosen.homes)
        self.moved(claim, spans)
        for type_ in batch.types:
            metrics.REGISTERED.labels(type=type_).inc()
        for aside in batch.asides:
            metrics.PARKED.labels(reason=aside.reason).inc()
        parked_fold.count(batch.again)
        if claim.number not in (0, self._looked_at) and self._at_the_end(claim):
            self._first_values()
            self._looked_at = claim.number
        return done.more or self.again.waits

    def _at_the_end(self, claim: claims.Claim) -> bool:
        """Whether everything that stands in the registry has been read: only then is a value missing."""
        return all(claim.next[tp] >= ends.end for tp, ends in self.inspector.ends(claim.next).items())

    def _first_values(self) -> None:
        assert self.connection is not None
        held = registry.values(self.connection)
        missing = [name for name in settings.CHANGING if name not in held]
        records = [telling.record(self._first(name)) for name in missing]
        if records:
            self._out.append_from_thread(records, self._loop)
        for name in sorted(self._stated & set(held)):
            if settings.parse(name, held[name]) != getattr(self._chosen, name):
                self._log.warning(
                    "the environment differs from the setting in force, which stays",
                    variable=settings.variable(name),
                    remedy=f"heed settings set {name}",
                )

    def _first(self, name: str) -> telling.Entry:
        value = settings.written(getattr(self._chosen, name))
        return telling.Entry(
            "setting.changed", facts.setting(name), facts.SettingChanged(name, value), ACTOR,
            id=str(uuid.uuid5(_NAMESPACE, name)), time=telling.FIRST,
        )  # fmt: skip
