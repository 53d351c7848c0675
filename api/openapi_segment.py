"""The description of Segment's routes, as parts of the OpenAPI document.

Limits: what depends on the kind of a message, and what its properties and traits hold, is left to
`schemas.segment`.
Called by `api.openapi`.
"""

from __future__ import annotations

from typing import Any, Final

from api.openapi_shapes import body, failures, idempotency_key, ref
from schemas import identity

_ID: Final = {
    "anyOf": [
        {"type": "string", "pattern": f"^(?:{identity.CONTACT_ID})?$"},
        {"type": ["integer", "null"]},
    ]
}
_TEXT: Final = {"type": ["string", "null"]}
_MOMENT: Final = {"type": ["string", "null"], "format": "date-time"}
_OBJECT: Final = {"type": ["object", "null"]}
_MEMBERS: Final = {
    "messageId": {"type": ["string", "null"], "minLength": 1, "maxLength": 256},
    "userId": _ID,
    "anonymousId": _ID,
    "timestamp": _MOMENT,
    "sentAt": _MOMENT,
    "context": _OBJECT,
}
_KINDS: Final[dict[str, tuple[dict[str, Any], tuple[str, ...]]]] = {
    "track": ({"event": {"type": "string", "minLength": 1}, "properties": _OBJECT}, ("event",)),
    "page": ({"name": _TEXT, "properties": _OBJECT}, ("properties",)),
    "identify": ({"traits": _OBJECT}, ()),
    "alias": ({"previousId": _ID}, ("userId", "previousId")),
}
_SUMMARY: Final = "Segment's {}, as its clients send it; answered when the log has it"


def paths() -> dict[str, Any]:
    """Their addresses."""
    found = {
        f"/v1/{kind}": _post(_SUMMARY.format(kind), _message(members, required))
        for kind, (members, required) in _KINDS.items()
    }
    kinds: list[dict[str, Any]] = []
    for kind, (members, required) in _KINDS.items():
        one = _message(members, ("type", *required))
        one["properties"]["type"] = {"const": kind}
        kinds.append(one)
    batch = {"batch": {"type": "array", "items": {"anyOf": kinds}}, "sentAt": _MOMENT}
    whole = {"type": "object", "properties": batch, "required": ["batch"]}
    return {**found, "/v1/batch": _post(_SUMMARY.format("batch"), whole)}


def _message(members: dict[str, Any], required: tuple[str, ...]) -> dict[str, Any]:
    return {"type": "object", "properties": {**_MEMBERS, **members}, "required": list(required)}


def _post(summary: str, schema: dict[str, Any]) -> dict[str, Any]:
    answer = {
        "description": "What became of each message",
        "content": {"application/json": {"schema": ref("Told")}},
    }
    told = "At most 32 KB a message and 512,000 bytes a request, also inflated (`Content-Encoding: gzip`)."
    key = idempotency_key("Messages without a messageId get one made of this and their place in the request.")
    return {
        "post": {
            "summary": summary,
            "description": told,
            "parameters": [key],
            **body(schema, required=True),
            "responses": {"200": answer} | failures(400, 413, 415, 429, 500, 503),
        }
    }
