"""The JSON Schema of every event type, made from the structs that admission decodes with.

Promises: `event_schema` says of a whole event what admission says of its form; `fact_schema` of a record of
the log what the fold reads. Both use keywords that drafts 7 and 2020-12 of JSON Schema share.
Limits: a schema says what is well formed, but not what attributes are, or an address. Whether the day exists,
the contact is known or the time has come is admission's to say; by HTTP `id` and `time` may be left out.
Called by asyncapi (the contract of the topics) and deploy.contracts, which writes docs/schemas.
"""

from typing import Any, Final

import msgspec

from schemas import envelope, events, identity

TIME: Final = (
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})$"
)
LOG_TIME: Final = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z$"
DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"

# Rules of members of any name, which producers' checks need not know (examples/check_contract.py): admission
# says them.
_OF_MEMBERS: Final = ("propertyNames", "additionalProperties", "maxProperties")
_ABOUT: Final = "Whom it is about; the id is opaque and never an address."
_ABOUT_ANYONE: Final = (
    f"{_ABOUT} With several identifiers it is left out, and data.identifiers tells email, phone, custom_id "
    "and session_id."
)
_NAME: Final = {"type": "string", "minLength": 1, "maxLength": 256}


def subject(event: events.EventType) -> str:
    """The pattern of a subject that events of this type can be about, as they are told."""
    told = [one for one in event.subjects if one in identity.IDENTIFIERS]
    return _subject(event, [rf"({'|'.join(told)})[\s\S]+"] if told else [])


def log_subject(event: events.EventType) -> str:
    """The same as the log has them: identifiers and sets as hashes."""
    hashed = [one for one in event.subjects if one in (*identity.IDENTIFIERS, identity.SET)]
    return _subject(event, [f"({'|'.join(hashed)})[0-9a-f]{{64}}"] if hashed else [])


def _subject(event: events.EventType, others: list[str]) -> str:
    named = [one for one in event.subjects if one in (identity.CONTACT, identity.SESSION)]
    kinds = named[0] if len(named) == 1 else f"({'|'.join(named)})"
    found = ([f"{kinds}{identity.CONTACT_ID}"] if named else []) + others
    return f"^{found[0]}$" if len(found) == 1 else f"^({'|'.join(found)})$"


def file_schema(event: events.EventType) -> dict[str, Any]:
    """The schema of a whole event as a document of its own: with its dialect, its title and its data."""
    data = data_schema(event)
    whole = event_schema(event, f"#/$defs/{event.name}")
    return {
        "$schema": DRAFT,
        "title": event.name,
        **whole,
        "$defs": {event.name: {"$id": event.dataschema, **data}},
    }


def event_schema(event: events.EventType, data_ref: str) -> dict[str, Any]:
    """The schema of a whole event as it comes by a door: a CloudEvent in structured mode."""
    assert event.struct is not None, event
    required = ["specversion", "id", "source", "type", "subject", "time"]
    if data_schema(event)["required"]:
        required.append("data")
    if identity.SET in event.subjects:
        required.remove("subject")
    return {
        "description": f"{said(event.struct)} Comes by the Kafka topic {event.door}, or by POST /v1/events.",
        "type": "object",
        "properties": {
            "specversion": {"const": "1.0"},
            "id": {
                "description": "Names this event of its source, for ever; a copy of it changes nothing.",
                **_NAME,
            },
            "source": {"description": "Names the sending system.", **_NAME},
            "type": {"const": event.name},
            "subject": {
                "description": _ABOUT_ANYONE if identity.SET in event.subjects else _ABOUT,
                "type": "string",
                "pattern": subject(event),
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
            "data": {"$ref": data_ref},
        },
        "required": required,
    }


def fact_schema(event: events.EventType, data_ref: str) -> dict[str, Any]:
    """The schema of a record of the log, as this version writes it: the newest data, in canonical form."""
    assert event.struct is not None, event
    required, properties = _record()
    moment = {"type": "string", "format": "date-time", "pattern": LOG_TIME}
    fixed: dict[str, Any] = {
        "type": {"const": event.name},
        "time": {"description": "When it happened: UTC, in milliseconds.", **moment},
        "accepted": {"description": "When Heed took it: UTC, in milliseconds.", **moment},
        "dataschema": {"const": event.dataschema},
        "data": {"$ref": data_ref},
        "digest": {"description": "Of type and data, in canonical form.", **properties["digest"]},
    }
    if event.door is not None:
        fixed["subject"] = {"type": "string", "pattern": log_subject(event)}
    return {
        "description": said(event.struct),
        "type": "object",
        "properties": {"specversion": {"const": "1.0"}, **properties, **fixed},
        "required": ["specversion", *required],
    }


def _record() -> tuple[list[str], dict[str, Any]]:
    """What a record of the log requires, and its members: those that are written, as they are read."""
    read = {field.name: field for field in msgspec.structs.fields(envelope.Fact)}
    fields = [
        (name, read[name].type) if read[name].required else (name, read[name].type, read[name].default)
        for name in envelope.Written.__struct_fields__
    ]
    _, found = msgspec.json.schema_components([msgspec.defstruct("Record", fields)])
    members = found["Record"]["properties"]
    return list(found["Record"]["required"]), {name: nullable(one) for name, one in members.items()}


def data_schema(event: events.EventType) -> dict[str, Any]:
    """The schema of the data alone, as msgspec has it; what is optional may be null."""
    return _data_schema(event.struct)


def open_schema(event: events.EventType) -> dict[str, Any]:
    """The schema of what stands open of the data on the log: the rest is in `sealed`."""
    return _data_schema(event.open)


def _data_schema(struct: type[msgspec.Struct] | None) -> dict[str, Any]:
    assert struct is not None
    (whole,), components = msgspec.json.schema_components([struct], ref_template="{name}")
    data = dict(components[whole["$ref"]])
    data["properties"] = {
        name: _written_out(nullable(field), components) for name, field in data["properties"].items()
    }
    del data["title"]
    return data


def _written_out(field: dict[str, Any], components: dict[str, Any]) -> dict[str, Any]:
    """A field whose form has a name of its own, with the form in its place."""
    if "$ref" not in field:
        return field
    form = {name: part for name, part in components[field["$ref"]].items() if name != "title"}
    return form | {name: part for name, part in field.items() if name != "$ref"}


def nullable(field: dict[str, Any]) -> dict[str, Any]:
    """A field that may be left out, said in one `type` instead of an `anyOf` with null and a default."""
    field = {name: rule for name, rule in field.items() if name not in _OF_MEMBERS}
    if field.pop("default", ...) is None:
        whole = next(one for one in field.pop("anyOf") if one != {"type": "null"})
        kind = {name: rule for name, rule in whole.items() if name not in _OF_MEMBERS}
        field.update(kind if "enum" in kind else {**kind, "type": [kind["type"], "null"]})
    return field


def said(struct: type[msgspec.Struct]) -> str:
    """The docstring of a struct in one line."""
    return " ".join((struct.__doc__ or "").split())
