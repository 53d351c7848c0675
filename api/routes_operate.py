"""The addresses for whoever operates Heed: the queue, settings, schedules, keys, parked records.

Limits: as all of `api.routes`, which lists them.
Called by `api.routes`.
"""

from __future__ import annotations

from typing import Annotated, Final

from litestar import Response, get, post, put
from litestar.params import FromPath, FromQuery, QueryParameter

from api import json_body, keys, parked, recalculation, routing, schedules, settings
from schemas import errors


@post("/v1/engagement/run-queue", guards=[routing.takes_parameters])
async def run_queue(request: routing.Request) -> Response[bytes]:
    asked = json_body.read(await request.body(), recalculation.Run)
    return routing.json(await recalculation.run_queue(routing.parts(request).database, asked.max_seconds))


@get("/v1/settings/{name:str}", guards=[routing.takes_parameters])
async def get_setting(request: routing.Request, name: FromPath[str]) -> Response[bytes]:
    return routing.json(await settings.read(routing.parts(request).database, name))


@put("/v1/settings/{name:str}", guards=[routing.takes_parameters])
async def put_setting(request: routing.Request, name: FromPath[str]) -> Response[bytes]:
    asked = json_body.read(await request.body(), settings.Change)
    parts = routing.parts(request)
    changed = await settings.change(parts.database, parts.log, name, asked.value, routing.actor(request))
    return routing.json(changed)


@get("/v1/schedules", guards=[routing.takes_parameters])
async def get_schedules(request: routing.Request) -> Response[bytes]:
    return routing.json(await schedules.read(routing.parts(request).database))


@get("/v1/keys", guards=[routing.takes_parameters])
async def get_keys(request: routing.Request) -> Response[bytes]:
    return routing.json(await keys.read(routing.parts(request).database))


@post("/v1/keys", guards=[routing.takes_parameters])
async def post_key(request: routing.Request) -> Response[bytes]:
    asked = json_body.read(await request.body(), keys.Create)
    parts = routing.parts(request)
    return routing.json(await keys.create(parts.database, parts.log, asked, routing.actor(request)))


@post("/v1/keys/{id:str}/revoke", guards=[routing.takes_parameters])
async def revoke_key(request: routing.Request, id: FromPath[str]) -> Response[bytes]:
    parts = routing.parts(request)
    return routing.json(await keys.revoke(parts.database, parts.log, id, routing.actor(request)))


@post("/v1/keys/{id:str}/rotate", guards=[routing.takes_parameters])
async def rotate_key(request: routing.Request, id: FromPath[str]) -> Response[bytes]:
    parts = routing.parts(request)
    return routing.json(await keys.rotate(parts.database, parts.log, id, routing.actor(request)))


_Limit = Annotated[int, QueryParameter(ge=1, le=parked.LARGEST_PAGE)]


@get("/v1/parked", guards=[routing.takes_parameters], opt={"parameters": parked.LISTED})
async def get_parked(
    request: routing.Request,
    reason: FromQuery[errors.Reason | None] = None,
    type: FromQuery[str | None] = None,
    door: FromQuery[parked.Door | None] = None,
    topic: FromQuery[parked.Topic | None] = None,
    parked_since: FromQuery[str | None] = None,
    parked_before: FromQuery[str | None] = None,
    after: Annotated[int | None, QueryParameter(ge=0, le=2**63 - 1)] = None,
    limit: _Limit = parked.PAGE_SIZE,
) -> Response[bytes]:
    which = parked.asked(reason, type, door, topic, parked_since, parked_before)
    return routing.json(await parked.page(routing.parts(request).database, which, after=after, limit=limit))


@get("/v1/parked/overview", guards=[routing.takes_parameters], opt={"parameters": parked.GROUPED})
async def get_parked_overview(
    request: routing.Request,
    reason: FromQuery[errors.Reason | None] = None,
    type: FromQuery[str | None] = None,
    door: FromQuery[parked.Door | None] = None,
    topic: FromQuery[parked.Topic | None] = None,
    parked_since: FromQuery[str | None] = None,
    parked_before: FromQuery[str | None] = None,
    limit: _Limit = parked.PAGE_SIZE,
) -> Response[bytes]:
    which = parked.asked(reason, type, door, topic, parked_since, parked_before)
    return routing.json(await parked.overview(routing.parts(request).database, which, limit=limit))


@get("/v1/parked/{id:str}", guards=[routing.takes_parameters])
async def get_parked_one(request: routing.Request, id: FromPath[str]) -> Response[bytes]:
    return routing.json(await parked.one(routing.parts(request).database, id))


@post("/v1/parked/redrive", guards=[routing.takes_parameters])
async def redrive_parked(request: routing.Request) -> Response[bytes]:
    return routing.json(await routing.parts(request).walks.redrive(await request.body()))


@post("/v1/parked/discard", guards=[routing.takes_parameters])
async def discard_parked(request: routing.Request) -> Response[bytes]:
    return routing.json(
        await routing.parts(request).walks.discard(await request.body(), routing.actor(request))
    )


ALL: Final = (
    run_queue,
    get_setting,
    put_setting,
    get_schedules,
    get_keys,
    post_key,
    revoke_key,
    rotate_key,
    get_parked,
    get_parked_overview,
    get_parked_one,
    redrive_parked,
    discard_parked,
)
