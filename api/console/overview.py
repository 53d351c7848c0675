"""The first page: what flows, how fresh each projection is, what was parked and changed lately, which
versions run.

Promises: it is shown as far as it can be told: with PostgreSQL away (503) it says what is missing, and the
rest is left out.
Limits: parked records and changes are told to administrators alone, as in the API.
Routes of `api.console.routes`.
"""

from __future__ import annotations

import platform
from datetime import timedelta
from typing import Any, Final

import sqlalchemy as sa
from litestar import Response

from api import auth, parked, routing, servers
from api.console import audit, flow, pages, sessions, shown
from schemas import errors

LATELY: Final = timedelta(seconds=flow.KEPT_SECONDS)
GROUPS: Final = 1_000

# Purpose: how fresh each projection is, by the topic that feeds it; how far a silent owner is, nobody knows.
_FRESH: Final = sa.text("""
select projection, topic, count(*) as partitions, count(*) filter (where owner_state = 'live') as live,
    min(as_of) as as_of,
    case when count(*) = count(lag_records) then sum(lag_records)::bigint end as lag_records,
    case when count(*) = count(lag_seconds) then max(lag_seconds) end as lag_seconds
from heed_read.freshness group by projection, topic order by projection, topic
""")
_SERVER: Final = sa.text("select current_setting('server_version') as version")


async def show(request: routing.Request) -> Response[str]:
    """The page."""
    parts = routing.parts(request)
    looks: flow.Flow = request.app.state.flow
    missing = await parts.readiness.missing()
    versions = {"Python": platform.python_version()}
    fresh: list[dict[str, Any]] | None = None
    waiting: dict[str, Any] | None = None
    recent: list[dict[str, Any]] | None = None
    may = sessions.may(request, auth.ADMINISTER)
    try:
        (server,) = await parts.database.rows(_SERVER)
        versions["PostgreSQL"] = server["version"].split()[0]
        waiting = await _parked(parts.database) if may else None
        recent = await audit.recent(parts.database) if may else None
        fresh = await parts.database.rows(_FRESH)
    except errors.Away:
        missing = missing or ["PostgreSQL cannot be reached, or its tables are not there yet"]
    return pages.page(
        request, "overview.html", "Overview", status=503 if fresh is None else 200, missing=missing,
        fresh=fresh, lately=looks.lately(), minutes=flow.KEPT_SECONDS // 60, bar_seconds=flow.BAR_SECONDS,
        waiting=waiting, recent=recent, versions=versions,
    )  # fmt: skip


async def _parked(database: servers.Database) -> dict[str, Any]:
    """How many wait, all together and by reason, and how many of them are of lately."""
    whole = await parked.overview(database, parked.filtered(), limit=GROUPS)
    since = shown.now() - LATELY
    late = await parked.overview(database, parked.filtered(parked_since=since), limit=GROUPS)
    reasons: dict[str, dict[str, Any]] = {}
    for one in whole["items"]:
        known = reasons.setdefault(one["reason"], {"count": 0, "newest": one["newest"]})
        known["count"] += one["count"]
        known["newest"] = max(known["newest"], one["newest"])
    ordered = sorted(reasons.items(), key=lambda one: (-one[1]["count"], one[0]))
    return {"total": whole["total"], "late": late["total"], "reasons": ordered}
