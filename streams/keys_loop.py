"""The lane of the topic `keys`: wrapped keys, and those that are destroyed, folded by one reader.

Promises: what one transaction does is `projections.data_keys`'. An ill-formed record is warned of, by its
offset, and stops nothing. The keys of whoever is erased are destroyed on the topic, those too that are made
later; who is taken off the list of them has no key left there, whatever is killed meanwhile.
Limits: one worker has it, since the topic has one partition.
Called by: `streams.app`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from faust.types import TP

from projections import data_keys, database
from schemas import sealing, topics
from streams import claims, lanes, log, producer


class KeysLane(lanes.Lane):
    """The reader of the topic `keys`."""

    reader = data_keys.READER
    path = database.OPS_PATH

    def __init__(
        self,
        owner: str,
        dsn: str,
        inspector: log.Inspector,
        wake: Callable[[], None],
        *,
        out: producer.LogProducer,
        loop: asyncio.AbstractEventLoop,
        highwater: Callable[[TP], int | None],
    ) -> None:
        super().__init__(self.reader, owner, dsn, inspector, wake)
        self._out, self._loop = out, loop
        self._highwater = highwater

    def owns(self, tp: TP) -> bool:
        return tp.topic == topics.KEYS

    def look(self, _: claims.Claim) -> bool:
        assert self.connection is not None
        return data_keys.waits(self.connection)

    def work(self, claim: claims.Claim, spans: Mapping[TP, Any]) -> bool:
        assert self.connection is not None
        batch = data_keys.decode(record for span in spans.values() for record in span.records)
        for offset in batch.ill_formed:
            self._log.warning("ignored an ill-formed record of the topic keys", offset=offset)
        batch.moves = claim.moves(spans, self._highwater)
        data_keys.advance(self.connection, batch)
        self.moved(claim, spans)
        return self._destroy()

    def _destroy(self) -> bool:
        """A step of the keys that are to be destroyed, unless others write over keys; whether more may be."""
        assert self.connection is not None
        if not data_keys.waits(self.connection) or not data_keys.take_lock(self.connection):
            return False
        try:
            subjects, kids = data_keys.to_destroy(self.connection)
            records = [
                producer.Record(topics.KEYS, 0, kid.encode(), sealing.write_destroyed(kid)) for kid in kids
            ]
            if records:
                self._out.append_from_thread(records, self._loop)
            if len(kids) < data_keys.AT_ONCE:
                data_keys.destroyed(self.connection, subjects)
            return len(kids) < data_keys.AT_ONCE == len(subjects)
        finally:
            data_keys.give_lock(self.connection)
