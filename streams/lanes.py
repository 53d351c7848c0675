"""Lanes: a thread, a connection, and the partitions it owns; what every reader has in common.

Promises: a lane works only on partitions that it has claimed in PostgreSQL, and reads on where its claim
says, once the claim was checked against Kafka (`streams.log`); what needs no records goes on before. *Doubt*
ends the process before anything is committed, with its reason as the last line (exit 3). A server that is
*away* is waited for, with backoff; then the lane claims anew, and is fenced if another worker took its
partitions meanwhile.
Limits: one transaction at a time in a lane; partition p belongs to lane p mod the number of lanes.
Called by: `streams.app`, which makes the lanes; `streams.batches`, which asks them what to fetch.
"""

from __future__ import annotations

import abc
import dataclasses
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import psycopg
import structlog
from faust.types import TP

from projections import database, positions
from schemas import errors, metrics
from streams import batches, claims, log, patience, process, watchdog

HEARTBEAT = 2.0  # seconds between proofs of life of an idle lane
TICK = 0.1  # seconds between looks for nudges and due rows


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
        self._taken_number = 0
        self._claims = 0
        self._claim: claims.Claim | None = None
        self._unchecked: claims.Claim | None = None  # lost, or taken: no records are read under it yet
        self._check = claims.Check(inspector, self._changed, self._log)
        self._torn: claims.Claim | None = None
        self._fenced = False  # since the last transaction that was committed
        self._batch: batches.Batch | None = None
        self._busy = 0  # the claim whose batch is on its way or worked on
        self._working, self._stopping = threading.Lock(), False
        self._patience = patience.Patience()
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
            self._claim = self._unchecked = self._batch = None
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
    def look(self, claim: claims.Claim) -> bool:
        """Whether something waits besides records; cheap."""

    def opened(self, connection: psycopg.Connection) -> None:  # noqa: B027 - most readers need nothing
        """A new connection: prepare what it needs."""

    def _run(self) -> None:
        more = False
        while not self._stopping:
            try:
                more = self._step(more)
                self._patience.reset()
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
            number, wanted, unchecked = self._wanted_number, self._wanted, self._unchecked
            claim = self._claim or unchecked
        if number != self._taken_number or (wanted and (claim is None or not claim.owned)):
            with self._working:
                self._take_over(number, wanted, unchecked)
            return True
        if unchecked is not None:
            self._read_on(unchecked)
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
                claim.must_join(batch.spans)
                return self._work(claim, batch.spans)
            finally:
                self._oldest = 0.0
                self._settle(batch)
                self._wake()
        if more or self.look(claim) or time.monotonic() - self._beat > HEARTBEAT:
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
                if claim is self._claim or claim is self._unchecked:
                    claim.owned = False
                    self._claim, self._unchecked, self._busy = None, claim, 0
            return True

    def _next(self, patience: float) -> tuple[claims.Claim | None, batches.Batch | None]:
        with self._changed:
            waits = self._batch is None and not self._stopping and not self._check.answered(self._unchecked)
            if waits and patience:
                self._changed.wait(patience)
            batch, self._batch = self._batch, None
            claim = self._claim or self._unchecked
            if batch is not None and (claim is None or batch.claim != claim.number):
                self._settle(batch)
                batch = None
            return claim, batch

    def _claimer(self) -> claims.Claimer:
        return claims.Claimer(self._connected(), self.reader, self.owner, self._log)

    def _take_over(self, number: int, wanted: frozenset[TP], lost: claims.Claim | None) -> None:
        """Own the wanted partitions, by the group's word or again after a lost connection."""
        claimer = self._claimer()
        # Torn in a transaction, then the group took its partitions away: were they another's already?
        again = lost or self._torn
        taken = None if again is None else claimer.take_again(again)
        self._torn = None
        if lost is None:
            taken = claimer.take(self.inspector.ends(wanted)) if wanted else None
        with self._changed:
            if number == self._wanted_number:
                self._unchecked, self._taken_number = taken, number

    def _read_on(self, claim: claims.Claim) -> None:
        """Have records read under this claim, once the log is found to fit it."""
        checked = self._check.found(claim)
        if checked is None:
            return
        with self._working:
            self._claimer().skip(claim, checked)
        metrics.CLAIMS.inc()
        with self._changed:
            if claim is not self._unchecked:
                return
            self._claims += 1
            self._claim = dataclasses.replace(claim, number=self._claims, next=checked.nexts)
            self._unchecked, self._busy = None, 0
        self._log.info("claimed", reader=self.reader, partitions=len(claim.held), owner=self.owner)
        self._wake()

    def _connected(self) -> psycopg.Connection:
        if self.connection is None or self.connection.closed:
            name = f"{self.owner} {self.name} {metrics.version()}"  # as `heed doctor` reads it
            self.connection = database.connect(self.dsn, self.path, name)
            self.opened(self.connection)
        return self.connection

    def _be_patient(self, error: Exception) -> None:
        """A server is away: give the session up, wait, and claim anew."""
        with self._changed:
            claim = self._claim or self._unchecked
            if claim is not None:
                claim.owned = False
            self._claim, self._unchecked, self._batch, self._busy = None, claim, None, 0
        if self.connection is not None:
            self.connection.close()
        self._wake()
        if self._patience.says():
            self._log.warning("waiting for a server", error=process.told(error))
        time.sleep(self._patience.delay())

    def lag(self, highwater: Callable[[TP], int | None]) -> tuple[int, float]:
        """Records not read yet, and the age of the oldest: by append time once fetched, else as noticed."""
        claim = self._claim or self._unchecked  # while a server is away the lag is what it was, not nothing
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
        tries = self._patience.tries + self._check.patience.tries
        mark = (self._claims, tries, self._turns, sum(nexts.values()))
        session = watchdog.session(self.connection)
        return watchdog.Standing(self.name, mark, self._thread.ident, nexts, session, idle=not self._wanted)

    def moved(self, claim: claims.Claim, spans: Mapping[TP, Any]) -> None:
        """A transaction has committed: stand behind these spans."""
        for tp, span in spans.items():
            claim.next[tp] = span.end
        self._beat = time.monotonic()
