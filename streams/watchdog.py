"""The watchdog: ends a process that has work and does not get on, so that its supervisor starts it again.

Promises: only what waits by design is waited for. A thread is *stuck* when for `seconds` it did nothing that
moves it on, though each close look found work and both servers answering: records to read (by PostgreSQL's
positions and Kafka's own ends, asked on connections of its own), or a claim it should have made. An event
loop that has not run anything for so long is stuck whatever there is to do. The process then ends with
`Stuck` as its last line, and the line before says where each thread stands: places in the code, no values.
Time in which this process itself did not run (suspended, starved) does not count.
Limits: a thread of Python's. Should the interpreter itself stand still (a C extension that keeps its lock), C
code of `faulthandler` ends the process after three times as long: exit 1, after a dump of all stacks.
Called by: `streams.app`, `api.app`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import faulthandler
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import aiokafka
import aiokafka.errors
import psycopg
import structlog
from faust.types import TP

from projections import database
from schemas import errors
from streams import broker, log, process

TICK: Final = 1.0
LOOKS: Final = 3  # close looks within the time after which a thread counts as stuck
LAST_RESORT: Final = 3
ANSWER_SECONDS: Final = 10.0  # for each server, in a close look
LOOP: Final = "event loop"

# Purpose: how long ago the sessions of threads began or ended a statement.
SESSIONS: Final = """
select pid, extract(epoch from clock_timestamp() - state_change)::float8 from pg_stat_activity
where pid = any(%s)
"""


class Stuck(errors.Doubt):
    """This process has work and does not get on: it ends, to be started again."""


@dataclasses.dataclass(frozen=True, slots=True)
class Standing:
    """Where a thread stands. `mark` changes with everything that moves it on; `nexts` are the offsets it
    reads next; `backend` is its session's, inside a transaction."""

    name: str
    mark: object
    thread: int | None = None
    nexts: Mapping[TP, int] = dataclasses.field(default_factory=dict)
    backend: int | None = None
    idle: bool = False  # there is nothing that it should do: no partitions are its own


@dataclasses.dataclass(slots=True)
class _Known:
    mark: object
    still: float = 0.0  # seconds without a new mark
    looked: float = 0.0  # `still` at the last close look
    behind: float | None = None  # `still` when a close look first found work


class Patience:
    """Who stands still, for how long; pure. Seconds count only as far as the caller really looked."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._known: dict[str, _Known] = {}
        self._now: float | None = None

    def due(self, now: float, standings: Iterable[Standing]) -> list[Standing]:
        """Those that stand still and should be looked at closely now."""
        awake = 0.0 if self._now is None else min(now - self._now, 2 * TICK)
        self._now = now
        due = []
        for one in standings:
            known = self._known.get(one.name)
            if known is None or known.mark != one.mark or one.idle:
                self._known[one.name] = _Known(one.mark)
                continue
            known.still += awake
            if known.still - known.looked >= self.seconds / LOOKS:
                known.looked = known.still
                due.append(one)
        return due

    def seen(self, one: Standing, has_work: bool) -> bool:
        """What a close look found; answers whether it is stuck."""
        known = self._known[one.name]
        if not has_work:
            known.behind = None
            return False
        if known.behind is None:
            known.behind = 0.0 if one.name == LOOP else known.still
        return known.still - known.behind >= self.seconds

    def still(self, one: Standing) -> float:
        """Seconds for which it has stood still."""
        return self._known[one.name].still


class Eyes:
    """Close looks, on connections of their own, from the watchdog's thread."""

    def __init__(self, kafka: broker.Broker, dsn: str, owner: str) -> None:
        self._kafka, self._dsn, self._owner = kafka, dsn, owner

    def with_work(self, standings: Sequence[Standing], seconds: float) -> set[str]:
        """Names of those that have work they could do; none while a server is away or silent. A session is
        at work whose last statement began or ended less than `seconds` ago.
        """
        patience = min(ANSWER_SECONDS, LOOKS * seconds)
        try:
            at_work = self._at_work(standings, seconds, patience)
            ends = asyncio.run(self._ends({tp for one in standings for tp in one.nexts}, patience))
        except (errors.Away, psycopg.Error, aiokafka.errors.KafkaError, TimeoutError, OSError):
            return set()
        return {
            one.name
            for one in standings
            if one.backend not in at_work
            and (not one.nexts or any(ends[tp] > offset for tp, offset in one.nexts.items()))
        }

    def _at_work(self, standings: Sequence[Standing], seconds: float, patience: float) -> set[int | None]:
        """Sessions that do one statement after another, however long the whole takes."""
        asked = [one.backend for one in standings if one.backend is not None]
        with (
            database.connect(
                self._dsn, "heed_ops", f"{self._owner} watchdog", statement_seconds=5
            ) as connection,
            database.hung_up_after(connection, patience),
        ):
            found = connection.execute(SESSIONS, (asked,)).fetchall()
        return {pid for pid, age in found if age < seconds}

    async def _ends(self, wanted: Iterable[TP], patience: float) -> dict[TP, int]:
        """Where reading ends now; open transactions of producers are not read."""
        asked = [aiokafka.TopicPartition(*tp) for tp in wanted]
        async with asyncio.timeout(patience), log.reading(self._kafka) as consumer:
            return {TP(*tp): end for tp, end in (await consumer.end_offsets(asked)).items()}


