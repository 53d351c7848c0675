"""What schemathesis asks beside its own checks: is each event answered as the description of the API says?

Promises: an event of `POST /v1/events` is refused exactly when it does not fit the schema of `Event` in
/openapi.json, or merges a contact into itself. So a list in which one event is ill-formed is judged event by
event, which schemathesis, that knows of right and wrong requests only, cannot.
Limits: NUL and sizes are no matter of a schema, and are not sent here.
Loaded by schemathesis (`SCHEMATHESIS_HOOKS`), which tests/integration/test_described.py runs.
"""

from __future__ import annotations

import functools
import json
from datetime import UTC, datetime
from typing import Any

import jsonschema
import schemathesis

from api import openapi

EVENTS = "/v1/events"


@schemathesis.check
def each_event_is_answered_as_described(
    ctx: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case[Any]
) -> None:
    """Fails when an event that fits was refused, or one that does not was taken."""
    if case.operation.path != EVENTS or case.method.upper() != "POST":
        return
    outcomes = response.json().get("outcomes") if response.status_code in (202, 400) else None
    sent = response.request.body
    if outcomes is None or not isinstance(sent, bytes | str):
        return
    items = _items(sent, case.media_type)
    if items is None:
        assert {one["status"] for one in outcomes} == {"refused"}, f"{sent!r}: {outcomes}"
        return
    assert len(items) == len(outcomes), "an outcome for each event"
    for item, outcome in zip(items, outcomes, strict=True):
        if _names_an_identifier(item):
            continue
        fits = validator().is_valid(item) and not _into_itself(item)
        assert fits == (outcome["status"] != "refused"), f"fits: {fits}, answered: {outcome}, sent: {item}"


def _items(sent: bytes | str, media_type: str | None) -> list[Any] | None:
    """The events of a body; None where it is not what its media type says."""
    try:
        body = json.loads(sent)
    except ValueError:
        return None
    if media_type == "application/cloudevents-batch+json":
        return body if isinstance(body, list) else None
    return body if isinstance(body, list) and media_type == "application/json" else [body]


def _into_itself(event: Any) -> bool:
    """What a schema cannot say: a contact is merged into another."""
    if not isinstance(event, dict) or event.get("type") != "contact.merged":
        return False
    data = event.get("data")
    return isinstance(data, dict) and f"contact:{data.get('into')}" == event.get("subject")


def _names_an_identifier(event: Any) -> bool:
    """What a schema cannot say either: what an address or a number is."""
    if not isinstance(event, dict):
        return False
    data, subject = event.get("data"), event.get("subject")
    about = isinstance(subject, str) and subject.startswith(("email:", "phone:", "custom:"))
    lists = ("identifiers", "emails", "phones", "custom_ids", "primary_email", "attributes")
    return about or (isinstance(data, dict) and any(data.get(name) is not None for name in lists))


@functools.cache
def validator() -> Any:
    """The schema of an event, as the API describes it; a `date-time` is a day that exists."""
    components = openapi.document()["components"]
    formats = jsonschema.FormatChecker(())
    formats.checks("date-time", raises=(ValueError, OverflowError))(_exists)
    return jsonschema.Draft202012Validator(
        {"components": components, "$ref": "#/components/schemas/Event"}, format_checker=formats
    )


def _exists(text: object) -> bool:
    return not isinstance(text, str) or bool(datetime.fromisoformat(text.upper()).astimezone(UTC))
