"""The shapes of the API's description: an operation, its failures, an object, a reference.

Called by `api.openapi` and `api.openapi_engagement`.
"""

from __future__ import annotations

from typing import Any, Final

from api import ingest, problems

TEMPLATE: Final = "#/components/schemas/{name}"


def ref(name: str) -> dict[str, str]:
    return {"$ref": TEMPLATE.format(name=name)}


def operation(
    summary: str, answer: dict[str, Any], parameters: list[dict[str, Any]], *fails: int
) -> dict[str, Any]:
    return {
        "summary": summary,
        "parameters": parameters,
        "responses": {"200": {"description": "Done", "content": {"application/json": {"schema": answer}}}}
        | failures(400, *fails, 500),
    }


def body(schema: dict[str, Any], *, required: bool) -> dict[str, Any]:
    return {"requestBody": {"required": required, "content": {"application/json": {"schema": schema}}}}


def failures(*statuses: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for status in statuses:
        titles = "; ".join(kind.title for kind in problems.KINDS if kind.status == status)
        found[str(status)] = {
            "description": titles,
            "content": {problems.MEDIA_TYPE: {"schema": ref("Problem")}},
        }
    return found


def limit(most: int, default: int) -> dict[str, Any]:
    bounds = {"type": "integer", "minimum": 1, "maximum": most, "default": default}
    return {"name": "limit", "in": "query", "schema": bounds}


def shape(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def idempotency_key(description: str) -> dict[str, Any]:
    key = {"type": "string", "maxLength": ingest.MAX_KEY_CHARACTERS, "pattern": "^[!-~]([ -~]*[!-~])?$"}
    return {"name": "Idempotency-Key", "in": "header", "schema": key, "description": description}


def merged(answer: dict[str, Any]) -> dict[str, Any]:
    """The same answer, about the contact that the one asked for was merged into."""
    about = "The contact that this is about, where the one asked for was merged into it; else absent."
    answer["properties"]["merged_into"] = {"type": "string", "description": about}
    return answer


def nullable(kind: str, **more: str) -> dict[str, Any]:
    return {"type": [kind, "null"], **more}
