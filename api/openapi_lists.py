"""The description of the lists that are JSON by pages or CSV as a whole, as parts of the OpenAPI document.

Called by `api.openapi`.
"""

from __future__ import annotations

from typing import Any, Final

from api import audit, pages
from api.openapi_shapes import limit, nullable, operation, ref, shape

MOMENT: Final = {"type": "string", "format": "date-time"}
_TEXT: Final = {"type": "string", "minLength": 1, "maxLength": audit.LONGEST}


def paths() -> dict[str, Any]:
    """Every address, with its methods."""
    filters = [
        _query("actor", _TEXT, "only changes of this actor"),
        _query("type", {"enum": list(audit.TYPES)}, "only changes of this type"),
        _query("about", _TEXT, "only changes of this"),
    ]
    return {
        "/v1/audit": {
            "get": _listed("What people and keys changed, newest first", "AuditPage", filters, 422, 503)
        },
    }


def schemas() -> dict[str, Any]:
    """What the answers refer to."""
    change: dict[str, Any] = {name: {"type": "string"} for name in audit.COLUMNS}
    change |= {"time": MOMENT, "accepted": MOMENT}
    change["before"] = nullable("string", description="What held just before, by (time, id); null: nothing")
    change["after"] = nullable("string", description="What holds with it, by (time, id); null: nothing")
    return {"AuditPage": _page(change)}


def _page(row: dict[str, Any]) -> dict[str, Any]:
    return shape({"items": {"type": "array", "items": shape(row)}, "next": nullable("string")})


def _listed(summary: str, page: str, filters: list[dict[str, Any]], *fails: int) -> dict[str, Any]:
    """A list with its own filters and those of every list."""
    parameters = [
        *filters,
        _query("from", MOMENT, "at this instant or later"),
        _query("to", MOMENT, "before this instant"),
        _query("after", {"type": "string"}, "`next` of the page before"),
        _query("format", {"enum": list(pages.FORMATS)}, "csv: the whole list; else `Accept` says"),
        limit(pages.LARGEST_PAGE, pages.PAGE_SIZE) | {"description": "rows of a page; not with CSV"},
    ]
    described = operation(summary, ref(page), parameters, *fails)
    described["responses"]["200"]["content"][pages.CSV] = {"schema": {"type": "string"}}
    return described


def _query(name: str, schema: dict[str, Any], about: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": schema, "description": about}
