"""Taking partitions over: by the group's word, or again after a lost connection.

Promises: a claim waits for a predecessor's open transaction, and ends its backend when it stands still.
Taking again what was held is refused when another worker took it meanwhile (`positions.Fenced`). PostgreSQL
alone says who owns a partition; records are read under a claim only once the log was found to fit it
(`Check`), and until then the owner does what needs none: so what is due is brought though Kafka be away.
Limits: on the caller's connection, so that the backend named in `position` is the one that will hold the
rows.
Called by: `streams.lanes`; readers ask a claim for its moves.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import psycopg
from faust.types import TP

from projections import positions, records
from schemas import errors
from streams import log, patience, process


@dataclasses.dataclass(slots=True)
class Claim:
    """Partitions of a lane: their epochs and how far it has come in each. `number` is 0 until the log was
    found to fit; `owned` is off once the session is lost that proves it; `tries` to own them again got no
    answer.
    """

    number: int
    held: dict[TP, positions.Held]
    next: dict[TP, int]
    owned: bool = True
    tries: list[positions.Try] = dataclasses.field(default_factory=list)

    def moves(
        self, spans: Mapping[TP, Any], highwater: Callable[[TP], int | None]
    ) -> dict[positions.TP, positions.Move]:
        """How far every partition moves by these spans; one without a span stays where it is."""
        return {
            (tp.topic, tp.partition): self._move(tp, spans.get(tp), highwater(tp) or 0) for tp in self.held
        }

    def must_join(self, spans: Mapping[TP, Any]) -> None:
        """The span guard: every span begins exactly where the lane stands; raises `positions.Gap`."""
        for tp, span in spans.items():
            if span.start != self.next[tp]:
                raise positions.Gap(
                    f"{tp.topic} {tp.partition}: stood at {self.next[tp]}, "
                    f"the log gave [{span.start}, {span.end}). "
                    "It was truncated or replaced: restore it, or start on a new database."
                )

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
    say: Any

    def take(self, ends: Mapping[TP, log.Ends]) -> Claim:
        """Own these partitions by the group's word; one never read before starts at the log's start."""
        firsts = {
            (tp.topic, tp.partition): 0 if tp.topic in log.FOR_EVER else end.first for tp, end in ends.items()
        }
        try:
            return _claim(positions.claim(self.connection, self.reader, self.owner, firsts))
        except psycopg.errors.LockNotAvailable:
            ended = positions.evict(self.connection, self.reader, list(firsts))
            self.say.warning("evicted a predecessor that stood still", backends=ended)
            return _claim(positions.claim(self.connection, self.reader, self.owner, firsts))

    def take_again(self, claim: Claim) -> Claim:
        """Own what was held before, on a new connection; raises `positions.Fenced`."""
        before = {(tp.topic, tp.partition): one for tp, one in claim.held.items()}
        return _claim(positions.reclaim(self.connection, self.reader, before, claim.tries))

    def skip(self, claim: Claim, checked: log.Checked) -> None:
        """Say what expired unread, where that may be, and stand behind it."""
        moves = {}
        for tp, offset in checked.nexts.items():
            one = claim.held[tp]
            if offset != one.next_offset:
                self.say.warning("records expired unread", topic=tp.topic, part=tp.partition, until=offset)
                moves[(tp.topic, tp.partition)] = positions.Move(
                    one.epoch, one.next_offset, offset, checked.ends[tp].end
                )
        if moves:
            with self.connection.transaction():
                positions.move(self.connection, self.reader, moves)


class Check:
    """Asks the log whether a claim fits it, again while Kafka is away; never waits for the answer."""

    def __init__(self, inspector: log.Inspector, changed: threading.Condition, say: Any) -> None:
        """`changed` is notified when the answer is there."""
        self._inspector, self._changed, self._say = inspector, changed, say
        self._claim: Claim | None = None
        self._answer: concurrent.futures.Future[log.Checked] | None = None
        self._not_before = 0.0
        self.patience = patience.Patience()

    def answered(self, claim: Claim | None) -> bool:
        """Whether `found` has something to say of this claim."""
        return claim is not None and claim is self._claim and self._answer is not None and self._answer.done()

    def found(self, claim: Claim) -> log.Checked | None:
        """Where to read on under this claim; None until the log has answered. Raises `log.Replaced` or
        `log.Lost`.
        """
        if claim is not self._claim:
            self._claim, self._answer, self._not_before = claim, None, 0.0
        if self._answer is None:
            if time.monotonic() >= self._not_before:
                self._answer = self._inspector.checking(claim.held)
                self._answer.add_done_callback(self._notify)
            return None
        if not self._answer.done():
            return None
        answer, self._answer = self._answer, None
        try:
            checked = answer.result()
        except errors.Away as away:
            if self.patience.says():
                self._say.warning("waiting for a server, to read on", error=process.told(away))
            self._not_before = time.monotonic() + self.patience.delay()
            return None
        self.patience.reset()
        return checked

    def _notify(self, _: object) -> None:
        with self._changed:
            self._changed.notify_all()


def _claim(held: dict[positions.TP, positions.Held]) -> Claim:
    """What was taken, as PostgreSQL says; the log was not asked yet."""
    by_tp = {TP(topic, part): one for (topic, part), one in held.items()}
    return Claim(0, by_tp, {tp: one.next_offset for tp, one in by_tp.items()})
