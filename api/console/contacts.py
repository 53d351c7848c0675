"""Contacts as pages: found by id, the row and the facts behind each number, the timeline, merged and parted
again, deleted and restored, its consent.

Promises: what stands here is what the API answers. What is typed in never stands in an address before it is
known to be a contact id, so no mail address ever does.
Limits: of the facts behind a number the newest `FACTS`.
Routes of `api.console.routes`.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from litestar import Response
from litestar.response import Redirect

from api import (
    contact_links,
    contacts,
    engagement,
    engagement_list,
    explain,
    holds,
    parameters,
    problems,
    routing,
)
from api import sessions as told_sessions
from api.console import forms, pages, sessions, timeline
from schemas import identity

PATH: Final = "/console/contacts"
FACTS: Final = 100
LISTED: Final = 50
# What is asked about, and what it is called.
NUMBERS: Final = {
    "frequency": "Frequency",
    "volume": "Volume",
    "volume_last_30": "Last 30 days",
    "recency": "Recency",
    "date_first_click": "First click",
    "date_last_click": "Last click",
}
# What is kept of a contact by its consent.
LEVELS: Final = {
    "individual": "what this contact does",
    "aggregate": "numbers of many alone",
    "refused": "nothing",
}
# What keeps mail from a contact, and what is said of it.
STOPS: Final = {"hold": "On hold", "opt_out": "Opted out", "do_not_email": "Do not email"}
BECAUSE: Final = {
    "told": "as was told",
    "hard_bounce": "a hard bounce",
    "soft_bounces": "too many soft bounces",
}
# Whose a fact is that was told of no contact and no session.
KINDS: Final = {
    "email": "an email address of it",
    "phone": "a phone number of it",
    "custom": "a custom id of it",
    "set": "several identifiers of it",
}
NO_ID: Final = "A contact id has 1 to 64 of the characters A-Z a-z 0-9 _ . ~ -. It is never an address."


async def index(request: routing.Request) -> Response[str]:
    """Where one is looked up, and who is the most engaged."""
    return await _index(request)


async def look_up(request: routing.Request) -> Response[str] | Redirect:
    """Leads to the contact of the id that was typed in."""
    wanted = (await forms.read(request)).one("contact")
    if identity.is_contact_id(wanted) is None:
        return await _index(request, [pages.Mistake("contact", NO_ID)], wanted)
    return pages.to(f"{PATH}/{wanted}")


async def show(request: routing.Request, id: str) -> Response[str]:
    """One contact; `why` names the number whose facts are shown, `as_of` a past instant."""
    return await _show(request, id)


async def merge(request: routing.Request, id: str) -> Response[str] | Redirect:
    """Merges the contact into another."""
    into = (await forms.read(request)).one("into")
    parts = routing.parts(request)
    try:
        await contacts.merge(parts.database, parts.log, id, contacts.Into(into), routing.actor(request))
    except problems.Problem as problem:
        if problem.kind is not problems.WRONG_VALUE:
            raise
        told = "Give the id of another contact: 1 to 64 of the characters A-Z a-z 0-9 _ . ~ -."
        return await _show(request, id, [pages.Mistake("into", told)], into)
    return _done(request, id, f"Merged {id} into {into}.")


async def unmerge(request: routing.Request, id: str) -> Redirect:
    """Takes back every standing merge of a pair; `id` is the one that was merged."""
    form = await forms.read(request)
    into, back = form.one("into"), form.one("back")
    parts = routing.parts(request)
    await contacts.unmerge(parts.database, parts.log, id, contacts.Into(into), routing.actor(request))
    shown = back if identity.is_contact_id(back) is not None else id
    return _done(request, shown, f"Took back that {id} was merged into {into}.")


async def unlink(request: routing.Request, id: str) -> Redirect:
    """Takes back every standing link of a session to the contact."""
    session, parts = (await forms.read(request)).one("session"), routing.parts(request)
    await told_sessions.unlink(
        parts.database, parts.log, session, told_sessions.To(id), routing.actor(request)
    )
    return _done(request, id, f"Took back that session {session} was linked to {id}.")


async def agree(request: routing.Request, id: str) -> Redirect:
    """Records the contact's consent."""
    level, parts = (await forms.read(request)).one("level"), routing.parts(request)
    if level not in LEVELS:
        raise problems.Problem(problems.WRONG_VALUE, f"Consent is one of {', '.join(LEVELS)}.")
    asked = msgspec.convert({"level": level}, contacts.Consent)
    await contacts.agree(parts.database, parts.log, id, asked, routing.actor(request))
    return _done(request, id, f"Consent of {id} is {level} now.")


