"""Whom events are not taken of any more: the erased, as the tables have them.

Promises: an erasure is known here within a second of being folded; what is accepted before that, or while
PostgreSQL is away, leaves nothing when it is folded (`projections.erasure`).
Limits: holds 8 bytes of a hash for each erased subject: 75 MB for a million, as Python keeps them.
Started by `api.app`; asked by `api.ingest`.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from datetime import UTC, datetime, timedelta
from typing import Final

import sqlalchemy as sa

from api import servers
from schemas import errors

SECONDS: Final = 1.0
OVERLAP: Final = timedelta(seconds=30)  # for which a transaction that erases may be open
BEGINNING: Final = datetime(1970, 1, 1, tzinfo=UTC)

SINCE: Final = sa.text("select subject, erased_at from heed_data.erased where erased_at >= :since")


class Erased:
    """One a process."""

    def __init__(self, database: servers.Database) -> None:
        self._database = database
        self._known: set[bytes] = set()
        self._since = BEGINNING

    def __contains__(self, subject: object) -> bool:
        return _hash(str(subject)) in self._known

    async def watch(self) -> None:
        """Follow the tables until cancelled."""
        while True:
            with contextlib.suppress(errors.Away):
                await self.look()
            await asyncio.sleep(SECONDS)

    async def look(self) -> None:
        """Read who was erased since the last look; raises `errors.Away`."""
        found = await self._database.rows(SINCE, since=self._since)
        self._known.update(_hash(one["subject"]) for one in found)
        latest = max((one["erased_at"] for one in found), default=BEGINNING)
        self._since = max(self._since, latest - OVERLAP)


def _hash(subject: str) -> bytes:
    return hashlib.blake2b(subject.encode(), digest_size=8).digest()
