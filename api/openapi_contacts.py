"""The description of the routes about contacts, as parts of the OpenAPI document.

Called by `api.openapi`.
"""

from __future__ import annotations

from typing import Any, Final

from api.openapi_shapes import body, idempotency_key, merged, nullable, operation, ref, shape
from schemas import hold, identity

CONTACT_ID: Final = {
    "name": "id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": f"^{identity.CONTACT_ID}$"},
}


_AS_OF: Final = {
    "name": "as_of",
    "in": "query",
    "schema": {"type": "string", "format": "date-time"},
    "description": "A past instant: facts and links dated later are left out, by today's knowledge.",
}
_ID: Final = {"type": "string", "pattern": f"^{identity.CONTACT_ID}$"}
_LEVEL: Final = {"type": "string", "enum": ["refused", "aggregate", "individual"]}
_KIND: Final = {"type": "string", "enum": list(hold.KINDS)}
_TEXT: Final = {"type": "string"}
_TIME: Final = {"type": "string", "format": "date-time"}
_ACTOR: Final = nullable("string", description="Who told it, where that is known")
_WORD: Final = {"source": _TEXT, "id": _TEXT, "time": _TIME, "actor": _ACTOR}
_KEY: Final = idempotency_key("The session's id is made of this, so that the request can be sent again.")
_INTO: Final = nullable("string", description="Whose it is now; null: its own")


def paths() -> dict[str, Any]:
    """Every address, with its methods."""
    into, to = _asked({"into": _ID}), _asked({"contact_id": _ID})
    level = _asked({"level": _LEVEL})
    held = body(
        {
            "type": "object",
            "properties": {"kind": _KIND, "on": {"type": "boolean"}, "email": nullable("string")},
            "required": ["kind", "on"],
            "additionalProperties": False,
        },
        required=True,
    )
    given = nullable("string", pattern=_ID["pattern"], description="null: Heed makes one")
    create = body(
        {"type": "object", "properties": {"session_id": given}, "additionalProperties": False}, required=False
    )
    whole = {"type": "boolean", "description": "Of a merged contact: erase all of the contact it belongs to"}
    why = {"type": "string", "maxLength": 256, "description": "Kept with who asked for it"}
    erase = {"type": "object", "properties": {"why": why, "whole": whole}, "additionalProperties": False}
    return {
        "/v1/contacts/{id}": {
            "get": operation("What is known of a contact", ref("Contact"), [CONTACT_ID], 404, 410, 503),
            "delete": operation("Delete a contact", ref("Deleted"), [CONTACT_ID], 404, 410, 503),
        },
        "/v1/contacts/{id}/restore": _post("Restore a deleted contact", "Deleted"),
        "/v1/contacts/{id}/consent": _post("Record a contact's consent", "Consent", level),
        "/v1/contacts/{id}/erase": {
            "post": operation("Erase all of a contact", ref("Erased"), [CONTACT_ID], 404, 409, 503)
            | body(erase, required=False)
        },
        "/v1/contacts/{id}/hold": {
            "get": operation(
                "What keeps mail from a contact", ref("Holds"), [CONTACT_ID, _AS_OF], 404, 410, 503
            ),
            **_post("Stop mail to a contact or an address, or lift that", "Hold", held),
        },
        "/v1/contacts/{id}/merge": _post("Merge a contact into another", "BelongsTo", into),
        "/v1/contacts/{id}/unmerge": _post(
            "Take back every standing merge of a contact into another", "BelongsTo", into
        ),
        "/v1/sessions": {"post": operation("Create a session", ref("SessionTold"), [_KEY], 503) | create},
        "/v1/sessions/{id}": {
            "get": operation("What is known of a session", ref("Session"), [CONTACT_ID], 404, 410, 503)
        },
        "/v1/sessions/{id}/start": _post("Start a visit in a session", "SessionTold"),
        "/v1/sessions/{id}/link": _post("Link a session to a contact", "SessionOf", to),
        "/v1/sessions/{id}/unlink": _post(
            "Take back every standing link of a session to a contact", "SessionOf", to
        ),
    }


def schemas() -> dict[str, Any]:
    """What the answers refer to."""
    event = shape({"source": _TEXT, "id": _TEXT})
    told = {"type": "array", "items": event, "description": "What was told of it now; an undo names them."}
    link = shape({"subject": _TEXT, "contact_id": _ID, **_WORD})
    consent = shape({"level": _LEVEL, "subject": _TEXT, **_WORD})
    whose = nullable("string", description="Whose it is now; null: nobody's")
    holds = {kind: {"type": "array", "items": ref("Standing")} for kind in hold.KINDS}
    because = {"type": "string", "enum": [str(one) for one in hold.Because]}
    whole = nullable("string", description="The address; null: the contact of `subject`")
    return {
        "BelongsTo": shape({"contact_id": _ID, "merged_into": _INTO, "events": told}),
        "Erased": shape(
            {
                "contact_id": _ID,
                "subjects": {"type": "integer", "description": "How many were erased now, itself included"},
                "events": told,
            }
        ),
        "Deleted": shape({"contact_id": _ID, "deleted": {"type": "boolean"}, "events": told}),
        "Consent": shape({"contact_id": _ID, "level": _LEVEL, "events": told}),
        "Hold": shape({"contact_id": _ID, "kind": _KIND, "on": {"type": "boolean"}, "events": told}),
        "Holds": merged(shape({"contact_id": _ID, **holds})),
        "Standing": shape(
            {"email": whole, "since": _TIME, "because": because, "subject": _TEXT}
            | {"source": _TEXT, "id": _TEXT, "actor": _ACTOR}
        ),
        "Contact": merged(
            shape(
                {
                    "contact_id": _ID,
                    "known": {"type": "boolean", "description": "Whether anything was ever told of it"},
                    "deleted": {"anyOf": [shape(_WORD), {"type": "null"}]},
                    "consent": {"anyOf": [consent, {"type": "null"}], "description": "The one that holds"},
                    "hold": shape(holds),
                    "links": {"type": "array", "items": link},
                    "truncated": {"type": "boolean", "description": "Whether there are more links"},
                }
            )
        ),
        "SessionTold": shape({"session_id": _ID, "events": told}),
        "SessionOf": shape({"session_id": _ID, "contact_id": whose, "events": told}),
        "Session": shape(
            {
                "session_id": _ID,
                "contact_id": whose,
                "created_at": nullable("string", format="date-time"),
                "started_at": nullable("string", format="date-time"),
                "starts": {"type": "integer"},
            }
        ),
    }


def _post(summary: str, answer: str, asked: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"post": operation(summary, ref(answer), [CONTACT_ID], 404, 410, 503) | (asked or {})}


def _asked(properties: dict[str, Any]) -> dict[str, Any]:
    return body(shape(properties) | {"additionalProperties": False}, required=True)
