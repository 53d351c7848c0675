"""The description of the export of a contact, as parts of the OpenAPI document.

Called by `api.openapi`.
"""

from __future__ import annotations

from typing import Any, Final

from api.openapi_contacts import CONTACT_ID
from api.openapi_shapes import nullable, operation, ref, shape

_TEXT: Final = {"type": "string"}
_MOMENT: Final = {"type": "string", "format": "date-time"}
_ANY: Final = {"type": "array", "items": {"type": "object"}}


def paths() -> dict[str, Any]:
    """Its address."""
    summary = "Everything held about a contact, with what is sealed opened"
    return {
        "/v1/contacts/{id}/export": {
            "get": operation(summary, ref("Export"), [CONTACT_ID], 404, 410, 500, 503)
        }
    }


def schemas() -> dict[str, Any]:
    """What the answer refers to."""
    fact = shape(
        {
            "subject": _TEXT,
            "source": _TEXT,
            "id": _TEXT,
            "type": _TEXT,
            "time": _MOMENT,
            "version": {"type": "integer"},
            "accepted": _MOMENT,
            "actor": nullable("string", description="Who told it, where that is known"),
            "data": {"type": "object"},
        }
    )
    fact["properties"]["erased"] = {"const": True, "description": "Its key was destroyed: open fields only."}
    return {
        "Export": shape(
            {
                "contact_id": _TEXT,
                "merged_into": nullable("string", description="Whose it is now; null: its own"),
                "subjects": {"type": "array", "items": _TEXT},
                "row": nullable("object"),
                "links": _ANY,
                "nudges": _ANY,
                "parked": _ANY,
                "facts": {"type": "array", "items": fact},
            }
        )
    }
