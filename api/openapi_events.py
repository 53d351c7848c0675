"""The events in the description of the API: exactly what `POST /v1/events` does not refuse.

Promises: made from the structs that admission decodes with. Tests send what is made from this description,
and hold what is answered against it, event by event.

Limits: what JSON Schema cannot say well is left to admission: 32 KB, 32 levels, NUL, days that do not exist.

Called by `api.openapi`.
"""

from __future__ import annotations

from typing import Any

from schemas import contracts, events, identity


def components(template: str) -> dict[str, Any]:
    """A schema for each type, told apart by `type`, and one that is any of them.

    `template` makes a reference of a `{name}`.
    """
    taken = events.built()
    found: dict[str, Any] = {}
    for event in taken:
        assert event.struct is not None
        name = event.struct.__name__
        found[name] = contracts.data_schema(event)
        found[event.name] = _by_http(event, template.format(name=name))
    mapping = {event.name: template.format(name=event.name) for event in taken}
    found["Event"] = {
        "oneOf": [{"$ref": mapping[event.name]} for event in taken],
        "discriminator": {"propertyName": "type", "mapping": mapping},
    }
    return found


def _by_http(event: events.EventType, data_ref: str) -> dict[str, Any]:
    """An event as HTTP takes it: what Heed may fill in is left out or null; what is not kept may be anything.

    A subject of another kind is taken, too, and parked until Heed can find its contact.
    """
    schema = contracts.event_schema(event, data_ref)
    members = schema["properties"]
    made = {"id": "Absent: made by Heed, and answered.", "time": "Absent: the moment of acceptance."}
    for name, about in made.items():
        members[name] |= {
            "type": ["string", "null"],
            "description": f"{members[name]['description']} {about}",
        }
    members["dataschema"] = {"enum": [members["dataschema"]["const"], None]} | {
        "description": members["dataschema"]["description"]
    }
    members["subject"] |= {
        "type": ["string", "null"],
        "pattern": f"{contracts.subject(event)}|^(?!{identity.CONTACT}|{identity.SESSION})",
    }
    members["traceparent"] = {
        "type": ["string", "null"],
        "description": "W3C trace context; goes along as a header.",
    }
    del members["datacontenttype"]["type"]
    if "data" not in schema["required"]:
        members["data"] = {"anyOf": [members["data"], {"type": "null"}]}
    required = ("specversion", "source", "type", "data")
    return schema | {"required": [name for name in schema["required"] if name in required]}
