"""Working off the queue of those who wait to be computed anew, and asking for everyone (CEE-9).

Limits: a run lasts as long as it is allowed to; it ends early when its caller goes away.
Called by: routes of `api.routes`.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import msgspec

from api import servers
from streams import recalculation

LONGEST_SECONDS = 3600


class Run(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a run: for how long at most."""

    max_seconds: Annotated[float, msgspec.Meta(ge=0, le=LONGEST_SECONDS)] = recalculation.MOST_SECONDS


async def run_queue(database: servers.Database, seconds: float) -> dict[str, Any]:
    """Work off the queue; answers done, failed, remaining, and an outcome for each of the first 10,000."""
    ran = await database.work(
        "run-queue", lambda connection, stopping: recalculation.run(connection, seconds, stopping=stopping)
    )
    return dataclasses.asdict(ran)
