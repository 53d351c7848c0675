"""What has to become of an event, judged from its bytes by the published schemas and docs/events.md.

Promises: exact. TAKEN goes on the log; WAITS is parked, by HTTP too (no subject yet, or ahead of its time);
REFUSED is parked at a door and refused by HTTP. Uses Python's json, jsonschema and the committed files; none
of admission's code.
Limits: events dated within a minute of the limit ahead are not sent. At a door `id` and `time` are required.
Called by the fuzz tests.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, NoReturn
from uuid import UUID

import jsonschema

from tests.fuzz import identifiers

SCHEMAS = Path(__file__).parent.parent.parent / "docs" / "schemas"
MAIL = "email-activity"
SITE = "custom-events"
IDENTITY = "contact-identity"
MAX_BYTES = 32_768
MAX_DEPTH = 32
AHEAD = timedelta(seconds=300)
STRING = re.compile(r'"(?:[^"\\]|\\.)*"?', re.DOTALL)
SUBJECT = re.compile(r"(contact|session):[A-Za-z0-9_.~-]{1,64}", re.ASCII)
IDENTIFIERS = ("email:", "phone:", "custom:")
BY_IDENTIFIER = ("mail.", "page.", "custom.", "identifier.")  # types that can be told of one
# Attributes that may be null: then they are absent.
OPTIONAL = ("subject", "dataschema", "traceparent", "data", "datacontenttype")
OF_HTTP = ("id", "time")


class Verdict(StrEnum):
    TAKEN = "taken"
    WAITS = "waits"
    REFUSED = "refused"


def judge(raw: bytes, now: datetime, door: str | None) -> Verdict:
    """What has to become of the bytes of one event; `door` None is HTTP."""
    event = _parsed(raw)
    if event is None or not isinstance(event.get("type"), str):
        return Verdict.REFUSED
    validator = _validators().get(event["type"])
    if validator is None or (door is not None and door != _door(event["type"])):
        return Verdict.REFUSED
    event = {name: value for name, value in event.items() if value is not None or name not in OPTIONAL}
    event.pop("datacontenttype", None)
    if door is None:
        event = _filled(event, now)
    subject = event.setdefault("subject", "")
    if not isinstance(subject, str) or not isinstance(event.get("traceparent", ""), str):
        return Verdict.REFUSED
    known = subject.startswith(IDENTIFIERS)
    if known and not (identifiers.is_one(subject) and event["type"].startswith(BY_IDENTIFIER)):
        return Verdict.REFUSED
    homeless = not known and not subject.startswith(("contact:", "session:"))
    if homeless or known:
        event["subject"] = _stand_in(event["type"])
    if not validator.is_valid(event) or not _storable(event, validator.schema):
        return Verdict.REFUSED
    if not known and event["type"] != "identifier.unlinked" and SUBJECT.fullmatch(event["subject"]) is None:
        return Verdict.REFUSED
    if event["type"] == "contact.identified" and not identifiers.are_all(event.get("data") or {}):
        return Verdict.REFUSED
    if (
        event["type"] == "contact.merged"
        and event["subject"] == f"contact:{event['data']['into']}"
        and not homeless
    ):
        return Verdict.REFUSED
    try:
        time = datetime.fromisoformat(event["time"].upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        return Verdict.REFUSED
    return Verdict.WAITS if homeless or time > now + AHEAD else Verdict.TAKEN


def _stand_in(kind: str) -> str:
    """A subject that fits a type."""
    if kind == "identifier.unlinked":
        return "custom:x"
    return "session:x" if kind.startswith("session.") else "contact:x"


def _parsed(raw: bytes) -> dict[str, Any] | None:
    """The event as JSON has it; None for what is no JSON object, too large or too deep."""
    if len(raw) > MAX_BYTES:
        return None
    try:
        text = raw.decode()
        if _depth(text) > MAX_DEPTH:
            return None
        found = json.loads(text, parse_constant=_no_constant, parse_int=_integer)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _depth(text: str) -> int:
    now = deepest = 0
    for sign in STRING.sub("", text):
        if sign in "[{":
            now += 1
            deepest = max(deepest, now)
        elif sign in "]}":
            now -= 1
    return deepest


def _filled(event: dict[str, Any], now: datetime) -> dict[str, Any]:
    """What HTTP fills in: an id, and the time that a UUIDv7 carries, or now."""
    event = {name: value for name, value in event.items() if value is not None or name not in OF_HTTP}
    event.setdefault("id", "made")
    event.setdefault("time", (_told(event["id"]) or now).isoformat())
    return event


def _told(id: Any) -> datetime | None:
    if not isinstance(id, str) or not re.fullmatch(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", id):
        return None
    found = UUID(id)
    if found.version != 7:
        return None
    try:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=found.int >> 80)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)


def _storable(event: dict[str, Any], schema: dict[str, Any]) -> bool:
    """Whether what is kept of it holds neither NUL nor half of a surrogate pair."""
    kept = _declared(event.get("data") or {}, {"$ref": f"#/$defs/{event['type']}"}, schema["$defs"])
    return not any(re.search("[\0\ud800-\udfff]", one) for one in [event["id"], event["source"], *kept])


def _declared(value: Any, schema: dict[str, Any], known: dict[str, Any]) -> Iterator[str]:
    """The texts in what is declared, however deep; what is not is ignored, and may hold anything."""
    schema = known[schema["$ref"].removeprefix("#/$defs/")] if "$ref" in schema else schema
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _declared(item, schema.get("items", {}), known)
    elif isinstance(value, dict):
        for name, one in schema.get("properties", {}).items():
            if name in value:
                yield from _declared(value[name], one, known)
        if "additionalProperties" in schema or "patternProperties" in schema or "propertyNames" in schema:
            yield from (one for pair in value.items() for one in pair if isinstance(one, str))


@functools.cache
def _validators() -> dict[str, Any]:
    read = [json.loads(path.read_bytes()) for path in SCHEMAS.glob("*.json")]
    return {one["title"]: jsonschema.Draft202012Validator(one) for one in read}


def _door(kind: str) -> str:
    return {"mail": MAIL, "page": SITE}.get(kind.partition(".")[0], IDENTITY)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _integer(text: str) -> float:
    return int(text) if len(text) < 400 else float("inf")