async def stop(request: routing.Request, id: str) -> Response[str] | Redirect:
    """Stops mail to the contact or to one address of it, or lifts that."""
    form, parts = await forms.read(request), routing.parts(request)
    kind, _, word = form.one("stop").partition(" ")
    if kind not in STOPS or word not in ("on", "off"):
        raise problems.Problem(problems.WRONG_VALUE, "Mail is stopped, or goes again, as the list has it.")
    asked = msgspec.convert(
        {"kind": kind, "on": word == "on", "email": form.one("email") or None}, holds.Hold
    )
    means = holds.Means(parts.hold, parts.vault, parts.homes, parts.ahead)
    try:
        await holds.change(parts.database, parts.log, id, asked, routing.actor(request), means)
    except problems.Problem as problem:
        if problem.kind is not problems.WRONG_VALUE:
            raise
        told = "Give one address, as ada@example.org, or leave it empty."
        return await _show(request, id, [pages.Mistake("email", told)])
    name = STOPS[kind].lower()
    return _done(request, id, f"{id} is {name} now." if word == "on" else f"{id} is no longer {name}.")


async def delete(request: routing.Request, id: str) -> Redirect:
    """Deletes the contact; it can be restored."""
    parts = routing.parts(request)
    await contacts.delete(parts.database, parts.log, id, routing.actor(request))
    return _done(request, id, f"Deleted {id}.")


async def restore(request: routing.Request, id: str) -> Redirect:
    """Restores it, with the row that it would have had."""
    parts = routing.parts(request)
    await contacts.restore(parts.database, parts.log, id, routing.actor(request))
    return _done(request, id, f"Restored {id}.")


def _done(request: routing.Request, id: str, told: str) -> Redirect:
    return pages.to(f"{PATH}/{id}", sessions.current(request), told)


async def _index(
    request: routing.Request, mistakes: list[pages.Mistake] | None = None, wanted: str = ""
) -> Response[str]:
    parts = routing.parts(request)
    query = {"sort": "-frequency", "limit": str(LISTED)}
    after = request.query_params.get("after")
    asked = engagement_list.read_query(query | ({} if after is None else {"after": after}))
    try:
        found, trouble = await engagement_list.find(parts.database, asked, parts.homes), ""
    except problems.Problem as problem:
        if problem.kind not in (problems.TOO_MUCH_DUE, problems.TOO_SLOW):
            raise
        found, trouble = {"items": [], "next": None}, problem.detail
    return pages.page(
        request, "contacts.html", "Contacts", status=400 if mistakes else 200, mistakes=mistakes or [],
        items=found["items"], following=found["next"], trouble=trouble, first=after is None, wanted=wanted,
    )  # fmt: skip


async def _show(
    request: routing.Request, id: str, mistakes: list[pages.Mistake] | None = None, into: str = ""
) -> Response[str]:
    parts = routing.parts(request)
    database = parts.database
    why, at = request.query_params.get("why", ""), request.query_params.get("as_of", "").strip()
    wrong = list(mistakes or [])
    instant = None
    contacts.well_formed(id)
    try:
        instant = parameters.instant("as_of", at) if at else None
        row = await engagement.read(database, id, instant)
    except problems.Problem as problem:
        if problem.kind is not problems.WRONG_PARAMETER:
            raise
        told = "Give an instant that has passed, with its zone, as 2026-01-31T09:00:00Z."
        wrong.append(pages.Mistake("as_of", told))
        instant, row = None, await engagement.read(database, id)
    facts = await _facts(request, id, why, instant) if why in NUMBERS else None
    return pages.page(
        request, "contact.html", id, status=400 if wrong else 200, mistakes=wrong, id=id, row=row,
        numbers=NUMBERS, why=why if why in NUMBERS else "", facts=facts, as_of=at, instant=instant, into=into,
        timeline=await timeline.read(request, id, "" if instant is None else at), kinds=KINDS,
        stops=STOPS, because=BECAUSE, holds=await holds.read(database, id, parts.hold, parts.vault.master),
        levels=LEVELS, state=await contacts.read(database, id), **await contact_links.read(database, id),
    )  # fmt: skip


async def _facts(request: routing.Request, id: str, why: str, instant: Any) -> dict[str, Any]:
    """The facts behind one number: those each of which it hangs on, and those that only hold it together."""
    try:
        found = await explain.explain(routing.parts(request).database, id, instant, FACTS)
    except problems.Problem as problem:
        if problem.kind is not problems.TOO_SLOW:
            raise
        return {"too_many": True, "alone": [], "together": [], "truncated": False}
    together = found["together"].get(why, [])
    listed = len(found[why]) + sum(len(unit) for unit in together)
    # Of which field there are more is not told: of one that is not full there are none.
    more = found["truncated"] and listed >= FACTS
    return {"too_many": False, "alone": found[why], "together": together, "truncated": more}
