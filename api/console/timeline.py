"""The timeline on a contact's page, and whole as CSV.

Promises: what stands here is what the API answers, with where each activity came from: from the contact's own
facts, a session's, a merged contact's.
Limits: a page has `LISTED`; a contact whose facts take longer to read than the API waits has a sentence in
its place, and the rest of the page.
Called by `api.console.contacts`; route of `api.console.routes`.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlencode

from litestar import Response

from api import activity, problems, routing
from api import pages as lists
from api.console import pages
from schemas import activity as kinds

LISTED: Final = 25
FILTERS: Final = ("action", "as_of")
# What people choose from, by the word that is filtered by.
CHOICES: Final = {
    action: " or ".join(kind.text.lower() for kind in kinds.KINDS.values() if kind.action == action)
    for action in kinds.ACTIONS
}


async def read(request: routing.Request, contact: str, as_of: str) -> dict[str, Any]:
    """A page of it: `items`, `next`, whether it is the `first`, what was `chosen`, or `trouble` in its place.

    Raises `Problem` for a kind or a place that is none, `errors.Away`.
    """
    query = _query(request, as_of) | {"limit": str(LISTED)}
    if request.query_params.get("after"):
        query["after"] = request.query_params["after"]
    wanted = lists.read(query, "", activity.cursor)
    listing, _ = await activity.asked(routing.parts(request).database, contact, query)
    try:
        found, trouble = await lists.answer(listing, wanted, {}), ""
    except problems.Problem as problem:
        if problem.kind is not problems.TOO_SLOW:
            raise
        found, trouble = {"items": [], "next": None}, problem.detail
    return {
        **found,
        "trouble": trouble,
        "first": wanted.after is None,
        "chosen": query.get("action", ""),
        "choices": CHOICES,
        "query": urlencode(_query(request, as_of)),
    }


async def sheet(request: routing.Request, id: str) -> Response[Any]:
    """All of it as CSV, by the same filters. Raises `Problem`, `errors.Away`."""
    query = _query(request, request.query_params.get("as_of", ""))
    wanted = lists.read(query | {"format": "csv"}, "", activity.cursor)
    listing, _ = await activity.asked(routing.parts(request).database, id, query)
    return pages.guarded(await lists.sheet(listing, wanted))


def _query(request: routing.Request, as_of: str) -> dict[str, str]:
    told = {"action": request.query_params.get("action", ""), "as_of": as_of}
    return {name: value for name, value in told.items() if value}
