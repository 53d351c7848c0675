"""The description of the lists that are JSON by pages or CSV as a whole, as parts of the OpenAPI document.

Called by `api.openapi`.
"""

from __future__ import annotations

from typing import Any, Final

from api import activity, audit, pages
from api.openapi_contacts import CONTACT_ID
from api.openapi_shapes import limit, nullable, operation, ref, shape
from schemas import identity

MOMENT: Final = {"type": "string", "format": "date-time"}
_TEXT: Final = {"type": "string", "minLength": 1, "maxLength": audit.LONGEST}


def paths() -> dict[str, Any]:
    """Every address, with its methods."""
    filters = [
        _query("actor", _TEXT, "only changes of this actor"),
        _query("type", {"enum": list(audit.TYPES)}, "only changes of this type"),
        _query("about", _TEXT, "only changes of this"),
    ]
    words = [_query(name, {"enum": list(known)}, "only this") for name, known in activity.WORDS.items()]
    words += [
        _query("actor", _TEXT, "only what this actor did"),
        _query("as_of", MOMENT, "as it was at this instant, by today's knowledge"),
    ]
    contact = {"type": "string", "pattern": f"^{identity.CONTACT_ID}$"}
    whose = _query("contact", contact, "only of this contact, and of what belongs to it")
    return {
        "/v1/contacts/{id}/activity": {
            "get": _listed(
                "A contact's timeline, newest first",
                "Timeline",
                [CONTACT_ID, *words],
                404,
                410,
                422,
                503,
            )
        },
        "/v1/activity": {
            "get": _listed("Activities, newest first", "ActivityPage", [whose, *words], 404, 410, 422, 503)
        },
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
    line: dict[str, Any] = {name: {"type": "string"} for name in activity.COLUMNS}
    line |= {name: {"enum": list(known)} for name, known in activity.WORDS.items()}
    line |= {"time": MOMENT, "actor": nullable("string", description="Who did it, where that was told")}
    line["subject"] = {"type": "string", "description": "Whom the event behind it was told of"}
    whose: dict[str, Any] = {"contact_id": {"type": "string"}}
    merged = {"type": "string", "description": "The same, where the contact asked for was merged into it"}
    timeline, activities = _page(line), _page(line)
    timeline["properties"] = whose | {"merged_into": merged} | timeline["properties"]
    timeline["required"] = [*whose, *timeline["required"]]
    activities["properties"] = whose | {"merged_into": merged} | activities["properties"]
    return {"AuditPage": _page(change), "Timeline": timeline, "ActivityPage": activities}


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
