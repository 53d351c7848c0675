"""The addresses of lists that are answered by pages as JSON, or whole as CSV: the audit log.

Limits: as all of `api.routes`, which lists them.
Called by `api.routes`.
"""

from __future__ import annotations

from typing import Any, Final

from litestar import Response, get

from api import audit, routing


@get("/v1/audit", guards=[routing.takes_parameters], opt={"parameters": audit.PARAMETERS})
async def get_audit(request: routing.Request) -> Response[Any]:
    listing = audit.asked(routing.parts(request).database, routing.query(request))
    return await routing.listed(listing, routing.wanted(request, audit.cursor))


ALL: Final = (get_audit,)
