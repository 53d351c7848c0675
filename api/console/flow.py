"""What flows: how many records the log took and the workers folded lately, by looking now and then.

Promises: reads positions alone, a few dozen rows, every `EVERY_SECONDS`; knows what has been since this
process started, `KEPT_SECONDS` at the most, and says since when. A server that is away leaves a gap.
Limits: counts records, so a copy that changes nothing counts, too.
Called by: `api.app`, which keeps it looking; `api.console.overview` shows it.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
import structlog

from api import servers
from schemas import errors

EVERY_SECONDS: Final = 5.0
KEPT_SECONDS: Final = 900
BAR_SECONDS: Final = 30

# Purpose: where the log ends, as its owners last saw it, and how far it is folded.
_READ: Final = sa.text("""
select statement_timestamp() as at, coalesce(sum(log_end), 0)::bigint as admitted,
    coalesce(sum(next_offset), 0)::bigint as folded
from heed_data.position where reader = 'fold' and topic = 'facts'
""")
_log = structlog.get_logger("api")


@dataclass(frozen=True, slots=True)
class Look:
    """One look: records that the log has ever taken, and that were ever folded."""

    at: datetime
    admitted: int
    folded: int


class Flow:
    """The looks of this process; keeps looking while it is entered."""

    def __init__(self, database: servers.Database) -> None:
        self._database = database
        self._looks: collections.deque[Look] = collections.deque(maxlen=int(KEPT_SECONDS / EVERY_SECONDS) + 1)
        self._looking: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Flow:
        self._looking = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._looking is not None
        self._looking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._looking

    async def look(self) -> None:
        """Look once. Raises `errors.Away`."""
        (found,) = await self._database.rows(_READ)
        self.add(Look(**found))

    def add(self, look: Look) -> None:
        """Keep a look; the log made anew ends lower, and counting begins anew."""
        if self._looks and (look.admitted < self._looks[-1].admitted or look.folded < self._looks[-1].folded):
            self._looks.clear()
        self._looks.append(look)

    def lately(self) -> dict[str, Any] | None:
        """Since when, how many, and the bars of a chart, the latest last; None before the second look."""
        if len(self._looks) < 2:
            return None
        first, last = self._looks[0], self._looks[-1]
        bars = list(self._bars(last.at))
        return {
            "since": first.at,
            "admitted": last.admitted - first.admitted,
            "folded": last.folded - first.folded,
            "bars": bars,
            "most": max(bars),
        }

    def _bars(self, end: datetime) -> Iterator[int]:
        """Folded in each stretch of time, of all that are kept; 0 for what was before the first look."""
        count = KEPT_SECONDS // BAR_SECONDS
        edges = [end - timedelta(seconds=BAR_SECONDS * left) for left in range(count, -1, -1)]
        known = [self._until(edge) for edge in edges]
        for before, after in itertools.pairwise(known):
            yield after - before

    def _until(self, edge: datetime) -> int:
        """What was folded by an instant, as the last look before it says; else the first look of all."""
        found = self._looks[0].folded
        for look in self._looks:
            if look.at > edge:
                break
            found = look.folded
        return found

    async def _watch(self) -> None:
        while True:
            try:
                await self.look()
            except errors.Away:
                pass  # said by who noticed
            except Exception as error:
                _log.error("cannot look at what flows", error=type(error).__name__)
            await asyncio.sleep(EVERY_SECONDS)
