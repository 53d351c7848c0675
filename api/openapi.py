"""The description of the API, as OpenAPI 3.1: every route, what it takes, what it answers, how it fails.

Promises: the events are described by the same structs that admission decodes, so the two cannot part; every
failure is the one problem shape. A test compares the routes here with those that are served.

Limits: Litestar's own generator is not used: it knows neither raw bodies, nor several media types for one
body, nor the `discriminator` of the event types.

Called by `api.routes`.
"""

from __future__ import annotations

import functools
from typing import Any

import msgspec

from api import (
    auth,
    event_trace,
    openapi_contacts,
    openapi_engagement,
    openapi_events,
    openapi_export,
    openapi_lists,
    openapi_operate,
    openapi_parked,
    openapi_segment,
    problems,
)
from api.openapi_shapes import TEMPLATE, idempotency_key
from api.openapi_shapes import failures as _failures
from api.openapi_shapes import nullable as _nullable
from api.openapi_shapes import operation as _operation
from api.openapi_shapes import ref as _ref
from api.openapi_shapes import shape as _object
from schemas import errors


@functools.cache
def document() -> dict[str, Any]:
    """The whole document; made once."""
    described = _described()
    for (method, path), scope in auth.ROUTES.items():
        if scope != auth.OPEN:
            operation = described["paths"][path][method.lower()]
            operation["security"] = [{"key": [scope]}]
            operation["responses"] |= _failures(401, 403, 429, 503)
    return described


def _described() -> dict[str, Any]:
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
            **openapi_segment.paths(),
            **openapi_engagement.paths(),
            **openapi_contacts.paths(),
            **openapi_export.paths(),
            **openapi_operate.paths(_operation),
            **openapi_parked.paths(_operation),
            **openapi_lists.paths(),
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
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "A key of `heed keys create`"}
            },
        },
    }


def _text(summary: str, media_type: str) -> dict[str, Any]:
    content = {media_type: {"schema": {"type": "string"}}}
    return {
        "summary": summary,
        "responses": {"200": {"description": "Done", "content": content}} | _failures(500),
    }


def _traced() -> list[dict[str, Any]]:
    name = {"type": "string", "minLength": 1, "maxLength": event_trace.LONGEST}
    moment = {"type": "string", "format": "date-time"}
    about = {"description": "About when it was sent, where that is known"}
    return [
        {"name": "id", "in": "path", "required": True, "schema": name},
        {"name": "source", "in": "query", "schema": {**name, "minLength": 0}},
        {"name": "at", "in": "query", "schema": moment} | about,
    ]


def _trace() -> dict[str, Any]:
    _, found = msgspec.json.schema_components([event_trace.STATION], ref_template=TEMPLATE)
    texts = {name: {"type": "string"} for name in ("id", "says")}
    searched = {"type": "array", "items": {"type": "string"}}
    stations = {"type": "array", "items": _ref("Station")}
    told = {**texts, "found": {"type": "boolean"}, "stations": stations, "searched": searched}
    return {"Trace": _object(told), **found}


def _post_events() -> dict[str, Any]:
    event, several = _ref("Event"), {"type": "array", "items": _ref("Event")}
    return {
        "summary": "Send events; answered when the log has them",
        "description": "Binary CloudEvents, with `ce-` headers, are taken too. At most 32 KB an event and "
        "512,000 bytes a request, also inflated (`Content-Encoding: gzip`).",
        "parameters": [
            idempotency_key(
                "Events without an id get one made of this and their place in the request, "
                "so that the request can be sent again."
            )
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
        "Told": _object({"success": {"type": "boolean"}, "outcomes": {"type": "array", "items": outcome}}),
        **openapi_engagement.schemas(),
        **openapi_contacts.schemas(),
        **openapi_export.schemas(),
        **openapi_parked.schemas(TEMPLATE),
        **openapi_lists.schemas(),
        **_trace(),
        "Health": _object({"status": {"type": "string"}}),
        **openapi_events.components(TEMPLATE),
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
