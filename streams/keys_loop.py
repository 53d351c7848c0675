"""The lane of the topic `keys`: wrapped keys, and those that are destroyed, folded by one reader.

Promises: what one transaction does is `projections.data_keys`'. An ill-formed record is warned of, by its
offset, and stops nothing.
Limits: one worker has it, since the topic has one partition.
Called by: `streams.app`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from faust.types import TP

from projections import data_keys, database
from schemas import topics
from streams import claims, lanes, log


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
        highwater: Callable[[TP], int | None],
    ) -> None:
        super().__init__(self.reader, owner, dsn, inspector, wake)
        self._highwater = highwater

    def owns(self, tp: TP) -> bool:
        return tp.topic == topics.KEYS

    def look(self, _: claims.Claim) -> bool:
        return False

    def work(self, claim: claims.Claim, spans: Mapping[TP, Any]) -> bool:
        assert self.connection is not None
        batch = data_keys.decode(record for span in spans.values() for record in span.records)
        for offset in batch.ill_formed:
            self._log.warning("ignored an ill-formed record of the topic keys", offset=offset)
        batch.moves = claim.moves(spans, self._highwater)
        data_keys.advance(self.connection, batch)
        self.moved(claim, spans)
        return False
