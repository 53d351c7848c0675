"""What a worker does with parked records by itself: at their time, after an upgrade, and when they expire.

Promises: a `future` record is driven again when its own time has come, by the database's clock, within a
second (`heed_timer_lateness_seconds{kind="parked.future"}`); by the owner of its partition, and harmlessly by
two while it changes hands. With every claim the owner drives again what another version could not read: at
its doors itself, on the log by the lanes that fold it. What was kept for HEED_PARKED_DAYS is deleted a step
at a time, but never what waits for its time, what was not yet looked at after an upgrade, or what stands on
the log for ever: a replay would read it there, so the row must lead a newer worker to it.
Limits: partitions that this worker's lanes own.
Called by: `streams.app`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final, Protocol

import psycopg
from faust.types import TP

from projections import database, parked, parked_again
from schemas import metrics, topics
from streams import parked as driving
from streams import parked_fold, producer, server_loop, vault

LOOK: Final = 0.25  # seconds between looks for what has become due
EXPIRY_SECONDS: Final = 60.0
EXPIRES: Final = frozenset({*topics.DOORS, topics.COMMANDS})

Places = set[tuple[str, int]]


class Owner(Protocol):
    """A lane, as far as it says what it owns."""

    def claimed(self) -> tuple[int, Mapping[TP, int]]: ...


class Reader(Owner, Protocol):
    """A lane of the log, which folds again what is asked for."""

    again: parked_fold.Asked


class ParkedLoop(server_loop.ServerLoop):
    """Looks after the parked records of what `intake` and `readers` own."""

    def __init__(
        self,
        owner: str,
        dsn: str,
        out: producer.LogProducer,
        loop: asyncio.AbstractEventLoop,
        intake: Owner,
        readers: Sequence[Reader],
        *,
        homes: int,
        ahead: timedelta,
        days: int,
        keys: vault.Vault,
    ) -> None:
        super().__init__("parked")
        self._owner, self._dsn, self._days = owner, dsn, days
        self._append = lambda records: out.append_from_thread(records, loop)
        self._intake, self._readers = intake, readers
        self._homes, self._ahead, self._vault = homes, ahead, keys
        self._claims: dict[int, int] = {}
        self._unread: Places = set()  # claimed, and not yet looked through for what can be read by now
        self._expired = float("-inf")
        self._expired_of: Places = set()

    def connect(self) -> psycopg.Connection:
        return database.connect(
            self._dsn, database.OPS_PATH, f"{self._owner} parked", idle_seconds=driving.IDLE_SECONDS
        )

    def look(self, connection: psycopg.Connection) -> float:
        doors = self._owned(self._intake)
        on_log = [(reader, self._owned(reader)) for reader in self._readers]
        mine = doors.union(*(places for _, places in on_log))
        self._unread &= mine
        patience = self._drive_due(connection, doors)
        if self._drive_unread(connection, doors & self._unread):
            patience = 0.0
        for reader, places in on_log:
            self._ask(connection, reader, places)
        if self._expire(connection, mine - self._unread):
            patience = 0.0
        return patience

    def _owned(self, lane: Owner) -> Places:
        claim, offsets = lane.claimed()
        places = {(tp.topic, tp.partition) for tp in offsets}
        if self._claims.get(id(lane)) != claim:
            self._claims[id(lane)] = claim
            self._unread |= places
        return places

    def _drive_due(self, connection: psycopg.Connection, doors: Places) -> float:
        """Drive again what has become due; answers how long to wait for the next."""
        late, left = parked.due(connection, doors) if doors else ({}, None)
        if not late:
            return LOOK if left is None else min(LOOK, max(0.001, left))
        began = time.monotonic()
        outcomes, _ = self._driver(connection).doors(list(late))
        took = time.monotonic() - began
        driven = [id_ for id_, one in outcomes.items() if one.status == driving.DRIVEN]
        for id_ in driven:
            metrics.TIMER_LATENESS_SECONDS.labels(kind=metrics.FUTURE).observe(late[id_] + took)
        return 0.0 if driven else LOOK

    def _drive_unread(self, connection: psycopg.Connection, doors: Places) -> bool:
        """Judge again what came by doors and was not known then; whether there may be more."""
        ids = parked_again.unread(connection, doors) if doors else []
        if not ids:
            self._unread -= doors
            return False
        outcomes, _ = self._driver(connection).doors(ids)
        return any(one.detail != driving.HELD for one in outcomes.values())

    def _ask(self, connection: psycopg.Connection, reader: Reader, places: Places) -> None:
        """Have a lane fold again what was asked for, and what is to be looked through."""
        looked = places & self._unread
        waits = bool(looked and parked_again.unread(connection, looked))
        if not waits:
            self._unread -= looked
        if waits or (places and parked_again.asked(connection, places)):
            reader.again.ask()

    def _expire(self, connection: psycopg.Connection, places: Places) -> bool:
        """Delete a step of what is older than it may be; whether there may be more."""
        now = time.monotonic()
        places = {place for place in places if place[0] in EXPIRES}
        if places <= self._expired_of and now - self._expired < EXPIRY_SECONDS:
            return False
        reasons = parked.expire(connection, places, self._days)
        for reason in reasons:
            metrics.PARKED_EXPIRED.labels(reason=reason).inc()
        if len(reasons) < parked.AT_ONCE:
            self._expired, self._expired_of = now, places
            return False
        return True

    def _driver(self, connection: psycopg.Connection) -> driving.Driver:
        return driving.Driver(
            connection, self._append, homes=self._homes, ahead=self._ahead, keys=self._vault
        )
