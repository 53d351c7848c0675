"""Lanes: a thread, a connection, and the partitions it owns; what every reader has in common.

Promises: a lane works only on partitions that it has claimed in PostgreSQL, and reads on where its claim
says. A claim is checked against Kafka (`streams.log`). *Doubt* ends the process before anything is
committed, with its reason as the last line (exit 3). A server that is *away* is waited for, with backoff;
then the lane claims anew, and is fenced if another worker took its partitions meanwhile.
Limits: one transaction at a time in a lane; partition p belongs to lane p mod the number of lanes.
Called by: `streams.app`, which makes the lanes; `streams.batches`, which asks them what to fetch.
"""

from __future__ import annotations

import abc
import random
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import psycopg
import structlog
from faust.types import TP

from projections import database, positions
from schemas import errors, metrics
from streams import batches, claims, log, process, watchdog

HEARTBEAT = 2.0  # seconds between proofs of life of an idle lane
TICK = 0.1  # seconds between looks for nudges and due rows
PATIENCE = (0.1, 5.0)  # backoff while a server is away: first and longest, in seconds


class Lane(abc.ABC):
    """The skeleton of a reader's lane; a reader says what a batch does, and what it does without one."""

    reader: str
    path: str

    def __init__(
        self, name: str, owner: str, dsn: str, inspector: log.Inspector, wake: Callable[[], None]
    ) -> None:
        self.name = name
        self.owner = owner
        self.dsn = dsn
        self.inspector = inspector
        self._wake = wake
        self._log = structlog.get_logger().bind(lane=name)
        self._changed = threading.Condition()
        self._wanted: frozenset[TP] = frozenset()
        self._wanted_number = 0
        self._claimed_number = 0
        self._claims = 0
        self._claim: claims.Claim | None = None
        self._lost: claims.Claim | None = None
        self._torn: claims.Claim | None = None
        self._fenced = False  # since the last transaction that was committed
        self._batch: batches.Batch | None = None
        self._busy = 0  # the claim whose batch is on its way or worked on
        self._working, self._stopping = threading.Lock(), False
        self._waits = 0
        self._tries = 0  # to reach a server, in all
        self._beat = 0.0
        self._oldest = 0.0
        self._behind_since = 0.0
        self._turns = 0  # that found something to do
        self.connection: psycopg.Connection | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    # What the event loop calls.

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout: float = 8.0) -> None:
        """Finish the transaction under way, and end."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join(timeout)

    @abc.abstractmethod
    def owns(self, tp: TP) -> bool:
        """Whether a partition is this lane's business, if this worker has it."""

    def assign(self, tps: frozenset[TP]) -> None:
        """These partitions are ours by the group's word; what was gathered or offered before is dropped."""
        with self._changed:
            self._wanted, self._wanted_number = tps, self._wanted_number + 1
            self._claim = self._lost = self._batch = None
            self._busy = 0
            self._changed.notify_all()

    def release(self, patience: float = 4.0) -> None:
        """The group takes the partitions away: take nothing more, wait a while for what is under way."""
        self.assign(frozenset())
        if self._working.acquire(timeout=patience):
            self._working.release()

    def reserve(self, claim: int) -> None:
        with self._changed:
            self._busy = claim

    def ready(self) -> bool:
        return not self._busy

    def claimed(self) -> tuple[int, Mapping[TP, int]]:
        claim = self._claim
        return (0, {}) if claim is None else (claim.number, claim.next)

    def offer(self, batch: batches.Batch) -> None:
        """Give the lane a batch; it works on it unless a newer claim stands."""
        with self._changed:
            claim = self._claim
            if claim is None or claim.number != batch.claim:
                self._settle(batch)
                return
            self._batch = batch
            self._changed.notify_all()

    def _settle(self, batch: batches.Batch) -> None:
        """Done with a batch: ready for the next, unless one of a newer claim is on its way already."""
        with self._changed:
            if self._busy == batch.claim:
                self._busy = 0

    # What the thread does.

    @abc.abstractmethod
    def work(self, claim: claims.Claim, spans: Mapping[TP, Any]) -> bool:
        """Take in spans (none: look after what waits); answers whether there is more to do at once."""

    @abc.abstractmethod
    def look(self) -> bool:
        """Whether something waits besides records; cheap."""

    def opened(self, connection: psycopg.Connection) -> None:  # noqa: B027 - most readers need nothing
        """A new connection: prepare what it needs."""

    def _run(self) -> None:
        more = False
        while not self._stopping:
            try:
                more = self._step(more)
                self._waits = 0
            except errors.Doubt as doubt:
                process.die(doubt)
            except errors.Away as away:
                self._be_patient(away)
            except psycopg.Error as error:
                if not database.is_away(error):
                    process.die(error)
                self._be_patient(error)
            except BaseException as error:
                process.die(error)
        if self.connection is not None:
            self.connection.close()

    def _step(self, more: bool) -> bool:
        with self._changed:
            number, wanted = self._wanted_number, self._wanted
        if number != self._claimed_number or (self._claim is None and wanted):
            with self._working:
                self._take_over(number, wanted)
            return True
        claim, batch = self._next(0.0 if more else TICK)
        if claim is None:
            return False
        with self._working:
            more = self._turn(claim, batch, more)
        self._turns += more
        return more

    def _turn(self, claim: claims.Claim, batch: batches.Batch | None, more: bool) -> bool:
        if batch is not None:
            firsts = (span.records[0].timestamp for span in batch.spans.values() if span.records)
            self._oldest = min(firsts, default=0) / 1000
            try:
                return self._work(claim, self._unseen(claim, batch.spans))
            finally:
                self._oldest = 0.0
                self._settle(batch)
                self._wake()
        if more or self.look() or time.monotonic() - self._beat > HEARTBEAT:
            return self._work(claim, {})
        return False

    def _work(self, claim: claims.Claim, spans: Mapping[TP, Any]) -> bool:
        try:
            more = self.work(claim, spans)
            self._fenced = False
            return more
        except psycopg.Error:
            self._torn = claim
            raise
        except positions.Fenced:
            # By another worker, or by a swap of the tables, which keeps epochs? To claim again will say.
            if self._fenced:
                raise
            self._fenced = True
            with self._changed:
                if self._claim is claim:
                    self._claim, self._lost, self._busy = None, claim, 0
            return True

    def _next(self, patience: float) -> tuple[claims.Claim | None, batches.Batch | None]:
        with self._changed:
            if self._batch is None and not self._stopping and patience:
                self._changed.wait(patience)
            batch, self._batch = self._batch, None
            claim = self._claim
            if batch is not None and (claim is None or batch.claim != claim.number):
                self._settle(batch)
                batch = None
            return claim, batch

    def _unseen(self, claim: claims.Claim, spans: Mapping[TP, Any]) -> Mapping[TP, Any]:
        """The span guard: every span begins exactly where the lane stands."""
        for tp, span in spans.items():
            if span.start != claim.next[tp]:
                raise positions.Gap(
                    f"{tp.topic} {tp.partition}: stood at {claim.next[tp]}, "
                    f"the log gave [{span.start}, {span.end}). "
                    "It was truncated or replaced: restore it, or start on a new database."
                )
        return spans

    def _take_over(self, number: int, wanted: frozenset[TP]) -> None:
        """Own the wanted partitions, by the group's word or again after a lost connection."""
        connection = self._connected()
        claimer = claims.Claimer(connection, self.reader, self.owner, self.inspector, self._log)
        lost = self._lost
        # Torn in a transaction, then the group took its partitions away: were they another's already?
        again = lost or self._torn
        if again is not None:
            claimer.take_again(again)
        self._torn = None
        if not wanted:
            self._claimed_number = number
            return
        ends = self.inspector.ends(wanted)
        held = lost.held if lost is not None else claimer.take(ends)
        if any(one.next_offset > ends[tp].end for tp, one in held.items()):
            ends = self.inspector.ends(wanted)  # the predecessor read on between our question and our claim
        nexts = claimer.check(held, ends)
        metrics.CLAIMS.inc()
        with self._changed:
            if number != self._wanted_number:
                return
            self._claims += 1
            self._claim, self._lost = claims.Claim(self._claims, held, nexts), None
            self._claimed_number, self._busy = number, 0
        self._log.info("claimed", reader=self.reader, partitions=len(held), owner=self.owner)
        self._wake()

    def _connected(self) -> psycopg.Connection:
        if self.connection is None or self.connection.closed:
            name = f"{self.owner} {self.name} {metrics.version()}"  # as `heed doctor` reads it
            self.connection = database.connect(self.dsn, self.path, name)
            self.opened(self.connection)
        return self.connection

    def _be_patient(self, error: Exception) -> None:
        """A server is away: give the claim up, wait, and claim anew."""
        with self._changed:
            claim = self._claim or self._lost
            self._claim, self._lost, self._batch, self._busy = None, claim, None, 0
        if self.connection is not None:
            self.connection.close()
        self._wake()
        if self._waits % 20 == 0:
            self._log.warning("waiting for a server", error=process.told(error))
        delay = min(PATIENCE[1], PATIENCE[0] * 2**self._waits)
        self._waits = min(self._waits + 1, 1000)
        self._tries += 1
        time.sleep(delay * (0.5 + random.random() / 2))

    def lag(self, highwater: Callable[[TP], int | None]) -> tuple[int, float]:
        """Records not read yet, and the age of the oldest: by append time once fetched, else as noticed."""
        claim = self._claim or self._lost  # while the database is away the lag is what it was, not nothing
        if claim is None:
            return 0, 0.0
        behind = sum(max(0, (highwater(tp) or 0) - offset) for tp, offset in claim.next.items())
        if not behind:
            self._behind_since = 0.0
            return 0, 0.0
        self._behind_since = self._oldest or self._behind_since or time.time()
        return behind, max(0.0, time.time() - self._behind_since)

    def standing(self) -> watchdog.Standing:
        """Where this lane stands, for the watchdog: told by any thread, without a lock."""
        _, nexts = self.claimed()
        mark = (self._claims, self._tries, self._turns, sum(nexts.values()))
        session = watchdog.session(self.connection)
        return watchdog.Standing(self.name, mark, self._thread.ident, nexts, session, idle=not self._wanted)

    def moved(self, claim: claims.Claim, spans: Mapping[TP, Any]) -> None:
        """A transaction has committed: stand behind these spans."""
        for tp, span in spans.items():
            claim.next[tp] = span.end
        self._beat = time.monotonic()
