"""The JSON Schema of every event type, for producers, made from the structs that admission decodes with.

`python -m deploy.contracts` writes docs/schemas/<type>.<version>.json; with `--check` it writes nothing and
exits 1 when a file is not what it would write. Files of older versions are left as they are: they describe
what producers may still send.
Limits: a schema says what is well formed. Whether the day exists, the contact is known or the time has come
is admission's to say; by HTTP `id` and `time` may be left out.
Called by hand, and by a test that keeps the files fresh.
"""

import json
import sys
from pathlib import Path
from typing import Any

import msgspec

from schemas import events, identity

FOLDER = Path(__file__).parent.parent / "docs" / "schemas"
TIME = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})$"


def schema(event: events.EventType) -> dict[str, Any]:
    """The schema of a whole event of a type: a CloudEvent in structured mode."""
    assert event.struct is not None, event
    data = _data(event)
    required = ["specversion", "id", "source", "type", "subject", "time"]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": event.name,
        "description": f"{_said(event.struct)} Comes by the Kafka topic {event.door}, or by POST /v1/events.",
        "type": "object",
        "properties": {
            "specversion": {"const": "1.0"},
            "id": {
                "description": "Names this event of its source, for ever; a copy of it changes nothing.",
                "type": "string",
                "minLength": 1,
                "maxLength": 256,
            },
            "source": {
                "description": "Names the sending system.",
                "type": "string",
                "minLength": 1,
                "maxLength": 256,
            },
            "type": {"const": event.name},
            "subject": {
                "description": "The contact it is about; the id is opaque and never an address.",
                "type": "string",
                "pattern": f"^{identity.CONTACT}{identity.CONTACT_ID}$",
            },
            "time": {
                "description": "When it happened: RFC 3339 with a zone; kept in UTC, cut to the millisecond.",
                "type": "string",
                "format": "date-time",
                "pattern": TIME,
            },
            "dataschema": {
                "description": "The version of data; absent means version 1.",
                "const": event.dataschema,
            },
            "datacontenttype": {"description": "Not looked at: data is JSON.", "type": ["string", "null"]},
            "data": {"$ref": f"#/$defs/{event.name}"},
        },
        "required": [*required, "data"] if data["required"] else required,
        "$defs": {event.name: {"$id": event.dataschema, **data}},
    }


def files() -> dict[Path, str]:
    """Every file as it must stand."""
    return {
        FOLDER / f"{event.name}.{event.version}.json": json.dumps(schema(event), indent=2) + "\n"
        for event in events.built()
    }


def stale() -> list[Path]:
    """The files that are missing or differ."""
    return [path for path, text in files().items() if not path.exists() or path.read_text() != text]


def main(arguments: list[str]) -> int:
    """Write the files, or with `--check` say which are not fresh."""
    old = stale()
    if "--check" in arguments:
        for path in old:
            sys.stderr.write(f"{path.name} is not fresh: run `python -m deploy.contracts`.\n")
        return 1 if old else 0
    FOLDER.mkdir(parents=True, exist_ok=True)
    for path in old:
        path.write_text(files()[path])
        sys.stdout.write(f"{path.name}\n")
    return 0


def _data(event: events.EventType) -> dict[str, Any]:
    """The schema of the data alone, as msgspec has it; what is optional may be null."""
    _, components = msgspec.json.schema_components([event.struct], ref_template="#/$defs/{name}")
    (data,) = components.values()
    for field in data["properties"].values():
        if field.pop("default", ...) is None:
            kind = next(one for one in field.pop("anyOf") if one != {"type": "null"})
            field.update(kind if "enum" in kind else {**kind, "type": [kind["type"], "null"]})
    del data["title"]
    return dict(data)


def _said(struct: type[msgspec.Struct]) -> str:
    return " ".join((struct.__doc__ or "").split())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
