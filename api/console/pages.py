"""How a page of the console is made: templates, what every page shows, its headers, and errors as pages.

Promises: whatever stands in a page is escaped, unless it is one of our own templates; no page is kept by a
browser or a proxy, framed, or may load or run anything but our own style and pictures. An error is a page
with its own words, never an exception's or a value that was sent.
Limits: times are UTC.
Called by: the pages of `api.console`, and `api.app` for errors below `/console`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import jinja2
from litestar import Request, Response
from litestar.datastructures import Cookie
from litestar.response import Redirect

from api import auth, problems
from api.console import forms, sessions, shown
from schemas import metrics

HTML: Final = "text/html"
FOLDER: Final = Path(__file__).parent
HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
        "frame-ancestors 'none'; base-uri 'none'"
    ),
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    # Not no-referrer: a browser would then send its own forms without an origin.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
# Of the style and the icon, whose addresses change with them.
KEPT: Final = {"Cache-Control": "public, max-age=86400", "X-Content-Type-Options": "nosniff"}
STYLE: Final = (FOLDER / "style.css").read_bytes()
ICON: Final = (FOLDER / "icon.svg").read_bytes()
_VERSION: Final = hashlib.sha256(STYLE).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Place:
    """A part of the console, as the menu has it."""

    path: str
    name: str
    scope: str


@dataclass(frozen=True, slots=True)
class Mistake:
    """What was wrong in a form: the id of the input, empty where it is none's, and what it takes."""

    input: str
    text: str


PLACES: Final = (
    Place("/console", "Overview", auth.ACCESS),
    Place("/console/contacts", "Contacts", auth.ACCESS),
    Place("/console/parked", "Parked", auth.ADMINISTER),
    Place("/console/settings", "Settings", auth.ADMINISTER),
    Place("/console/keys", "Keys", auth.ADMINISTER),
    Place("/console/audit", "Audit", auth.ADMINISTER),
)
# What may be done about an error, for people who look at pages; others show the table's own words.
_ADVICE: Final = {
    problems.NO_ROUTE.name: "Look at the address again, or start from one of the parts above.",
    problems.METHOD.name: "Look at the address again, or start from one of the parts above.",
    problems.NO_CONTACT_ID.name: "It is never an address or a phone number.",
    problems.NO_PARKED.name: "It was driven again, discarded, or has expired since; or it never was.",
    problems.NO_SUCH_KEY.name: "The list of keys has every one, revoked ones too.",
    problems.NO_SETTING.name: "The page of settings has those that can be changed while Heed runs.",
    problems.WRONG_SCOPE.name: "Log out, and in again with a key that has the scope administer.",
    problems.TOO_FAST.name: "Wait a moment and load the page again.",
    problems.TOO_MANY.name: "Wait a moment and try again.",
    problems.KEYS_UNKNOWN.name: "They are read once a worker has folded the registry. Try again in a moment.",
    problems.LOG_AWAY.name: "Kafka does not answer. What was under way may be done: look, then try again.",
    problems.DATABASE_AWAY.name: "PostgreSQL does not answer. Events are still taken. Try again in a moment.",
    problems.WORKERS_BEHIND.name: "It is done as soon as workers run. Look at the overview.",
    problems.INTERNAL.name: "The log of the API has the reason; please report it.",
    problems.TOO_LARGE.name: "Send less at a time.",
}  # fmt: skip

_templates: Final = jinja2.Environment(
    loader=jinja2.FileSystemLoader(FOLDER / "templates"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.filters.update(shown.FILTERS)


def page(
    request: Request[Any, Any, Any],
    template: str,
    title: str,
    *,
    status: int = 200,
    cookies: Sequence[Cookie] = (),
    headers: dict[str, str] | None = None,
    mistakes: Sequence[Mistake] = (),
    **values: object,
) -> Response[str]:
    """A page out of a template, with what every page has: menu, notes, mistakes, the token for its forms."""
    session = sessions.current(request)
    notes: list[sessions.Note] = []
    if session is not None:
        notes, session.notes = session.notes, []
    html = _templates.get_template(template).render(
        title=title,
        places=[one for one in PLACES if sessions.may(request, one.scope)],
        here=_part(request.url.path),
        session=session,
        key=_key(request, session),
        may_administer=sessions.may(request, auth.ADMINISTER),
        notes=notes,
        mistakes={one.input: one.text for one in mistakes},
        style=f"/console/style.css?v={_VERSION}",
        version=metrics.version(),
        now=shown.now(),
        **values,
    )
    return Response(
        html, status_code=status, media_type=HTML, headers=HEADERS | (headers or {}), cookies=list(cookies)
    )


def to(
    path: str, session: sessions.Session | None = None, note: str = "", cookies: Sequence[Cookie] = ()
) -> Redirect:
    """Where a form that was acted on leads; a note is shown there, once."""
    if session is not None and note:
        session.notes.append(sessions.Note(note))
    return Redirect(path, status_code=303, headers=HEADERS, cookies=list(cookies))


def guarded(answer: Response[Any]) -> Response[Any]:
    """A file of the console's, with the headers that its pages have."""
    answer.headers |= HEADERS
    return answer


def failed(request: Request[Any, Any, Any], error: Exception) -> Response[str] | Redirect:
    """Whatever was raised below `/console`, as a page; or the page to log in on, where that is missing."""
    match error:
        case sessions.LogIn():
            back = request.url.path if request.method == "GET" else ""
            return to(f"/console/login?next={quote(back)}" if back else "/console/login")
        case forms.Forged():
            return page(
                request, "error.html", "This form is too old", status=403, mistakes=(),
                detail="It was not given to this session, so nothing was changed.",
                advice="Load the page again, and send the form from there.",
            )  # fmt: skip
    problem = problems.of(request, error)
    kind = problem.kind
    detail = "" if problem.detail == f"{kind.title}." else problem.detail
    advice = _ADVICE.get(kind.name, "")
    return page(
        request, "error.html", kind.title, status=kind.status, headers=problem.headers,
        detail=detail, advice=advice,
    )  # fmt: skip


def ours(path: str) -> bool:
    """Whether an address is one of the console's."""
    return path == sessions.PATH or path.startswith(f"{sessions.PATH}/")


def _part(path: str) -> str:
    """The part of the console that an address belongs to."""
    found = [one.path for one in PLACES if path == one.path or path.startswith(f"{one.path}/")]
    return max(found, key=len, default="") if path.rstrip("/") != sessions.PATH else sessions.PATH


def _key(request: Request[Any, Any, Any], session: sessions.Session | None) -> str:
    """What the session's key is called."""
    if session is None:
        return ""
    keys: auth.Keys = request.app.state.parts.keys
    found = keys.named(session.key)
    return "" if found is None else found.name
