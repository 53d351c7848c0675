"""The audit log as pages: what people and keys changed, who, when, before and after; whole as CSV.

Promises: what stands here is what the API answers. A filter is read before it comes into an address, and what
looks like the address of a person never does.
Limits: a page has `LISTED`.
Routes of `api.console.routes`; the first page shows the newest.
"""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import urlencode

from litestar import Response
from litestar.response import Redirect

from api import audit, problems, routing, servers
from api import pages as lists
from api.console import forms, pages

PATH: Final = "/console/audit"
LISTED: Final = 50
RECENT: Final = 5
_INSTANT: Final = "Give an instant with its zone, as 2026-01-31T09:00:00Z."
# What each filter takes; an actor and a subject are names of Heed's own, never an address.
TAKES: Final = {
    "actor": "Give the one who made the change as the table has it, as key:0197f2 or local:root.",
    "about": "Give what was changed as the table has it, as setting:zone or contact:ada.",
    "type": "Choose one of the kinds of changes.",
    "from": _INSTANT,
    "to": _INSTANT,
}
_NAME: Final = re.compile(r"[a-z]+(:[A-Za-z0-9_.~-]{1,200})?|parked:[a-z-]+/[0-9]+@[0-9]+")


async def show(request: routing.Request) -> Response[str]:
    """A page of changes, the newest first."""
    query = _query(dict(request.query_params.items()))
    after = request.query_params.get("after")
    asked = query | {"limit": str(LISTED)} | ({"after": after} if after else {})
    wanted = lists.read(asked, "", audit.cursor)
    listing = audit.asked(routing.parts(request).database, query)
    found = await lists.answer(listing, wanted, {})
    return _page(request, query, items=found["items"], following=found["next"], first=wanted.after is None)


async def choose(request: routing.Request) -> Response[str] | Redirect:
    """Leads to the changes that a form asks for."""
    form = await forms.read(request)
    query = _query({name: form.one(name) for name in TAKES})
    wrong = [pages.Mistake(name, TAKES[name]) for name in query if not _taken(request, name, query[name])]
    if wrong:
        return _page(request, query, wrong, items=[], following=None, first=True)
    return pages.to(f"{PATH}?{urlencode(query)}" if query else PATH)


async def sheet(request: routing.Request) -> Response[Any]:
    """All of them as CSV, by the same filters. Raises `Problem`, `errors.Away`."""
    query = _query(dict(request.query_params.items()))
    wanted = lists.read({"format": "csv"}, "", audit.cursor)
    return pages.guarded(await lists.sheet(audit.asked(routing.parts(request).database, query), wanted))


async def recent(database: servers.Database) -> list[dict[str, Any]]:
    """The newest changes. Raises `Problem`, `errors.Away`."""
    return await audit.asked(database, {}).rows(None, RECENT)


def _query(told: dict[str, str]) -> dict[str, str]:
    return {name: told[name] for name in TAKES if told.get(name)}


def _taken(request: routing.Request, name: str, value: str) -> bool:
    if name in ("actor", "about") and not _NAME.fullmatch(value):
        return False
    try:
        audit.asked(routing.parts(request).database, {name: value})
    except problems.Problem:
        return False
    return True


def _page(
    request: routing.Request,
    query: dict[str, str],
    mistakes: list[pages.Mistake] | None = None,
    **found: Any,
) -> Response[str]:
    return pages.page(
        request, "audit.html", "Audit log", status=400 if mistakes else 200, mistakes=mistakes or [],
        chosen=query, query=urlencode(query), types=audit.TYPES, **found,
    )  # fmt: skip
