"""Facts told by the API and in force when it answers: written to the log, and folded by whoever owns them.

Promises: what is answered is acknowledged by the log, names its actor, and holds.
Limits: waits 4 s for the owner of the subject's home, or of the registry.
Called by: `api.settings`, `api.keys`, `api.contacts`, `api.holds`, `api.sessions`, `api.links`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from uuid_utils import compat

from api import problems, servers
from schemas import codec, events
from streams import telling

WAIT_SECONDS: Final = 4.0
_POLL_SECONDS: Final = 0.03

_IN_FACTS: Final = sa.text("""
select exists (select from heed_data.fact where subject = :subject and key = cast(:key as uuid)) as there
""")
_IN_REGISTRY: Final = sa.text("""
select exists (select from heed_data.registry where subject = :subject and key = cast(:key as uuid)) as there
""")


_ERASED: Final = sa.text("""
select subject from heed_data.erased where subject = any(cast(:subjects as text[]))
""")


async def erased(database: servers.Database, subjects: Sequence[str]) -> set[str]:
    """Those of these subjects that are erased; raises `errors.Away`."""
    return {one["subject"] for one in await database.rows(_ERASED, subjects=list(subjects))}


async def refuse_erased(database: servers.Database, *subjects: str) -> None:
    """Raises `Problem` (410) when one of these is erased, `errors.Away`."""
    if await erased(database, subjects):
        raise problems.Problem(problems.ERASED, "It is erased: nothing is known or kept of it any more.")


async def tell(database: servers.Database, log: telling.Way, *entries: telling.Entry) -> list[dict[str, Any]]:
    """Tell of these and wait until they hold; answers the source and id of each.

    Raises `Problem` for a subject that is erased, and when their owner takes too long; `errors.Away`.
    """
    if entries:
        await refuse_erased(database, *(entry.subject for entry in entries))
    told = [entry if entry.id else dataclasses.replace(entry, id=str(compat.uuid7())) for entry in entries]
    if told:
        await telling.append(log, told)
    await folded(database, told)
    return [{"source": telling.SOURCE, "id": entry.id} for entry in told]


def after(latest: datetime | None) -> datetime | None:
    """The time of a fact that is to hold, though one was told that is dated a little ahead; None: now."""
    if latest is None or latest < datetime.now(UTC):
        return None
    return latest + timedelta(milliseconds=1)


async def folded(database: servers.Database, told: Sequence[telling.Entry]) -> None:
    """Wait until facts that are on the log hold; raises as `tell` does."""
    until = time.monotonic() + WAIT_SECONDS
    for entry in told:
        statement = _IN_REGISTRY if events.EVENTS[entry.type].registered else _IN_FACTS
        key = codec.key(telling.SOURCE, str(entry.id))
        while not (await database.rows(statement, subject=entry.subject, key=key))[0]["there"]:
            if time.monotonic() > until:
                raise problems.Problem(
                    problems.WORKERS_BEHIND,
                    "The log has it; it holds once a worker folds it, which none did within 4 seconds.",
                )
            await asyncio.sleep(_POLL_SECONDS)
