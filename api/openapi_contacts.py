"""The description of the routes about contacts, as parts of the OpenAPI document.

Called by `api.openapi`.
"""

from __future__ import annotations

from typing import Any, Final

from api.openapi_shapes import body, nullable, operation, ref, shape
from schemas import identity

CONTACT_ID: Final = {
    "name": "id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": f"^{identity.CONTACT_ID}$"},
}


def paths() -> dict[str, Any]:
    """Every address, with its methods."""
    merge = operation("Merge a contact into another", ref("BelongsTo"), [CONTACT_ID], 404, 503)
    unmerge = operation(
        "Take back every standing merge of a contact into another", ref("BelongsTo"), [CONTACT_ID], 404, 503
    )
    into = shape({"into": {"type": "string", "pattern": f"^{identity.CONTACT_ID}$"}})
    asked = body(into | {"additionalProperties": False}, required=True)
    return {
        "/v1/contacts/{id}/merge": {"post": merge | asked},
        "/v1/contacts/{id}/unmerge": {"post": unmerge | asked},
    }


def schemas() -> dict[str, Any]:
    """What the answers refer to."""
    event = shape({"source": {"type": "string"}, "id": {"type": "string"}})
    told = {"type": "array", "items": event, "description": "What was told of it now; an undo names them."}
    into = nullable("string", description="Whose it is now; null: its own")
    return {"BelongsTo": shape({"contact_id": {"type": "string"}, "merged_into": into, "events": told})}
