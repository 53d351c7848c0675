"""Parked records driven again, a step at a time, with an outcome for each (LAW-7).

Promises: driving again judges the stored bytes by today's admission and the database's clock; a record leaves
`parked` only after the log has acknowledged its fact, so a crash between makes at worst a copy, which is one
fact. What stands on the log is folded again by the owner of its partition, who is asked and waited for. Two
who work on the same records at one time pass each other's by.
Limits: a step takes `parked.AT_ONCE` records, 16 MB of them at most, and holds their rows while the log
acknowledges. A walk ends where the newest record was when it began. A whole batch cannot be driven again.
Called by: the API and `heed parked` (`walk`), the worker's loop (`streams.parked_loop`); `streams.discarding`
walks too.
"""

from __future__ import annotations

import collections
import dataclasses
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final

import psycopg

from projections import data_keys, database, parked, records
from schemas import admission, errors, metrics, topics
from streams import judge, producer, vault

MOST_OUTCOMES: Final = 10_000
OWNER_SECONDS: Final = 5.0  # what an owner has to fold what it was asked for
LOOK_SECONDS: Final = 0.05
IDLE_SECONDS: Final = 20  # what the database lets a step wait for the log

DRIVEN: Final = "driven"
PARKED: Final = "parked"
GONE: Final = "gone"

HELD: Final = "somebody else drives or discards it at this moment; ask again."
_ASKED: Final = "its owner was asked to fold it again, and has not done so yet; it will."
_NO_DOOR: Final = "this Heed does not read the topic it came by."

Append = Callable[[Sequence[producer.Record]], None]
Step = Callable[[Sequence[int]], "list[Outcome]"]


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one parked record; reason and detail say why it stays."""

    id: int
    status: str
    reason: str | None = None
    detail: str | None = None


@dataclasses.dataclass(slots=True)
class Report:
    """What a walk did: how many by status, the first outcomes, and where to go on (None: at its end)."""

    counts: dict[str, int]
    outcomes: list[Outcome] = dataclasses.field(default_factory=list)
    next: int | None = None

    def add(self, found: Sequence[Outcome]) -> None:
        for one in found:
            self.counts[one.status] = self.counts.get(one.status, 0) + 1
        self.outcomes += found[: MOST_OUTCOMES - len(self.outcomes)]


def walk(
    connection: psycopg.Connection,
    wanted: parked.Filter | Sequence[int],
    step: Step,
    report: Report,
    *,
    after: int = 0,
    seconds: float = float("inf"),
    stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Take steps over all that is meant, oldest first, until the end, the time, or a stop.

    `report.next` is where it ended; a step under way is finished. Raises `errors.Away`: what was done until
    then stays done.
    """
    try:
        _walk(connection, wanted, step, report, after, seconds, stopped)
    except psycopg.Error as error:
        if not database.is_away(error):
            raise
        raise errors.Away("PostgreSQL went away; what was done stays done, so ask again.") from error


def _walk(
    connection: psycopg.Connection,
    wanted: parked.Filter | Sequence[int],
    step: Step,
    report: Report,
    after: int,
    seconds: float,
    stopped: Callable[[], bool],
) -> None:
    until = time.monotonic() + seconds
    upto = parked.newest(connection)
    report.next = after
    while True:
        if isinstance(wanted, parked.Filter):
            ids = parked.find(connection, wanted, after, upto)
        else:
            ids = sorted({one for one in wanted if one > after})[: parked.AT_ONCE]
        if not ids:
            report.next = None
            return
        report.add(step(ids))
        report.next = after = ids[-1]
        if stopped() or time.monotonic() > until:
            return


