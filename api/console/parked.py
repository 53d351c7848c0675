"""Parked records as pages: groups, lists, one with its bytes; driven again, or discarded after asking.

Promises: what is chosen here is what the API's own walks work off, by its rules; nothing is discarded that
was not asked about on a page of its own.
Limits: a walk goes on for `SECONDS`, then says where it is, and the next form goes on from there; of outcomes
the first `OUTCOMES` are shown, of bytes the first `BYTES`.
Routes of `api.console.routes`.
"""

from __future__ import annotations

import base64
from datetime import timedelta
from typing import Any, Final, get_args
from urllib.parse import urlencode

import msgspec
from litestar import Response

from api import parameters, parked, problems, routing
from api.console import forms, pages, shown
from projections import parked as store
from schemas import envelope, errors

LISTED: Final = 50
GROUPS: Final = 200
SECONDS: Final = 20
OUTCOMES: Final = 100
BYTES: Final = 65_536
AGES: Final = {
    "": ("any time", None),
    "1h": ("the last hour", timedelta(hours=1)),
    "1d": ("the last day", timedelta(days=1)),
    "7d": ("the last 7 days", timedelta(days=7)),
}
NAMES: Final = ("reason", "type", "door", "topic", "age")


class Chosen:
    """Which records are asked about: a filter as it stands in an address or a form."""

    def __init__(self, told: dict[str, str]) -> None:
        self.told = {name: told.get(name, "") for name in NAMES if told.get(name, "")}
        age = self.told.get("age", "")
        if age not in AGES:
            raise parameters.refused("age", f"one of {', '.join(filter(None, AGES))}")
        span = AGES[age][1]
        self.since = None if span is None else envelope.format_time(shown.now() - span)

    @property
    def query(self) -> str:
        """For an address."""
        return urlencode(self.told)

    @property
    def filter(self) -> store.Filter:
        """For a list. Raises `Problem` for a value that its name does not take."""
        reason, door, topic = (self._one_of(name, known) for name, known in _CHOICES.items())
        reason = None if reason is None else errors.Reason(reason)
        return parked.asked(reason, self.told.get("type"), door, topic, self.since, None)

    @property
    def walk(self) -> dict[str, Any]:
        """For a walk over all of them."""
        told: dict[str, Any] = {name: value for name, value in self.told.items() if name != "age"}
        if self.since is not None:
            told["parked_since"] = self.since
        return told or {"all": True}

    def _one_of(self, name: str, known: tuple[str, ...]) -> str | None:
        value = self.told.get(name)
        if value is not None and value not in known:
            raise parameters.refused(name, f"one of {', '.join(known)}")
        return value


_CHOICES: Final[dict[str, tuple[str, ...]]] = {
    "reason": tuple(errors.Reason), "door": get_args(parked.Door), "topic": get_args(parked.Topic),
}  # fmt: skip


async def index(request: routing.Request) -> Response[str]:
    """How many are parked, by reason, type, door and age."""
    chosen = Chosen(_query(request))
    found = await parked.overview(routing.parts(request).database, chosen.filter, limit=GROUPS)
    return pages.page(
        request, "parked.html", "Parked", groups=found, chosen=chosen.told, choices=_CHOICES, ages=AGES,
        link=_link,
    )  # fmt: skip


async def listed(request: routing.Request) -> Response[str]:
    """A page of records, newest first."""
    query = _query(request)
    chosen = Chosen(query)
    after = None if "after" not in query else parameters.number("after", query["after"], 0, 2**63 - 1)
    database = routing.parts(request).database
    found = await parked.page(database, chosen.filter, after=after, limit=LISTED)
    return pages.page(
        request, "parked_list.html", "Parked records", items=found["items"], following=found["next"],
        first=after is None, chosen=chosen.told, query=chosen.query, ages=AGES,
    )  # fmt: skip


async def show(request: routing.Request, id: str) -> Response[str]:
    """One record with its bytes."""
    found = await parked.one(routing.parts(request).database, id)
    raw = base64.b64decode(found["bytes"])
    text = found["text"]
    printed = raw[:BYTES].hex(" ", 1) if text is None else text[:BYTES]
    return pages.page(
        request, "parked_one.html", f"Parked record {found['id']}", item=found, text=printed,
        is_text=text is not None, size=len(raw), cut=len(raw if text is None else text) > BYTES,
    )  # fmt: skip


async def redrive(request: routing.Request) -> Response[str]:
    """Drives the chosen records again, and says what became of them."""
    asked, form = await _asked(request)
    done = await routing.parts(request).walks.redrive(msgspec.json.encode(asked))
    return _told(request, "Driven again", "redrive", asked, form, done)


async def discard(request: routing.Request) -> Response[str]:
    """Asks first; then discards the chosen records, and says what became of them."""
    asked, form = await _asked(request)
    parts = routing.parts(request)
    if form.one("confirmed") != "yes":
        ids = asked.get("ids")
        if ids is None:
            which = Chosen(_filter(form)).filter
            count = (await parked.overview(parts.database, which, limit=1))["total"]
        else:
            count = len(ids)
        return pages.page(
            request, "discard.html", "Discard for good?", count=count, sent=_sent(asked, form, after="0")
        )
    done = await parts.walks.discard(msgspec.json.encode(asked), routing.actor(request))
    return _told(request, "Discarded", "discard", asked, form, done)


async def _asked(request: routing.Request) -> tuple[dict[str, Any], forms.Form]:
    """The body of a walk, as a form says it: some ids, or all that a filter leaves."""
    form = await forms.read(request)
    if form.one("which") == "all":
        asked = Chosen(_filter(form)).walk
    else:
        ids = [parameters.number("id", text, 0, 2**63 - 1) for text in form.all("id")]
        if not ids:
            raise problems.Problem(
                problems.WRONG_VALUE, "No record was chosen: tick some, and send it again."
            )
        asked = {"ids": ids}
    return asked | {"after": form.one("after") or "0", "max_seconds": SECONDS}, form


def _told(
    request: routing.Request,
    title: str,
    action: str,
    asked: dict[str, Any],
    form: forms.Form,
    done: dict[str, Any],
) -> Response[str]:
    counts = {name: value for name, value in done.items() if isinstance(value, int)}
    going_on = None if done["next"] is None else _sent(asked, form, after=done["next"])
    return pages.page(
        request, "walked.html", title, action=action, counts=counts, outcomes=done["outcomes"][:OUTCOMES],
        all=len(done["outcomes"]) <= OUTCOMES, going_on=going_on,
    )  # fmt: skip


def _sent(asked: dict[str, Any], form: forms.Form, *, after: str) -> list[tuple[str, str]]:
    """The members with which the next form says the same again."""
    if "ids" in asked:
        same = [("id", str(id)) for id in asked["ids"]]
    else:
        same = [("which", "all"), *_filter(form).items()]
    return [*same, ("after", after)]


def _filter(form: forms.Form) -> dict[str, str]:
    return {name: form.one(name) for name in NAMES if form.one(name)}


def _query(request: routing.Request) -> dict[str, str]:
    return {name: value for name, value in request.query_params.items() if value}


def _link(group: dict[str, Any], chosen: dict[str, str]) -> str:
    """The address of a group's records."""
    told = {name: group[name] for name in ("reason", "type", "door", "topic") if group[name] is not None}
    return "/console/parked/records?" + urlencode(
        told | {name: v for name, v in chosen.items() if name == "age"}
    )
