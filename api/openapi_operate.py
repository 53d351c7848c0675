"""The part of the OpenAPI document about operating Heed: settings, the queue, schedules.

Called by `api.openapi`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from api import auth, recalculation
from api.openapi_shapes import body
from schemas import settings

_TIME: Final = {"type": ["string", "null"], "format": "date-time"}
_TEXT: Final = {"type": ["string", "null"]}
_COUNT: Final = {"type": "integer", "minimum": 0}
_ID: Final = {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}
_NAME: Final = {
    "name": "name",
    "in": "path",
    "required": True,
    "schema": {"enum": list(settings.CHANGING)},
}


Operation = Callable[..., dict[str, Any]]


def paths(operation: Operation) -> dict[str, Any]:
    """The routes, by address; `operation` makes one, as `api.openapi` makes all others."""
    run = {
        "type": "object",
        "properties": {
            "max_seconds": {
                "type": "number",
                "minimum": 0,
                "maximum": recalculation.LONGEST_SECONDS,
                "default": 600,
            }
        },
        "additionalProperties": False,
    }
    change = {
        "type": "object",
        "properties": {"value": {"type": ["integer", "boolean", "string"]}},
        "required": ["value"],
        "additionalProperties": False,
    }
    create = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[ -~]*$"},
            "scopes": {"type": "array", "items": {"enum": list(auth.SCOPES)}, "minItems": 1, "maxItems": 4},
        },
        "required": ["name", "scopes"],
        "additionalProperties": False,
    }
    setting, ran, shown = _ref("Setting"), _ref("Ran"), _ref("Schedules")
    queue = operation("Work off the queue of those who wait", ran, [], 503)
    put = operation("Change a setting; answered when it is in force", setting, [_NAME], 404, 503)
    return {
        "/v1/engagement/run-queue": {"post": queue | body(run, required=False)},
        "/v1/settings/{name}": {
            "get": operation("A setting as it holds", setting, [_NAME], 404, 503),
            "put": put | body(change, required=True),
        },
        "/v1/keys": {
            "get": operation("Every key, never its secret", _ref("Keys"), [], 503),
            "post": operation(
                "Make a key; its secret is in this answer and nowhere else", _ref("NewKey"), [], 503
            )
            | body(create, required=True),
        },
        "/v1/keys/{id}/revoke": {"post": operation("Take a key no more", _ref("Key"), [_ID], 404, 503)},
        "/v1/keys/{id}/rotate": {
            "post": operation(
                "Make another key like it; the old one goes on", _ref("NewKey"), [_ID], 404, 503
            )
        },
        "/v1/schedules": {"get": operation("When schedules fired last and fire next", shown, [], 503)},
    }


def schemas() -> dict[str, Any]:
    """The shapes they answer with."""
    progress = _object(
        {"done": {"type": "boolean"}, "waiting": _COUNT, "failed": _COUNT, "filling": {"type": "boolean"}}
    )
    outcome = _object(
        {"contact_id": {"type": "string"}, "status": {"enum": ["done", "failed"]}}
        | {"reason": {"type": "string"}, "since": _TIME, "detail": _TEXT}
    )
    key = {
        "id": {"type": "string"}, "name": {"type": "string"},
        "scopes": {"type": "array", "items": {"enum": list(auth.SCOPES)}},
        "created_at": _TIME, "created_by": _TEXT, "revoked_at": _TIME, "revoked_by": _TEXT,
    }  # fmt: skip
    schedule = _object(
        {"name": {"type": "string"}, "cron": _TEXT, "last_slot": _TIME, "fired_at": _TIME, "ended_at": _TIME}
        | {"outcome": _TEXT, "owner": _TEXT, "next_slot": _TIME}
    )
    return {
        "Setting": _object(
            {"name": {"enum": list(settings.CHANGING)}, "value": {"type": ["integer", "boolean", "string"]}}
            | {"since": _TIME, "actor": _TEXT, "progress": {"anyOf": [progress, {"type": "null"}]}}
        ),
        "Ran": _object(
            {"done": _COUNT, "failed": _COUNT, "remaining": _COUNT}
            | {"outcomes": {"type": "array", "items": outcome, "maxItems": 10_000}}
        ),
        "Key": _object(key),
        "NewKey": _object({**key, "key": {"type": "string"}}),
        "Keys": _object({"items": {"type": "array", "items": _ref("Key")}, "next": {"type": "null"}}),
        "Schedules": _object({"items": {"type": "array", "items": schedule}, "next": {"type": "null"}}),
    }


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}