class Watchdog:
    """Watches threads and the event loop that it is made on, from a thread of its own."""

    def __init__(
        self, seconds: float, standings: Callable[[], list[Standing]], eyes: Eyes | None = None
    ) -> None:
        """`seconds` 0: nothing is watched. Without `eyes` only the event loop is."""
        self._seconds = seconds
        self._standings = standings
        self._eyes = eyes
        self._patience = Patience(seconds)
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._beats = self._asked = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        if self._seconds:
            self._thread.start()

    def stop(self) -> None:
        """Look no more: the process ends in order."""
        self._stopping.set()
        faulthandler.cancel_dump_traceback_later()

    def _run(self) -> None:
        armed = float("-inf")
        while not self._stopping.wait(TICK):
            now = time.monotonic()
            if now - armed > self._seconds / 4:
                faulthandler.dump_traceback_later(LAST_RESORT * self._seconds, exit=True)
                armed = now
            try:
                self._look(now)
            except Stuck as stuck:
                process.die(stuck)
            except (Exception, asyncio.CancelledError) as error:  # no reason to end what works
                structlog.get_logger().warning("the watchdog could not look", error=type(error).__name__)

    def _look(self, now: float) -> None:
        due = self._patience.due(now, [self._of_loop(), *self._standings()])
        threads = [one for one in due if one.name != LOOP]
        found = {LOOP}
        if threads and self._eyes is not None:
            found |= self._eyes.with_work(threads, self._seconds / LOOKS)
        stuck = [one for one in due if self._patience.seen(one, one.name in found)]
        if stuck and not self._stopping.is_set():
            structlog.get_logger().error("stands still", where=places())
            raise Stuck("; ".join(self._told(one) for one in stuck))

    def _of_loop(self) -> Standing:
        if self._asked == self._beats:
            self._asked += 1
            self._loop.call_soon_threadsafe(self._beat)
        return Standing(LOOP, self._beats, self._loop_thread)

    def _beat(self) -> None:
        self._beats += 1

    def _told(self, one: Standing) -> str:
        where = places().get(_name(one.thread), ["nowhere: its thread has ended"])[-1]
        return f"{one.name} has work and has not got on for {self._patience.still(one):.0f} s, at {where}"


def session(connection: psycopg.Connection | None) -> int | None:
    """The backend of a connection that is inside a transaction; asked from another thread."""
    try:
        if connection is not None and connection.info.transaction_status > 0:
            return connection.info.backend_pid
    except psycopg.Error:  # closed meanwhile
        pass
    return None


def places() -> dict[str, list[str]]:
    """Where each thread stands, innermost last: places in the code, no values."""
    found = {}
    for thread, frame in sys._current_frames().items():
        if thread != threading.get_ident():
            stack = traceback.extract_stack(frame)[-6:]
            found[_name(thread)] = [process.place(one) for one in stack]
    return found


def _name(thread: int | None) -> str:
    return next((one.name for one in threading.enumerate() if one.ident == thread), f"thread {thread}")
