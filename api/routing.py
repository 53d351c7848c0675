"""What every route shares: its parts, its path and parameters, who asks, and how an answer is written.

Promises: a parameter that a route does not take is refused, so a misspelt filter never answers with
everything; times are written as Heed writes them everywhere.
Called by `api.routes`, `api.routes_operate`; `api.app` makes the parts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

import litestar
import msgspec
from litestar import Response
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.types import HTTPScope

from api import auth, event_trace, ingest, operations, pages, parameters, parked, problems, servers
from schemas import envelope, hold
from streams import vault

JSON: Final = "application/json"
# A slash that was escaped, while a path is taken apart: no text that was decoded holds this character.
_SLASH: Final = "\udc2f"

_encode: Final = msgspec.json.Encoder().encode
Request = litestar.Request[Any, Any, Any]


@dataclass(frozen=True, slots=True)
class Parts:
    """What the routes work with; `api.app` makes it, once a process."""

    ingest: ingest.Ingest
    log: servers.Log
    database: servers.Database
    readiness: operations.Readiness
    tracing: event_trace.Tracing
    homes: int
    walks: parked.Walks
    keys: auth.Keys
    vault: vault.Vault
    hold: hold.Rules = hold.Rules()
    ahead: timedelta = timedelta(0)


async def takes_parameters(connection: ASGIConnection[Any, Any, Any, Any], route: BaseRouteHandler) -> None:
    """Refuses a query parameter that the route does not take (a guard of every route under /v1).

    `null` is no value of any: what converts parameters would take it for one that was left out.
    """
    query = connection.scope["query_string"]
    if not query:
        return
    taken: tuple[str, ...] = route.opt.get("parameters", ())
    pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    sent = [name for name, _ in pairs]
    if len(sent) != len(set(sent)) or not set(sent) <= set(taken):
        known = f"takes each of {', '.join(taken)} at most once" if taken else "takes no parameters"
        raise problems.Problem(problems.WRONG_PARAMETER, f"This route {known}.")
    if empty := [name for name, value in pairs if value.lower() == "null"]:
        raise problems.Problem(problems.WRONG_PARAMETER, f"Parameter {empty[0]}: not what the route takes.")


def keep_segments(scope: HTTPScope) -> None:
    """Takes the path apart where the client did: a slash that it escaped belongs to its segment, and one that
    is empty is not passed over (else deleting a contact without an id would delete the next segment)."""
    raw = scope["raw_path"]
    if b"%2f" in raw.lower() or b"//" in raw:
        first, *inner, last = (unquote(one) for one in raw.decode("latin-1").split("/"))
        segments = [first, *((one or "/").replace("/", _SLASH) for one in inner), last.replace("/", _SLASH)]
        scope["path"] = "/".join(segments)


async def before(request: Request) -> Response[None] | None:
    """Gives segments of the path their slashes back; answers OPTIONS with every method of the address, before
    Litestar does with those of one handler."""
    for name, value in request.path_params.items():
        if isinstance(value, str):
            request.path_params[name] = value.replace(_SLASH, "/")
    if request.method != "OPTIONS":
        return None
    template = request.scope["path_template"]
    methods = {
        method for one in request.app.routes if one.path_format == template for method in _methods(one)
    }
    return Response(None, status_code=204, headers={"Allow": ", ".join(sorted(methods))})


def _methods(route: object) -> set[str]:
    return set(getattr(route, "methods", ()))


def parts(request: Request) -> Parts:
    parts: Parts = request.app.state.parts
    return parts


def instant(as_of: str | None) -> datetime | None:
    return None if as_of is None else parameters.instant("as_of", as_of)


def query(request: Request) -> dict[str, str]:
    """What a query says, each parameter once: `takes_parameters` has seen to that."""
    return dict(request.query_params.items())


def actor(request: Request) -> str:
    """Who asks, as it is recorded."""
    return str(request.state.actor)


def json(answer: Mapping[str, Any]) -> Response[bytes]:
    return Response(_encode(_plain(answer)), status_code=200, media_type=JSON)


def wanted(request: Request, cursor: Callable[[pages.Cursor], pages.Cursor]) -> pages.Wanted:
    """What of a list is asked for; raises `Problem`."""
    return pages.read(query(request), request.headers.get("accept", ""), cursor)


async def listed(listing: pages.Listing, wanted: pages.Wanted, **more: object) -> Response[Any]:
    """A list as it is asked for: a page of it as JSON, with `more` beside the items, or all of it as CSV."""
    if wanted.csv:
        return await pages.sheet(listing, wanted)
    return json(await pages.answer(listing, wanted, more))


def _plain(value: Any) -> Any:
    """Times as Heed writes them everywhere: UTC, milliseconds, Z."""
    match value:
        case datetime():
            return envelope.format_time(value)
        case dict():
            return {name: _plain(item) for name, item in value.items()}
        case list():
            return [_plain(item) for item in value]
        case _:
            return value
