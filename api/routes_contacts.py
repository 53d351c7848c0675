"""The addresses of contacts and sessions: who somebody is, and changes of it.

Promises: as `api.routes`.
Called by `api.routes`, which lists them with its own.
"""

from __future__ import annotations

from typing import Final

from litestar import Response, delete, get, post
from litestar.params import FromPath

from api import contacts, erasures, holds, ingest, json_body, routing, sessions
from schemas import hold


@get("/v1/contacts/{id:str}", guards=[routing.takes_parameters])
async def get_contact(request: routing.Request, id: FromPath[str]) -> Response[bytes]:
    parts = routing.parts(request)
    known = await contacts.read(parts.database, id)
    standing = await holds.read(parts.database, id, parts.hold, parts.vault.master)
    return routing.json({**known, "hold": {kind: standing[kind] for kind in hold.KINDS}})


@get("/v1/contacts/{id:str}/hold", guards=[routing.takes_parameters], opt={"parameters": ("as_of",)})
async def get_hold(request: routing.Request, id: FromPath[str]) -> Response[bytes]:
    parts = routing.parts(request)
    as_of = routing.instant(request.query_params.get("as_of"))
    return routing.json(await holds.read(parts.database, id, parts.hold, parts.vault.master, as_of))


@post("/v1/contacts/{id:str}/hold", guards=[routing.takes_parameters])
async def set_hold(request: routing.Request, id: FromPath[str]) -> Response[bytes]:
    asked = json_body.read(await request.body(), holds.Hold)
    parts = routing.parts(request)
    means = holds.Means(parts.hold, parts.vault, parts.homes, parts.ahead)
    actor = routing.actor(request)
    return routing.json(await holds.change(parts.database, parts.log, id, asked, actor, means))


@delete("/v1/contacts/{id:str}", guards=[routing.takes_parameters], status_code=200)
async def delete_contact(request: routing.Request, id: FromPath[str]) -> Response[bytes]:
    parts = routing.parts(request)
    return routing.json(await contacts.delete(parts.database, parts.log, id, routing.actor(request)))


@post("/v1/contacts/{id:str}/restore", guards=[routing.takes_parameters])
async def restore_contact(request: routing.Request, id: FromPath[str]) -> Response[bytes]:
    parts = routing.parts(request)
    return routing.json(await contacts.restore(parts.database, parts.log, id, routing.actor(request)))


@post("/v1/contacts/{id:str}/consent", guards=[routing.takes_parameters])
async def set_consent(request: routing.Request, id: FromPath[str]) -> Response[bytes]:
    asked = json_body.read(await request.body(), contacts.Consent)
    parts = routing.parts(request)
    return routing.json(await contacts.agree(parts.database, parts.log, id, asked, routing.actor(request)))


@post("/v1/contacts/{id:str}/erase", guards=[routing.takes_parameters])
async def erase_contact(request: routing.Request, id: FromPath[str]) -> Response[bytes]:
    asked = json_body.read(await request.body(), erasures.Erase)
    parts = routing.parts(request)
    return routing.json(await erasures.erase(parts.database, parts.log, id, asked, routing.actor(request)))


@post("/v1/contacts/{id:str}/merge", guards=[routing.takes_parameters])
async def merge_contact(request: routing.Request, id: FromPath[str]) -> Response[bytes]:
    asked = json_body.read(await request.body(), contacts.Into)
    parts = routing.parts(request)
    return routing.json(await contacts.merge(parts.database, parts.log, id, asked, routing.actor(request)))


@post("/v1/contacts/{id:str}/unmerge", guards=[routing.takes_parameters])
async def unmerge_contact(request: routing.Request, id: FromPath[str]) -> Response[bytes]:
    asked = json_body.read(await request.body(), contacts.Into)
    parts = routing.parts(request)
    return routing.json(await contacts.unmerge(parts.database, parts.log, id, asked, routing.actor(request)))


@post("/v1/sessions", guards=[routing.takes_parameters])
async def create_session(request: routing.Request) -> Response[bytes]:
    asked = json_body.read(await request.body(), sessions.Create)
    key = ingest.idempotency_key(request.headers.get("idempotency-key"))
    parts = routing.parts(request)
    actor = routing.actor(request)
    return routing.json(await sessions.create(parts.database, parts.log, asked, actor, key))


@get("/v1/sessions/{id:str}", guards=[routing.takes_parameters])
async def get_session(request: routing.Request, id: FromPath[str]) -> Response[bytes]:
    return routing.json(await sessions.read(routing.parts(request).database, id))


@post("/v1/sessions/{id:str}/start", guards=[routing.takes_parameters])
async def start_session(request: routing.Request, id: FromPath[str]) -> Response[bytes]:
    parts = routing.parts(request)
    return routing.json(await sessions.start(parts.database, parts.log, id, routing.actor(request)))


@post("/v1/sessions/{id:str}/link", guards=[routing.takes_parameters])
async def link_session(request: routing.Request, id: FromPath[str]) -> Response[bytes]:
    asked = json_body.read(await request.body(), sessions.To)
    parts = routing.parts(request)
    return routing.json(await sessions.link(parts.database, parts.log, id, asked, routing.actor(request)))


@post("/v1/sessions/{id:str}/unlink", guards=[routing.takes_parameters])
async def unlink_session(request: routing.Request, id: FromPath[str]) -> Response[bytes]:
    asked = json_body.read(await request.body(), sessions.To)
    parts = routing.parts(request)
    return routing.json(await sessions.unlink(parts.database, parts.log, id, asked, routing.actor(request)))


ALL: Final = (
    get_contact,
    delete_contact,
    restore_contact,
    set_consent,
    erase_contact,
    get_hold,
    set_hold,
    merge_contact,
    unmerge_contact,
    create_session,
    get_session,
    start_session,
    link_session,
    unlink_session,
)
