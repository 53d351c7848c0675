"""The description of the routes of parked records.

Called by: `api.openapi`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, get_args

import msgspec

from api import parked

Operation = Callable[..., dict[str, Any]]

MOMENT: Final = {"type": "string", "format": "date-time"}


def paths(operation: Operation) -> dict[str, Any]:
    """The routes, by address; `operation` makes one, as `api.openapi` makes all others."""
    after = _query("after", {"type": "string"}, "`next` of the page before")
    return {
        "/v1/parked": {
            "get": operation(
                "What was parked, newest first",
                _ref("ParkedPage"),
                [*_filters(), after, _limit()],
                503,
            )
        },
        "/v1/parked/overview": {
            "get": operation(
                "How many are parked, of which reason, type and door, and since when: the largest groups",
                _ref("ParkedOverview"),
                [*_filters(), _limit()],
                503,
            )
        },
        "/v1/parked/{id}": {
            "get": operation("One parked record, with its bytes", _ref("ParkedRecord"), [_ID], 404, 503)
        },
        "/v1/parked/redrive": {"post": _walk(operation, "Drive parked records again", "Redriven")},
        "/v1/parked/discard": {"post": _walk(operation, "Discard parked records", "Discarded")},
    }


def schemas(template: str) -> dict[str, Any]:
    """The shapes that they take and answer with."""
    group = {name: _nullable("string") for name in ("type", "door")}
    group |= {"reason": _ref("Reason"), "topic": {"type": "string"}}
    group |= {"count": {"type": "integer"}, "oldest": MOMENT, "newest": MOMENT}
    counts = {"total": {"type": "integer"}, "groups": {"type": "integer"}}
    raw = {"type": "string", "contentEncoding": "base64"}
    return {
        "ParkedPage": _object(
            {
                "items": {"type": "array", "items": _object(_record())},
                "next": _nullable("string"),
            }
        ),
        "ParkedOverview": _object(counts | {"items": {"type": "array", "items": _object(group)}}),
        "ParkedRecord": _object(
            _record() | {"batch": {"type": "boolean"}, "bytes": raw, "text": _nullable("string")}
        ),
        "ParkedWanted": _wanted(template),
        "Redriven": _report("driven"),
        "Discarded": _report("discarded"),
    }


_ID: Final = {
    "name": "id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": "^[0-9]{1,18}$"},
}


def _query(name: str, schema: dict[str, Any], about: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": schema, "description": about}


def _filters() -> list[dict[str, Any]]:
    return [
        _query("reason", _ref("Reason"), "only this reason"),
        _query("type", {"type": "string", "minLength": 1, "maxLength": 256}, "only this event type"),
        _query("door", {"enum": list(get_args(parked.Door))}, "only what came by this door"),
        _query("topic", {"enum": list(get_args(parked.Topic))}, "only what stands on this topic"),
        _query("parked_since", MOMENT, "parked at this instant or later"),
        _query("parked_before", MOMENT, "parked before this instant"),
    ]


def _limit() -> dict[str, Any]:
    limits = {"minimum": 1, "maximum": parked.LARGEST_PAGE, "default": parked.PAGE_SIZE}
    return _query("limit", {"type": "integer", **limits}, "how many at the most")


def _walk(operation: Operation, summary: str, answer: str) -> dict[str, Any]:
    body = {"required": True, "content": {"application/json": {"schema": _ref("ParkedWanted")}}}
    return operation(summary, _ref(answer), [], 413, 429, 503) | {"requestBody": body}


def _wanted(template: str) -> dict[str, Any]:
    _, found = msgspec.json.schema_components([parked.Wanted], ref_template=template)
    wanted: dict[str, Any] = found["Wanted"]
    wanted["properties"]["reason"] = {"anyOf": [_ref("Reason"), {"type": "null"}]}
    return wanted | {"title": "ParkedWanted", "description": (parked.Wanted.__doc__ or "").strip()}


def _report(done: str) -> dict[str, Any]:
    outcome = _object(
        {
            "id": {"type": "integer"},
            "status": {"enum": [done, "parked", "gone"]},
            "reason": {"anyOf": [_ref("Reason"), {"type": "null"}]},
            "detail": _nullable("string"),
        }
    )
    counts = {status: {"type": "integer"} for status in (done, "parked", "gone")}
    more = {"next": _nullable("string"), "outcomes": {"type": "array", "items": outcome}}
    return _object(counts | more)


def _record() -> dict[str, Any]:
    texts = {name: _nullable("string") for name in ("type", "source", "event_id", "door")}
    return {
        "id": {"type": "integer"}, "reason": _ref("Reason"), "detail": {"type": "string"}, **texts,
        "topic": {"type": "string"}, "partition": {"type": "integer"}, "offset": {"type": "integer"},
        "event_time": _nullable("string", format="date-time"), "parked_at": MOMENT,
    }  # fmt: skip


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _nullable(kind: str, **more: str) -> dict[str, Any]:
    return {"type": [kind, "null"], **more}
