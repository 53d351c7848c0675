"""Schedules as they stand: when each fired last, what came of it, and when it fires next (CEE-13).

Called by: routes of `api.routes`.
"""

from __future__ import annotations

from typing import Any

from api import servers
from streams import schedules


async def read(database: servers.Database) -> dict[str, Any]:
    """Every schedule; raises `errors.Away`."""
    return {"items": await database.work("schedules", lambda c, _: schedules.show(c)), "next": None}
