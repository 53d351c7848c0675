"""Every address of the API, on four pages: this one, `api.routes_contacts` for who somebody is,
`api.routes_lists` for timelines and the audit log, and `api.routes_operate` for whoever operates it.

Promises: a route does nothing but read its parameters, call the module of its subject and write the answer
down.

Called by `api.app`; `api.openapi` describes the same routes, and a test compares the two.
"""

from __future__ import annotations

from typing import Annotated, Final

import prometheus_client
from litestar import Response, get, post
from litestar.params import FromPath, FromQuery, QueryParameter

from api import (
    engagement,
    engagement_list,
    explain,
    export,
    openapi,
    operations,
    problems,
    routes_contacts,
    routes_lists,
    routes_operate,
    routing,
    segment,
)
from schemas import asyncapi

# Litestar adds the charset.
_METRICS: Final = prometheus_client.CONTENT_TYPE_LATEST.removesuffix("; charset=utf-8")


@post("/v1/events", guards=[routing.takes_parameters])
async def post_events(request: routing.Request) -> Response[bytes]:
    return await routing.parts(request).ingest.take(request)


@post(
    ["/v1/track", "/v1/identify", "/v1/alias", "/v1/page", "/v1/batch"],
    guards=[routing.takes_parameters],
    status_code=200,
)
async def post_segment(request: routing.Request) -> Response[bytes]:
    return routing.json(await segment.take(routing.parts(request).ingest, request))


@get("/v1/events/{id:str}/trace", guards=[routing.takes_parameters], opt={"parameters": ("source", "at")})
async def get_trace(
    request: routing.Request,
    id: FromPath[str],
    source: FromQuery[str | None] = None,
    at: FromQuery[str | None] = None,
) -> Response[bytes]:
    return routing.json(await routing.parts(request).tracing.find(id, source, at))


@get("/v1/contacts/{id:str}/engagement", guards=[routing.takes_parameters], opt={"parameters": ("as_of",)})
async def get_engagement(
    request: routing.Request, id: FromPath[str], as_of: FromQuery[str | None] = None
) -> Response[bytes]:
    return routing.json(await engagement.read(routing.parts(request).database, id, routing.instant(as_of)))


@get(
    "/v1/contacts/{id:str}/engagement/explain",
    guards=[routing.takes_parameters],
    opt={"parameters": ("as_of", "limit")},
)
async def explain_engagement(
    request: routing.Request,
    id: FromPath[str],
    as_of: FromQuery[str | None] = None,
    limit: Annotated[int, QueryParameter(ge=1, le=explain.LARGEST)] = explain.MOST,
) -> Response[bytes]:
    return routing.json(
        await explain.explain(routing.parts(request).database, id, routing.instant(as_of), limit)
    )


@post("/v1/contacts/{id:str}/engagement/calculate", guards=[routing.takes_parameters])
async def calculate_engagement(request: routing.Request, id: FromPath[str]) -> Response[bytes]:
    parts = routing.parts(request)
    return routing.json(await engagement.calculate(parts.database, id, parts.homes))


@get("/v1/contacts/{id:str}/export", guards=[routing.takes_parameters])
async def export_contact(request: routing.Request, id: FromPath[str]) -> Response[bytes]:
    parts = routing.parts(request)
    return routing.json(await export.export(parts.database, id, parts.vault))


@get("/v1/engagement", guards=[routing.takes_parameters], opt={"parameters": engagement_list.PARAMETERS})
async def get_engagements(request: routing.Request) -> Response[bytes]:
    parts = routing.parts(request)
    asked = engagement_list.read_query(dict(request.query_params.items()))
    return routing.json(await engagement_list.find(parts.database, asked, parts.homes))


@post("/v1/engagement/refresh-expired", guards=[routing.takes_parameters])
async def refresh_expired(request: routing.Request) -> Response[bytes]:
    return routing.json({"refreshed": await engagement.refresh_expired(routing.parts(request).database)})


@get("/health/live")
async def live() -> Response[bytes]:
    return routing.json({"status": "live"})


@get("/health/ready")
async def ready(request: routing.Request) -> Response[bytes]:
    return routing.json(await operations.ready(routing.parts(request).readiness))


@get("/metrics")
async def read_metrics() -> Response[bytes]:
    return Response(prometheus_client.generate_latest(), media_type=_METRICS)


@get("/openapi.json")
async def read_openapi() -> Response[bytes]:
    return routing.json(openapi.document())


@get("/asyncapi.json")
async def read_asyncapi() -> Response[bytes]:
    return routing.json(asyncapi.document())


@get(problems.PAGE)
async def read_problems() -> Response[str]:
    return Response(problems.page(), media_type="text/markdown")


ALL: Final = (
    post_events,
    post_segment,
    get_trace,
    get_engagement,
    explain_engagement,
    calculate_engagement,
    export_contact,
    get_engagements,
    refresh_expired,
    *routes_contacts.ALL,
    *routes_lists.ALL,
    *routes_operate.ALL,
    live,
    ready,
    read_metrics,
    read_openapi,
    read_asyncapi,
    read_problems,
)
