"""Taking partitions over: by the group's word, or again after a lost connection.

Promises: a claim waits for a predecessor's open transaction, and ends its backend when it stands still; it
is believed only if the log still fits (`log.Inspector.check`). Taking again what was held is refused when
another worker took it meanwhile (`positions.Fenced`).
Limits: on the caller's connection, so that the backend named in `position` is the one that will hold the
rows.
Called by: `streams.lanes`; readers ask a claim for its moves.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import psycopg
from faust.types import TP

from projections import positions, records
from streams import log


@dataclasses.dataclass(slots=True)
class Claim:
    """Partitions that a lane owns: their epochs, how far it has come in each, and unanswered tries to own
    them again."""

    number: int
    held: dict[TP, positions.Held]
    next: dict[TP, int]
    tries: list[positions.Try] = dataclasses.field(default_factory=list)

    def moves(
        self, spans: Mapping[TP, Any], highwater: Callable[[TP], int | None]
    ) -> dict[positions.TP, positions.Move]:
        """How far every partition moves by these spans; one without a span stays where it is."""
        return {
            (tp.topic, tp.partition): self._move(tp, spans.get(tp), highwater(tp) or 0) for tp in self.held
        }

    def _move(self, tp: TP, span: Any, log_end: int) -> positions.Move:
        start = self.next[tp]
        end = start if span is None else span.end
        made = positions.Move(self.held[tp].epoch, start, end, max(end, log_end))
        if span is not None and span.records:
            last = span.records[-1]
            made.last_record = records.identity(last)
            made.read_at = datetime.fromtimestamp(last.timestamp / 1000, UTC)
        return made


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

    def take_again(self, claim: Claim) -> None:
        """Own what was held before, on a new connection; raises `positions.Fenced`."""
        before = {(tp.topic, tp.partition): one for tp, one in claim.held.items()}
        claim.held = _by_tp(positions.reclaim(self.connection, self.reader, before, claim.tries))
        claim.tries.clear()

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
