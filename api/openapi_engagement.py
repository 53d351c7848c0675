"""The description of the routes about engagement, as parts of the OpenAPI document.

Called by `api.openapi`.
"""

from __future__ import annotations

from typing import Any, Final

from api import engagement, engagement_list, explain
from api.openapi_contacts import CONTACT_ID
from api.openapi_shapes import limit, merged, nullable, operation, ref, shape
from schemas import identity

_NUMBERS: Final = ("recency", "frequency", "volume", "volume_last_30")
_AS_OF: Final = {
    "name": "as_of",
    "in": "query",
    "schema": {"type": "string", "format": "date-time"},
    "description": "A past instant, cut to the millisecond: windows end there, facts dated later and later "
    "rules are left out, by today's knowledge. Absent: now, with facts up to 5 minutes ahead.",
}


def paths() -> dict[str, Any]:
    """Every address, with its methods."""
    return {
        "/v1/contacts/{id}/engagement": {
            "get": operation(
                "The engagement of a contact, now or as of a past instant",
                ref("Engagement"),
                [CONTACT_ID, _AS_OF],
                404,
                410,
                503,
            )
        },
        "/v1/contacts/{id}/engagement/explain": {
            "get": operation(
                "The facts behind each number and date",
                ref("Explained"),
                [CONTACT_ID, _AS_OF, limit(explain.LARGEST, explain.MOST)],
                404,
                410,
                422,
                503,
            )
        },
        "/v1/contacts/{id}/engagement/calculate": {
            "post": operation(
                "Compute a row from the facts and compare it with the stored one",
                ref("Calculated"),
                [CONTACT_ID],
                404,
                410,
                503,
            )
        },
        "/v1/engagement": {
            "get": operation(
                "Contacts by their engagement, filtered and sorted, page by page",
                ref("EngagementPage"),
                _list_parameters(),
                422,
                503,
            )
        },
        "/v1/engagement/refresh-expired": {
            "post": operation("Refresh every row that is past its time", ref("Refreshed"), [], 503)
        },
    }


def schemas() -> dict[str, Any]:
    """What the answers refer to."""
    return {
        "Engagement": merged(shape(_columns(engagement.ROW))),
        "Calculated": merged(
            shape(
                {"id": {"type": "string"}, **_columns(engagement.ROW), "differs": {"type": "boolean"}}
                | {"stored": {"anyOf": [shape(_columns(engagement.STORED)), {"type": "null"}]}}
                | {
                    "mended": nullable(
                        "boolean", description="Null without a difference; whether its owner has"
                    )
                }
            )
        ),
        "Explained": merged(_explained()),
        "EngagementPage": shape(
            {"items": {"type": "array", "items": ref("Engagement")}, "next": nullable("string")}
        ),
        "Refreshed": shape({"refreshed": {"type": "integer", "minimum": 0}}),
    }


def _list_parameters() -> list[dict[str, Any]]:
    """A filter for each column and comparison, the order, and the page."""
    number = {"type": "integer", "minimum": 0, "maximum": engagement_list.LARGEST_NUMBER}
    kinds: dict[str, dict[str, Any]] = {
        "contact_id": {"type": "string", "pattern": f"^{identity.CONTACT_ID}$"},
        "recency": number | {"maximum": engagement_list.LARGEST_RECENCY},
        **{column: {"type": "string", "format": "date-time"} for column in engagement_list.DATES},
        **dict.fromkeys(engagement_list.NUMBERS, number),
    }
    filters = [
        {"name": column + suffix, "in": "query", "schema": kinds[column]}
        for column in engagement_list.COLUMNS
        for suffix in engagement_list.COMPARE
    ]
    sorts = [sign + column for column in engagement_list.COLUMNS for sign in ("", "-")]
    return [
        *filters,
        {
            "name": "sort",
            "in": "query",
            "schema": {"enum": sorts, "default": "contact_id"},
            "description": "A column, with - before it falling; equals stand in the order of contact_id. "
            "recency sorts by the click itself.",
        },
        {
            "name": "after",
            "in": "query",
            "schema": {"type": "string"},
            "description": "`next` of the page before, with the same sort",
        },
        limit(engagement_list.LARGEST_PAGE, engagement_list.PAGE_SIZE),
    ]


def _explained() -> dict[str, Any]:
    fact = shape({name: {"type": "string"} for name in explain.FACT})
    fact["properties"]["time"]["format"] = "date-time"
    facts = {"type": "array", "items": fact}
    together = {
        "type": "object",
        "propertyNames": {"enum": list(explain.FIELDS)},
        "additionalProperties": {"type": "array", "items": facts},
        "description": "What several facts say alike hangs on none of them alone: all of a list taken away "
        "change the value, and fewer do not.",
    }
    explained = shape(
        {"contact_id": {"type": "string"}, "date_calculated": {"type": "string", "format": "date-time"}}
        | dict.fromkeys(explain.FIELDS, facts)
        | {"together": together, "truncated": {"type": "boolean"}}
    )
    explained["description"] = (
        "Under each field the facts on each of which its value hangs: one of them taken away changes it, any "
        "other fact does not. `truncated`: some field has more facts than `limit`."
    )
    return explained


def _columns(names: tuple[str, ...]) -> dict[str, Any]:
    """The columns of a row by their names: dates may be null, and so may every number without a row."""
    found: dict[str, Any] = {}
    for name in names:
        if name == "contact_id":
            found[name] = {"type": "string"}
        elif name == "period_months":
            found[name] = {"type": "integer"}
        elif name in _NUMBERS:
            found[name] = nullable("integer")
        else:
            found[name] = nullable("string", format="date-time")
    return found
