"""Every page of the console, with the scope that its key needs.

Promises: a page does nothing but what the module of its subject does; one without a scope is for
administrators.
Called by: `api.app`.
"""

from __future__ import annotations

from typing import Any, Final

from litestar import Response, Router, get, post
from litestar.params import FromPath

from api import auth, routing
from api.console import audit, contacts, keys, login, overview, pages, parked, sessions, settings, timeline

_OPEN: Final[dict[str, Any]] = {sessions.SCOPE: auth.OPEN}
_ACCESS: Final[dict[str, Any]] = {sessions.SCOPE: auth.ACCESS}
_ADMINISTER: Final[dict[str, Any]] = {sessions.SCOPE: auth.ADMINISTER}


@get("/", opt=_ACCESS)
async def get_overview(request: routing.Request) -> Response[Any]:
    return await overview.show(request)


@get("/login", opt=_OPEN)
async def get_login(request: routing.Request) -> Response[Any]:
    return await login.show(request)


@post("/login", opt=_OPEN)
async def post_login(request: routing.Request) -> Response[Any]:
    return await login.log_in(request)


@post("/logout", opt=_ACCESS)
async def post_logout(request: routing.Request) -> Response[Any]:
    return await login.log_out(request)


@get("/contacts", opt=_ACCESS)
async def get_contacts(request: routing.Request) -> Response[Any]:
    return await contacts.index(request)


@post("/contacts", opt=_ACCESS)
async def post_contacts(request: routing.Request) -> Response[Any]:
    return await contacts.look_up(request)


@get("/contacts/{id:str}", opt=_ACCESS)
async def get_contact(request: routing.Request, id: FromPath[str]) -> Response[Any]:
    return await contacts.show(request, id)


@get("/contacts/{id:str}/activity.csv", opt=_ACCESS)
async def get_activity_sheet(request: routing.Request, id: FromPath[str]) -> Response[Any]:
    return await timeline.sheet(request, id)


@post("/contacts/{id:str}/merge", opt=_ACCESS)
async def post_merge(request: routing.Request, id: FromPath[str]) -> Response[Any]:
    return await contacts.merge(request, id)


@post("/contacts/{id:str}/unmerge", opt=_ACCESS)
async def post_unmerge(request: routing.Request, id: FromPath[str]) -> Response[Any]:
    return await contacts.unmerge(request, id)


@post("/contacts/{id:str}/unlink", opt=_ACCESS)
async def post_unlink(request: routing.Request, id: FromPath[str]) -> Response[Any]:
    return await contacts.unlink(request, id)


@post("/contacts/{id:str}/consent", opt=_ACCESS)
async def post_consent(request: routing.Request, id: FromPath[str]) -> Response[Any]:
    return await contacts.agree(request, id)


@post("/contacts/{id:str}/hold", opt=_ACCESS)
async def post_hold(request: routing.Request, id: FromPath[str]) -> Response[Any]:
    return await contacts.stop(request, id)


@post("/contacts/{id:str}/delete", opt=_ACCESS)
async def post_delete(request: routing.Request, id: FromPath[str]) -> Response[Any]:
    return await contacts.delete(request, id)


@post("/contacts/{id:str}/restore", opt=_ACCESS)
async def post_restore(request: routing.Request, id: FromPath[str]) -> Response[Any]:
    return await contacts.restore(request, id)


@get("/parked", opt=_ADMINISTER)
async def get_parked(request: routing.Request) -> Response[Any]:
    return await parked.index(request)


@get("/parked/records", opt=_ADMINISTER)
async def get_parked_records(request: routing.Request) -> Response[Any]:
    return await parked.listed(request)


@get("/parked/records/{id:str}", opt=_ADMINISTER)
async def get_parked_record(request: routing.Request, id: FromPath[str]) -> Response[Any]:
    return await parked.show(request, id)


@post("/parked/redrive", opt=_ADMINISTER)
async def post_redrive(request: routing.Request) -> Response[Any]:
    return await parked.redrive(request)


@post("/parked/discard", opt=_ADMINISTER)
async def post_discard(request: routing.Request) -> Response[Any]:
    return await parked.discard(request)


@get("/settings", opt=_ADMINISTER)
async def get_settings(request: routing.Request) -> Response[Any]:
    return await settings.show(request)


@post("/settings/{name:str}", opt=_ADMINISTER)
async def post_setting(request: routing.Request, name: FromPath[str]) -> Response[Any]:
    return await settings.change(request, name)


@get("/keys", opt=_ADMINISTER)
async def get_keys(request: routing.Request) -> Response[Any]:
    return await keys.show(request)


@post("/keys", opt=_ADMINISTER)
async def post_keys(request: routing.Request) -> Response[Any]:
    return await keys.create(request)


@post("/keys/{id:str}/rotate", opt=_ADMINISTER)
async def post_rotate(request: routing.Request, id: FromPath[str]) -> Response[Any]:
    return await keys.rotate(request, id)


@get("/keys/{id:str}/revoke", opt=_ADMINISTER)
async def get_revoke(request: routing.Request, id: FromPath[str]) -> Response[Any]:
    return await keys.ask(request, id)


@post("/keys/{id:str}/revoke", opt=_ADMINISTER)
async def post_revoke(request: routing.Request, id: FromPath[str]) -> Response[Any]:
    return await keys.revoke(request, id)


@get("/audit", opt=_ADMINISTER)
async def get_audit(request: routing.Request) -> Response[Any]:
    return await audit.show(request)


@post("/audit", opt=_ADMINISTER)
async def post_audit(request: routing.Request) -> Response[Any]:
    return await audit.choose(request)


@get("/audit.csv", opt=_ADMINISTER)
async def get_audit_sheet(request: routing.Request) -> Response[Any]:
    return await audit.sheet(request)


@get("/style.css", opt=_OPEN)
async def get_style() -> Response[bytes]:
    return Response(pages.STYLE, media_type="text/css", headers=pages.KEPT)


@get("/icon.svg", opt=_OPEN)
async def get_icon() -> Response[bytes]:
    return Response(pages.ICON, media_type="image/svg+xml", headers=pages.KEPT)


PAGES: Final = Router(
    path=sessions.PATH,
    route_handlers=[
        get_overview, get_login, post_login, post_logout, get_contacts, post_contacts, get_contact,
        get_activity_sheet, post_merge, post_unmerge, post_unlink, post_consent, post_hold, post_delete,
        post_restore, get_parked, get_parked_records, get_parked_record, post_redrive,
        post_discard, get_settings, post_setting, get_keys, post_keys, post_rotate, get_revoke,
        post_revoke, get_audit, post_audit, get_audit_sheet, get_style, get_icon,
    ],
    guards=[sessions.knows_who_asks],
    opt={auth.SESSION: True},
)  # fmt: skip