class Driver:
    """Drives records again, over one connection that nobody else uses meanwhile."""

    def __init__(
        self,
        connection: psycopg.Connection,
        append: Append,
        *,
        homes: int,
        ahead: timedelta,
        keys: vault.Vault,
    ) -> None:
        self._connection, self._append = connection, append
        self._homes, self._ahead, self._vault = homes, ahead, keys

    def step(self, ids: Sequence[int]) -> list[Outcome]:
        """Drive these again; blocks for the log, and for the owners of what stands on it.

        Raises `errors.Away`; psycopg.Error when the server is away: then nothing of this step is lost.
        """
        outcomes, asked = self.doors(ids)
        if asked:
            outcomes.update(self._owners(asked))
        return [outcomes[id_] for id_ in ids]

    def doors(self, ids: Sequence[int]) -> tuple[dict[int, Outcome], list[int]]:
        """Judge what came by a door, ask the owners of the rest: outcomes, and what owners were asked for."""
        outcomes: dict[int, Outcome] = {}
        judged: list[tuple[admission.Admitted, parked.Kept]] = []
        still: list[tuple[int, records.Aside]] = []
        asked: list[int] = []
        with self._connection.transaction():
            at, kept = parked.lock(self._connection, ids)
            for one in kept:
                if one.batch:
                    outcomes[one.id] = Outcome(one.id, PARKED, one.reason, one.detail)
                elif one.door is None:
                    asked.append(one.id)
                elif isinstance(found := self._judge(one, at), admission.Admitted):
                    judged.append((found, one))
                    outcomes[one.id] = Outcome(one.id, DRIVEN)
                else:
                    still.append((one.id, found))
                    outcomes[one.id] = Outcome(one.id, PARKED, found.reason, found.detail)
            if judged:
                self._append(self._sealed(judged))
            parked.let_go(self._connection, [one.id for _, one in judged])
            parked.keep(self._connection, still)
            parked.ask(self._connection, asked)
        for event, _ in judged:
            metrics.ADMITTED.labels(door=event.door).inc()
        missing = [id_ for id_ in ids if id_ not in outcomes and id_ not in asked]
        outcomes |= absent(self._connection, missing)
        for status, number in collections.Counter(one.status for one in outcomes.values()).items():
            metrics.REDRIVEN.labels(outcome=status).inc(number)
        return outcomes, asked

    def _judge(self, one: parked.Kept, at: datetime | None) -> admission.Admitted | records.Aside:
        assert at is not None
        assert one.door is not None
        if one.reason == errors.Reason.ERASED:
            return judge.erased(*one.place)
        if one.door not in topics.DOORS:
            return records.Aside(one.reason, _NO_DOOR, *one.place, b"")
        outcome = admission.admit(
            one.value, at=at, door=one.door, homes=self._homes, ahead=self._ahead, secret=self._vault.secret
        )
        return outcome if isinstance(outcome, admission.Admitted) else judge.rejected(outcome, *one.place)

    def _sealed(self, judged: Sequence[tuple[admission.Admitted, parked.Kept]]) -> list[producer.Record]:
        """What goes onto the log; keys that are new are on their topic by then."""
        sealed = self._vault.sealed(
            [event for event, _ in judged],
            lambda subjects: data_keys.of_subjects(self._connection, subjects),
            self._append,
        )
        return [
            record
            for event, (_, one) in zip(sealed, judged, strict=True)
            for record in judge.fact_records(event, one.partition, one.offset)
        ]

    def _owners(self, asked: Sequence[int]) -> dict[int, Outcome]:
        """Wait for the owners of these; what they have not folded in time they fold later."""
        until = time.monotonic() + OWNER_SECONDS
        while True:
            left = parked.state(self._connection, asked)
            if not any(waits for _, _, waits in left.values()) or time.monotonic() > until:
                break
            time.sleep(LOOK_SECONDS)
        outcomes = {id_: Outcome(id_, DRIVEN) for id_ in asked if id_ not in left}
        for id_, (reason, detail, waits) in left.items():
            outcomes[id_] = Outcome(id_, PARKED, reason, _ASKED if waits else detail)
        return outcomes


def absent(connection: psycopg.Connection, ids: Sequence[int]) -> dict[int, Outcome]:
    """Outcomes of those that could not be had: gone, or held by somebody else."""
    if not ids:
        return {}
    there = parked.state(connection, ids)
    return {
        id_: Outcome(id_, PARKED, there[id_][0], HELD) if id_ in there else Outcome(id_, GONE) for id_ in ids
    }
