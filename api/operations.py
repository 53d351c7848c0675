"""How Heed is doing: alive, ready, its metrics, and what was parked.

Promises: live asks nobody and is always answered; ready tells what is missing by name; parked shows never the
bytes.

Limits: ready looks at most once a second, however often it is asked.

Routes of `api.routes`.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

import sqlalchemy as sa
import structlog

from api import problems, servers
from projections import tables
from schemas import errors, metrics, topics

READY_SECONDS: Final = 1.0
WATCH_SECONDS: Final = 5.0

_KEYS_UNREAD: Final = "the topic keys has not been read to its end yet"

_log = structlog.get_logger("api")

_OWNED: Final = (
    sa.select(sa.func.count().label("owned"))
    .select_from(tables.freshness)
    .where(
        tables.freshness.c.projection == "engagement",
        tables.freshness.c.topic == topics.FACTS,
        tables.freshness.c.owner_state == "live",
    )
)


# The topic `keys` is read to its end by an owner that lives: nothing is told apart of it before.
_KEYS_READ: Final = (
    sa.select(sa.func.count().label("keys"))
    .select_from(tables.freshness)
    .where(
        tables.freshness.c.projection == topics.KEYS,
        tables.freshness.c.owner_state == "live",
        tables.freshness.c.lag_records == 0,
    )
)


class Readiness:
    """Whether everything that Heed needs is there; one a process, since it remembers its last look."""

    def __init__(self, log: servers.Log, database: servers.Database, homes: int) -> None:
        self._log = log
        self._database = database
        self._homes = homes
        self._looking = asyncio.Lock()
        self._looked = float("-inf")
        self._missing: list[str] = []
        self._keys_read = False  # once, since this process started

    async def missing(self) -> list[str]:
        """What is missing, in words; empty when Heed is ready."""
        async with self._looking:
            if time.monotonic() - self._looked > READY_SECONDS:
                log, rest = await asyncio.gather(self._log.reachable(), self._look())
                metrics.MISSING.labels("kafka").set(not log)
                self._missing = ([] if log else ["Kafka cannot be reached"]) + rest
                self._looked = time.monotonic()
        return self._missing

    async def watch(self) -> None:
        """Looks every few seconds, for the metric, until it is cancelled."""
        while True:
            try:
                await self.missing()
            except Exception as error:
                _log.error("cannot look whether all is there", error=type(error).__name__)
            await asyncio.sleep(WATCH_SECONDS)

    async def _look(self) -> list[str]:
        try:
            (found,) = await self._database.rows(_OWNED)
            if not self._keys_read:
                self._keys_read = bool((await self._database.rows(_KEYS_READ))[0]["keys"])
        except errors.Away:
            metrics.MISSING.labels("postgres").set(1)
            return ["PostgreSQL cannot be reached, or its tables are not there yet"]
        owned = min(found["owned"], self._homes)
        metrics.MISSING.labels("postgres").set(0)
        metrics.MISSING.labels("homes").set(self._homes - owned)
        homes = f"{self._homes - owned} of {self._homes} homes have no live worker"
        return [] + ([] if owned == self._homes else [homes]) + ([] if self._keys_read else [_KEYS_UNREAD])


async def ready(readiness: Readiness) -> dict[str, Any]:
    """Answers when all is there; raises `Problem` (503) that names what is not."""
    missing = await readiness.missing()
    if missing:
        raise problems.Problem(problems.NOT_READY, f"{'; '.join(missing)}.")
    return {"status": "ready"}
