"""Every address of the API, on one page.

Promises: a route does nothing but read its parameters, call the module of its subject and write the answer
down; a parameter that a route does not take is refused, so a misspelt filter never answers with everything.

Called by `api.app`; `api.openapi` describes the same routes, and a test compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final
from urllib.parse import parse_qsl

import msgspec
import prometheus_client
from litestar import Request, Response, get, post, put
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.params import FromPath, FromQuery, QueryParameter

from api import (
    engagement,
    engagement_list,
    event_trace,
    explain,
    ingest,
    json_body,
    openapi,
    operations,
    parameters,
    parked,
    problems,
    recalculation,
    schedules,
    servers,
    settings,
)
from schemas import asyncapi, envelope, errors

JSON: Final = "application/json"

# Litestar adds the charset.
_METRICS: Final = prometheus_client.CONTENT_TYPE_LATEST.removesuffix("; charset=utf-8")
_encode: Final = msgspec.json.Encoder().encode
_Request = Request[Any, Any, Any]


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


@post("/v1/events", guards=[takes_parameters])
async def post_events(request: _Request) -> Response[bytes]:
    return await _parts(request).ingest.take(request)


@get("/v1/events/{id:str}/trace", guards=[takes_parameters], opt={"parameters": ("source", "at")})
async def get_trace(
    request: _Request,
    id: FromPath[str],
    source: FromQuery[str | None] = None,
    at: FromQuery[str | None] = None,
) -> Response[bytes]:
    return _json(await _parts(request).tracing.find(id, source, at))


@get("/v1/contacts/{id:str}/engagement", guards=[takes_parameters], opt={"parameters": ("as_of",)})
async def get_engagement(
    request: _Request, id: FromPath[str], as_of: FromQuery[str | None] = None
) -> Response[bytes]:
    return _json(await engagement.read(_parts(request).database, id, _instant(as_of)))


@get(
    "/v1/contacts/{id:str}/engagement/explain",
    guards=[takes_parameters],
    opt={"parameters": ("as_of", "limit")},
)
async def explain_engagement(
    request: _Request,
    id: FromPath[str],
    as_of: FromQuery[str | None] = None,
    limit: Annotated[int, QueryParameter(ge=1, le=explain.LARGEST)] = explain.MOST,
) -> Response[bytes]:
    return _json(await explain.explain(_parts(request).database, id, _instant(as_of), limit))


@post("/v1/contacts/{id:str}/engagement/calculate", guards=[takes_parameters])
async def calculate_engagement(request: _Request, id: FromPath[str]) -> Response[bytes]:
    parts = _parts(request)
    return _json(await engagement.calculate(parts.database, id, parts.homes))


@get("/v1/engagement", guards=[takes_parameters], opt={"parameters": engagement_list.PARAMETERS})
async def get_engagements(request: _Request) -> Response[bytes]:
    parts = _parts(request)
    asked = engagement_list.read_query(dict(request.query_params.items()))
    return _json(await engagement_list.find(parts.database, asked, parts.homes))


@post("/v1/engagement/refresh-expired", guards=[takes_parameters])
async def refresh_expired(request: _Request) -> Response[bytes]:
    return _json({"refreshed": await engagement.refresh_expired(_parts(request).database)})


@post("/v1/engagement/run-queue", guards=[takes_parameters])
async def run_queue(request: _Request) -> Response[bytes]:
    asked = json_body.read(await request.body(), recalculation.Run)
    return _json(await recalculation.run_queue(_parts(request).database, asked.max_seconds))


@get("/v1/settings/{name:str}", guards=[takes_parameters])
async def get_setting(request: _Request, name: FromPath[str]) -> Response[bytes]:
    return _json(await settings.read(_parts(request).database, name))


@put("/v1/settings/{name:str}", guards=[takes_parameters])
async def put_setting(request: _Request, name: FromPath[str]) -> Response[bytes]:
    asked = json_body.read(await request.body(), settings.Change)
    parts = _parts(request)
    changed = await settings.change(parts.database, parts.log, name, asked.value, _actor(request))
    return _json(changed)


@get("/v1/schedules", guards=[takes_parameters])
async def get_schedules(request: _Request) -> Response[bytes]:
    return _json(await schedules.read(_parts(request).database))


_SCOPE: Final = {"scope": parked.SCOPE}
_Limit = Annotated[int, QueryParameter(ge=1, le=parked.LARGEST_PAGE)]


@get("/v1/parked", guards=[takes_parameters], opt=_SCOPE | {"parameters": parked.LISTED})
async def get_parked(
    request: _Request,
    reason: FromQuery[errors.Reason | None] = None,
    type: FromQuery[str | None] = None,
    door: FromQuery[parked.Door | None] = None,
    topic: FromQuery[parked.Topic | None] = None,
    parked_since: FromQuery[datetime | None] = None,
    parked_before: FromQuery[datetime | None] = None,
    after: Annotated[int | None, QueryParameter(ge=0, le=2**63 - 1)] = None,
    limit: _Limit = parked.PAGE_SIZE,
) -> Response[bytes]:
    which = parked.filtered(reason, type, door, topic, parked_since, parked_before)
    return _json(await parked.page(_parts(request).database, which, after=after, limit=limit))


@get("/v1/parked/overview", guards=[takes_parameters], opt=_SCOPE | {"parameters": parked.GROUPED})
async def get_parked_overview(
    request: _Request,
    reason: FromQuery[errors.Reason | None] = None,
    type: FromQuery[str | None] = None,
    door: FromQuery[parked.Door | None] = None,
    topic: FromQuery[parked.Topic | None] = None,
    parked_since: FromQuery[datetime | None] = None,
    parked_before: FromQuery[datetime | None] = None,
    limit: _Limit = parked.PAGE_SIZE,
) -> Response[bytes]:
    which = parked.filtered(reason, type, door, topic, parked_since, parked_before)
    return _json(await parked.overview(_parts(request).database, which, limit=limit))


@get("/v1/parked/{id:str}", guards=[takes_parameters], opt=_SCOPE)
async def get_parked_one(request: _Request, id: FromPath[str]) -> Response[bytes]:
    return _json(await parked.one(_parts(request).database, id))


@post("/v1/parked/redrive", guards=[takes_parameters], opt=_SCOPE)
async def redrive_parked(request: _Request) -> Response[bytes]:
    return _json(await _parts(request).walks.redrive(await request.body()))


@post("/v1/parked/discard", guards=[takes_parameters], opt=_SCOPE)
async def discard_parked(request: _Request) -> Response[bytes]:
    return _json(await _parts(request).walks.discard(await request.body(), _actor(request)))


@get("/health/live")
async def live() -> Response[bytes]:
    return _json({"status": "live"})


@get("/health/ready")
async def ready(request: _Request) -> Response[bytes]:
    return _json(await operations.ready(_parts(request).readiness))


@get("/metrics")
async def read_metrics() -> Response[bytes]:
    return Response(prometheus_client.generate_latest(), media_type=_METRICS)


@get("/openapi.json")
async def read_openapi() -> Response[bytes]:
    return _json(openapi.document())


@get("/asyncapi.json")
async def read_asyncapi() -> Response[bytes]:
    return _json(asyncapi.document())


@get(problems.PAGE)
async def read_problems() -> Response[str]:
    return Response(problems.page(), media_type="text/markdown")


ALL: Final = (
    post_events,
    get_trace,
    get_engagement,
    explain_engagement,
    calculate_engagement,
    get_engagements,
    refresh_expired,
    run_queue,
    get_setting,
    put_setting,
    get_schedules,
    get_parked,
    get_parked_overview,
    get_parked_one,
    redrive_parked,
    discard_parked,
    live,
    ready,
    read_metrics,
    read_openapi,
    read_asyncapi,
    read_problems,
)


def _parts(request: _Request) -> Parts:
    parts: Parts = request.app.state.parts
    return parts


def _instant(as_of: str | None) -> datetime | None:
    return None if as_of is None else parameters.instant("as_of", as_of)


def _actor(request: _Request) -> str:
    """Who asks, as it is recorded."""
    return str(getattr(request.state, "actor", "api"))


def _json(answer: Mapping[str, Any]) -> Response[bytes]:
    return Response(_encode(_plain(answer)), status_code=200, media_type=JSON)


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
