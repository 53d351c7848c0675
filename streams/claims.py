"""Taking partitions over: by the group's word, or again after a lost connection.

Promises: a claim waits for a predecessor's open transaction, and ends its backend when it stands still; it
is believed only if the log still fits (`log.Inspector.check`). Taking again what was held is refused when
another worker took it meanwhile (`positions.Fenced`).
Limits: on the caller's connection, so that the backend named in `position` is the one that will hold the
rows.
Called by: `streams.lanes`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import psycopg
from faust.types import TP

from projections import positions
from streams import log


@dataclasses.dataclass(frozen=True, slots=True)
class Claimer:
    """Claims of one reader, for one owner, on one connection."""

    connection: psycopg.Connection
    reader: str
    owner: str
    inspector: log.Inspector
    say: Any

    def take(self, ends: Mapping[TP, log.Ends]) -> dict[TP, positions.Held]:
        """Own these partitions by the group's word; one never read before starts at the log's start."""
        firsts = {
            (tp.topic, tp.partition): 0 if tp.topic in log.FOR_EVER else end.first for tp, end in ends.items()
        }
        try:
            return _by_tp(positions.claim(self.connection, self.reader, self.owner, firsts))
        except psycopg.errors.LockNotAvailable:
            ended = positions.evict(self.connection, self.reader, list(firsts))
            self.say.warning("evicted a predecessor that stood still", backends=ended)
            return _by_tp(positions.claim(self.connection, self.reader, self.owner, firsts))

    def take_again(self, held: Mapping[TP, positions.Held]) -> dict[TP, positions.Held]:
        """Own what was held before, on a new connection; raises `positions.Fenced`."""
        before = {(tp.topic, tp.partition): one for tp, one in held.items()}
        return _by_tp(positions.reclaim(self.connection, self.reader, before))

    def check(self, held: Mapping[TP, positions.Held], ends: Mapping[TP, log.Ends]) -> dict[TP, int]:
        """Where to read on; what expired unread, where that may be, is said and skipped."""
        nexts = self.inspector.check(held, ends)
        moves = {}
        for tp, offset in nexts.items():
            one = held[tp]
            if offset != one.next_offset:
                self.say.warning("records expired unread", topic=tp.topic, part=tp.partition, until=offset)
                moves[(tp.topic, tp.partition)] = positions.Move(
                    one.epoch, one.next_offset, offset, ends[tp].end
                )
        if moves:
            with self.connection.transaction():
                positions.move(self.connection, self.reader, moves)
        return nexts


def _by_tp(held: Mapping[positions.TP, positions.Held]) -> dict[TP, positions.Held]:
    return {TP(topic, part): one for (topic, part), one in held.items()}
