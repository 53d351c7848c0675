"""Parked records discarded on somebody's word, a step at a time (LAW-7).

Promises: every discard is a fact `parked.discarded` of the registry, with who, where and why, never the
bytes; the fact is acknowledged before the row goes. A crash between leaves a row that can be discarded
again, which says the same fact.
Limits: as `streams.parked`. What stands on the log stays there: a replay reads it again.
Called by: the API and `heed parked discard`.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Final

import psycopg

from projections import parked
from schemas import metrics
from schemas import registry as facts
from streams import parked as walking
from streams import producer, telling

DISCARDED: Final = "discarded"
_NAMESPACE: Final = uuid.UUID("b0c6b7f2-4c6e-5b0e-8d4b-5a4f1f0f6d11")


class Discarder:
    """Discards records on somebody's word, over one connection that nobody else uses meanwhile."""

    def __init__(self, connection: psycopg.Connection, append: walking.Append, actor: str) -> None:
        self._connection, self._append, self._actor = connection, append, actor

    def step(self, ids: Sequence[int]) -> list[walking.Outcome]:
        """Record that these are discarded, and then delete them. Raises as `parked.Driver.step`."""
        with self._connection.transaction():
            at, kept = parked.lock(self._connection, ids)
            if kept:
                hashes = parked.hashes(self._connection, [one.id for one in kept])
                self._append([self._fact(one, hashes[one.id], at) for one in kept])
            parked.let_go(self._connection, [one.id for one in kept])
        for one in kept:
            metrics.DISCARDED.labels(reason=one.reason).inc()
        outcomes = {one.id: walking.Outcome(one.id, DISCARDED, one.reason, one.detail) for one in kept}
        outcomes |= walking.absent(self._connection, [id_ for id_ in ids if id_ not in outcomes])
        return [outcomes[id_] for id_ in ids]

    def _fact(self, one: parked.Kept, hash_: str, at: datetime | None) -> producer.Record:
        """The same record discarded again is the same fact; other bytes at its place are another."""
        subject = facts.parked(*one.place)
        content = facts.ParkedDiscarded(one.offset, one.partition, one.reason, one.topic)
        id_ = str(uuid.uuid5(_NAMESPACE, f"{subject}:{hash_}"))
        return telling.record(telling.Entry("parked.discarded", subject, content, self._actor, id_, at))
