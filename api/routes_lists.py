"""The addresses of lists that are answered by pages as JSON, or whole as CSV: timelines, the audit log.

Limits: as all of `api.routes`, which lists them.
Called by `api.routes`.
"""

from __future__ import annotations

from typing import Any, Final

from litestar import Response, get
from litestar.params import FromPath

from api import activity, audit, routing


@get(
    "/v1/contacts/{id:str}/activity",
    guards=[routing.takes_parameters],
    opt={"parameters": activity.PARAMETERS},
)
async def get_contact_activity(request: routing.Request, id: FromPath[str]) -> Response[Any]:
    wanted = routing.wanted(request, activity.cursor)
    listing, beside = await activity.asked(routing.parts(request).database, id, routing.query(request))
    return await routing.listed(listing, wanted, **beside)


@get(
    "/v1/activity",
    guards=[routing.takes_parameters],
    opt={"parameters": ("contact", *activity.PARAMETERS)},
)
async def get_activity(request: routing.Request) -> Response[Any]:
    query, wanted = routing.query(request), routing.wanted(request, activity.cursor)
    listing, beside = await activity.asked(routing.parts(request).database, query.get("contact"), query)
    return await routing.listed(listing, wanted, **beside)


@get("/v1/audit", guards=[routing.takes_parameters], opt={"parameters": audit.PARAMETERS})
async def get_audit(request: routing.Request) -> Response[Any]:
    listing = audit.asked(routing.parts(request).database, routing.query(request))
    return await routing.listed(listing, routing.wanted(request, audit.cursor))


ALL: Final = (get_contact_activity, get_activity, get_audit)
