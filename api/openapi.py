"""The description of the API, as OpenAPI 3.1: every route, what it takes, what it answers, how it fails.

Promises: the events are described by the same structs that admission decodes, so the two cannot part; every
failure is the one problem shape. A test compares the routes here with those that are served.

Limits: Litestar's own generator is not used: it knows neither raw bodies, nor several media types for one
body, nor the `discriminator` of the event types.

Called by `api.routes`.
"""

from __future__ import annotations

import functools
from typing import Any, Final

import msgspec

from api import engagement, event_trace, ingest, openapi_events, openapi_operate, operations, problems
from schemas import errors, identity

_TEMPLATE: Final = "#/components/schemas/{name}"
_NUMBERS: Final = ("recency", "frequency", "volume", "volume_last_30")


@functools.cache
def document() -> dict[str, Any]:
    """The whole document; made once."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Heed",
            "version": "1",
            "description": "Events in, engagement out. Errors are RFC 9457 problems; `type` opens here.",
        },
        "paths": {
            "/v1/events": {"post": _post_events()},
            "/v1/events/{id}/trace": {
                "get": _operation("Where an event is, never what it says", _ref("Trace"), _traced(), 503)
            },
            "/v1/contacts/{id}/engagement": {
                "get": _operation(
                    "The engagement of a contact, as of now", _ref("Engagement"), [_CONTACT_ID], 404, 503
                )
            },
            "/v1/contacts/{id}/engagement/calculate": {
                "post": _operation(
                    "Compute a row from the facts and compare it with the stored one",
                    _ref("Calculated"),
                    [_CONTACT_ID],
                    404,
                    503,
                )
            },
            "/v1/engagement/refresh-expired": {
                "post": _operation("Refresh every row that is past its time", _ref("Refreshed"), [], 503)
            },
            **openapi_operate.paths(_operation),
            "/v1/parked": {
                "get": _operation("What was parked, newest first", _ref("ParkedPage"), _page(), 503)
            },
            "/health/live": {"get": _operation("Whether the API runs", _ref("Health"), [])},
            "/health/ready": {
                "get": _operation("Whether all that Heed needs is there", _ref("Health"), [], 503)
            },
            "/metrics": {"get": _text("Metrics, for Prometheus", "text/plain")},
            "/openapi.json": {"get": _operation("This document", {"type": "object"}, [])},
            "/asyncapi.json": {
                "get": _operation("The topics, their messages and keys, as AsyncAPI", {"type": "object"}, [])
            },
            problems.PAGE: {"get": _text("What each problem type means", "text/markdown")},
        },
        "components": {"schemas": _schemas()},
    }


_CONTACT_ID: Final = {
    "name": "id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": f"^{identity.CONTACT_ID}$"},
}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": _TEMPLATE.format(name=name)}


def _operation(
    summary: str, answer: dict[str, Any], parameters: list[dict[str, Any]], *fails: int
) -> dict[str, Any]:
    return {
        "summary": summary,
        "parameters": parameters,
        "responses": {"200": {"description": "Done", "content": {"application/json": {"schema": answer}}}}
        | _failures(400, *fails, 500),
    }


def _text(summary: str, media_type: str) -> dict[str, Any]:
    content = {media_type: {"schema": {"type": "string"}}}
    return {
        "summary": summary,
        "responses": {"200": {"description": "Done", "content": content}} | _failures(500),
    }


def _failures(*statuses: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for status in statuses:
        titles = "; ".join(kind.title for kind in problems.KINDS if kind.status == status)
        found[str(status)] = {
            "description": titles,
            "content": {problems.MEDIA_TYPE: {"schema": _ref("Problem")}},
        }
    return found


def _page() -> list[dict[str, Any]]:
    page = {
        "type": "integer",
        "minimum": 1,
        "maximum": operations.LARGEST_PAGE,
        "default": operations.PAGE_SIZE,
    }
    return [
        {"name": "reason", "in": "query", "schema": _ref("Reason")},
        {
            "name": "after",
            "in": "query",
            "schema": {"type": "integer", "minimum": 0, "maximum": 2**63 - 1},
            "description": "`next` of the page before",
        },
        {"name": "limit", "in": "query", "schema": page},
    ]


def _traced() -> list[dict[str, Any]]:
    name = {"type": "string", "minLength": 1, "maxLength": event_trace.LONGEST}
    moment = {"type": "string", "format": "date-time"}
    about = {"description": "About when it was sent, where that is known"}
    return [
        {"name": "id", "in": "path", "required": True, "schema": name},
        {"name": "source", "in": "query", "schema": name},
        {"name": "at", "in": "query", "schema": moment} | about,
    ]


def _trace() -> dict[str, Any]:
    _, found = msgspec.json.schema_components([event_trace.STATION], ref_template=_TEMPLATE)
    texts = {name: {"type": "string"} for name in ("id", "says")}
    searched = {"type": "array", "items": {"type": "string"}}
    stations = {"type": "array", "items": _ref("Station")}
    told = {**texts, "found": {"type": "boolean"}, "stations": stations, "searched": searched}
    return {"Trace": _object(told), **found}


def _post_events() -> dict[str, Any]:
    event, several = _ref("Event"), {"type": "array", "items": _ref("Event")}
    key = {"type": "string", "maxLength": ingest.MAX_KEY_CHARACTERS, "pattern": "^[!-~]([ -~]*[!-~])?$"}
    return {
        "summary": "Send events; answered when the log has them",
        "description": "Binary CloudEvents, with `ce-` headers, are taken too. At most 32 KB an event and "
        "512,000 bytes a request, also inflated (`Content-Encoding: gzip`).",
        "parameters": [
            {
                "name": "Idempotency-Key",
                "in": "header",
                "schema": key,
                "description": "Events without an id get one made of this and their place in the request, "
                "so that the request can be sent again.",
            }
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/cloudevents+json": {"schema": event},
                "application/cloudevents-batch+json": {"schema": several},
                "application/json": {"schema": {"anyOf": [event, several]}},
            },
        },
        "responses": {
            "202": {
                "description": "What became of each event, in the order sent",
                "content": {"application/json": {"schema": _ref("Outcomes")}},
            }
        }
        | _failures(400, 413, 415, 429, 500, 503),
    }


def _schemas() -> dict[str, Any]:
    outcome = _object(
        {
            "id": _nullable("string"),
            "status": {"enum": ["accepted", "parked", "refused"]},
            "reason": {"anyOf": [_ref("Reason"), {"type": "null"}]},
            "detail": _nullable("string"),
        }
    )
    return {
        "Problem": _problem(),
        "Reason": {"enum": [str(reason) for reason in errors.Reason]},
        "Outcomes": _object({"outcomes": {"type": "array", "items": outcome}}),
        "Engagement": _object(_columns(engagement.ROW)),
        "Calculated": _object(
            {"id": {"type": "string"}, **_columns(engagement.ROW), "differs": {"type": "boolean"}}
            | {"stored": {"anyOf": [_object(_columns(engagement.STORED)), {"type": "null"}]}}
        ),
        "Refreshed": _object({"refreshed": {"type": "integer", "minimum": 0}}),
        "ParkedPage": _object({"items": {"type": "array", "items": _parked()}, "next": _nullable("string")}),
        **_trace(),
        "Health": _object({"status": {"type": "string"}}),
        **openapi_events.components(_TEMPLATE),
        **openapi_operate.schemas(),
    }


def _problem() -> dict[str, Any]:
    shape = _object(
        {
            "type": {"enum": [kind.uri for kind in problems.KINDS]},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
        }
    )
    shape["properties"]["outcomes"] = {"type": "array", "description": "Of `nothing-taken`: as in a 202"}
    shape["properties"]["refreshed"] = {
        "type": "integer",
        "description": "Of `workers-behind`: how many are done",
    }
    return shape


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _nullable(kind: str, **more: str) -> dict[str, Any]:
    return {"type": [kind, "null"], **more}


def _columns(names: tuple[str, ...]) -> dict[str, Any]:
    """The columns of a row by their names: dates may be null, and so may every number without a row."""
    found: dict[str, Any] = {}
    for name in names:
        if name == "contact_id":
            found[name] = {"type": "string"}
        elif name == "period_months":
            found[name] = {"type": "integer"}
        elif name in _NUMBERS:
            found[name] = _nullable("integer")
        else:
            found[name] = _nullable("string", format="date-time")
    return found


def _parked() -> dict[str, Any]:
    texts = {name: _nullable("string") for name in ("type", "source", "event_id", "door")}
    return _object(
        {"id": {"type": "integer"}, "reason": _ref("Reason"), "detail": {"type": "string"}, **texts}
        | {"topic": {"type": "string"}, "partition": {"type": "integer"}, "offset": {"type": "integer"}}
        | {
            "event_time": _nullable("string", format="date-time"),
            "parked_at": _nullable("string", format="date-time"),
        }
    )
