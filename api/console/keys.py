"""Keys as pages: listed, made, rotated, revoked.

Promises: a new key is shown on one page, once, and kept nowhere; what is asked for is checked by the rules of
the API. A revoked key is not taken by this process from its answer on.
Routes of `api.console.routes`.
"""

from __future__ import annotations

import contextlib
from typing import Any, Final

import msgspec
from litestar import Response
from litestar.response import Redirect

from api import auth, keys, problems, routing
from api.console import forms, pages, sessions
from schemas import errors

PATH: Final = "/console/keys"
SCOPES: Final = {
    auth.INGEST: "sends events",
    auth.PUBLIC: "for web pages; no route takes it yet",
    auth.ACCESS: "reads and merges contacts",
    auth.ADMINISTER: "all else, and what access may",
}
_FIRST: Final = "From the first key on one is asked for, here too: give it the scope administer."
_NAME: Final = "A name has 1 to 64 printable characters of ASCII."


async def show(request: routing.Request) -> Response[str]:
    """Every key, and what was just made."""
    return await _page(request)


async def create(request: routing.Request) -> Response[str] | Redirect:
    """Makes a key, which the next page shows."""
    form = await forms.read(request)
    name, scopes = form.one("name"), sorted(set(form.all("scope")))
    mistakes = []
    if not (0 < len(name) <= 64 and name.isascii() and name.isprintable()):
        mistakes.append(pages.Mistake("name", _NAME))
    if not scopes or not set(scopes) <= set(auth.SCOPES):
        mistakes.append(pages.Mistake("scope-ingest", "Choose at least one scope."))
    elif not routing.parts(request).keys.asked_for and auth.ADMINISTER not in scopes:
        mistakes.append(pages.Mistake("scope-administer", _FIRST))
    if mistakes:
        return await _page(request, mistakes, name, scopes)
    asked = msgspec.convert({"name": name, "scopes": scopes}, keys.Create)
    parts = routing.parts(request)
    made = await keys.create(parts.database, parts.log, asked, routing.actor(request))
    return await _made(request, made)


async def rotate(request: routing.Request, id: str) -> Redirect:
    """Makes another key of the same name and scopes; the old one goes on."""
    parts = routing.parts(request)
    made = await keys.rotate(parts.database, parts.log, id, routing.actor(request))
    return await _made(request, made)


async def ask(request: routing.Request, id: str) -> Response[str]:
    """Asks whether a key is to be revoked."""
    found = await keys.one(routing.parts(request).database, id)
    if found["revoked_at"] is not None:
        raise problems.Problem(problems.NO_SUCH_KEY, "This key is revoked already.")
    return pages.page(request, "revoke.html", "Revoke this key?", item=found, own=_own(request) == id)


async def revoke(request: routing.Request, id: str) -> Redirect:
    """Revokes a key; one's own ends the session."""
    parts, session = routing.parts(request), sessions.current(request)
    found = await keys.revoke(parts.database, parts.log, id, routing.actor(request))
    with contextlib.suppress(errors.Away):  # it looks by itself, too, every second
        await parts.keys.refresh()
    return pages.to(PATH, session, f"Revoked {found['name']}: it is taken no more.")


async def _made(request: routing.Request, made: dict[str, Any]) -> Redirect:
    session, parts = sessions.current(request), routing.parts(request)
    assert session is not None
    session.made = made
    if not session.key:  # the first key of all: from now on one is asked for
        session.key = auth.hash_of(made["key"])
    with contextlib.suppress(errors.Away):
        await parts.keys.refresh()
    return pages.to(PATH)


async def _page(
    request: routing.Request,
    mistakes: list[pages.Mistake] | None = None,
    name: str = "",
    scopes: list[str] | None = None,
) -> Response[str]:
    found = await keys.read(routing.parts(request).database)
    session = sessions.current(request)
    made = None
    if session is not None:
        made, session.made = session.made, None
    items = sorted(found["items"], key=lambda one: one["revoked_at"] is not None)
    return pages.page(
        request, "keys.html", "Keys", status=400 if mistakes else 200, mistakes=mistakes or [], items=items,
        made=made, own=_own(request), known_scopes=SCOPES, name=name, chosen=scopes or [],
    )  # fmt: skip


def _own(request: routing.Request) -> str:
    """The id of the session's own key."""
    session, known = sessions.current(request), routing.parts(request).keys
    found = None if session is None else known.named(session.key)
    return "" if found is None else found.id
