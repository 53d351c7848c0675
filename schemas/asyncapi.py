"""The contract of the topics, as AsyncAPI 3.0: what the doors take, what can be read from the log.

Promises: channels are the topics that `heed topics create` makes, with their settings; messages are made from
the structs that admission decodes with and the fold reads with, so the two cannot part.
Limits: Heed is the application described, so it *receives* at the doors and *sends* on the log; partitions
are left out where they follow HEED_HOMES. Records of older versions stand on the log as they were written:
their data is in docs/schemas.
Called by api.routes (`GET /asyncapi.json`) and deploy.contracts (docs/asyncapi.json).
"""

import functools
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from schemas import commands, contracts, events, metrics, topics

VERSION: Final = "3.0.0"
BINDING: Final = "0.5.0"
CLOUDEVENT: Final = "application/cloudevents+json"

# What a topic is for; a topic without a line here is refused, so that none stays unexplained.
_ABOUT: Final = {
    topics.EMAIL_ACTIVITY: "A door: what happened to mails, told by anyone.",
    topics.CUSTOM_EVENTS: "A door: what happens on a site, told by anyone.",
    topics.CONTACT_IDENTITY: "A door: what is known about contacts, told by anyone.",
    topics.FACTS: "The log: every fact, in the home of its subject. Written by Heed alone.",
    topics.REGISTRY: "The log: what was decided for all of Heed, in one partition. Written by Heed alone.",
    topics.KEYS: "Subjects' keys, wrapped by the master key, or destroyed. Heed's own: no events.",
    topics.COMMANDS: "What fell due, told by Heed's timers. A copy, or a stranger's, changes nothing.",
}
_PARTITION_HEADERS: Final = {
    "partition": ("Partition of the door; absent when it came by HTTP.", "^[0-9]+$"),
    "offset": ("Offset at the door; absent when it came by HTTP.", "^[0-9]+$"),
}
_TRACEPARENT: Final = "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"


@functools.cache
def document() -> dict[str, Any]:
    """The whole document; made once."""
    messages: dict[str, Any] = {}
    schemas: dict[str, Any] = {}
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    for topic in topics.all_topics(1):
        found = _messages(topic.name, schemas)
        messages |= found
        channels[topic.name] = _channel(topic, list(found))
        operations |= _operations(topic.name, list(found))
    return {
        "asyncapi": VERSION,
        "info": {
            "title": "Heed",
            "version": "1",
            "description": "Events in by the doors, facts and commands out by the log. Every message is a "
            "CloudEvent 1.0 in structured JSON. Producers write to the doors with any Kafka client; what is "
            "undeclared is ignored, so readers ignore what they do not know, too.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": CLOUDEVENT,
        "servers": {
            "kafka": {
                "host": "{bootstrap}",
                "protocol": "kafka",
                "description": "HEED_KAFKA",
                "variables": {"bootstrap": {"default": "localhost:9092"}},
            }
        },
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages, "schemas": schemas},
    }


def _channel(topic: topics.Topic, messages: Sequence[str]) -> dict[str, Any]:
    config: dict[str, Any] = {
        name: int(value) if value.lstrip("-").isdigit() else value for name, value in topic.config.items()
    }
    config["cleanup.policy"] = config["cleanup.policy"].split(",")
    kafka: dict[str, Any] = {"topicConfiguration": config, "bindingVersion": BINDING}
    if topic.partitions == topics.all_topics(2)[_place(topic.name)].partitions:
        kafka["partitions"] = topic.partitions
    return {
        "address": topic.name,
        "description": _ABOUT[topic.name],
        "servers": [{"$ref": "#/servers/kafka"}],
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
        "bindings": {"kafka": kafka},
    }


def _place(name: str) -> int:
    return [topic.name for topic in topics.all_topics(1)].index(name)


def _operations(topic: str, messages: Sequence[str]) -> dict[str, Any]:
    """Who writes and who reads, from Heed's side."""

    def operation(action: str, summary: str) -> dict[str, Any]:
        return {
            "action": action,
            "channel": {"$ref": f"#/channels/{topic}"},
            "summary": summary,
            "messages": [{"$ref": f"#/channels/{topic}/messages/{name}"} for name in messages],
        }

    if topic in topics.DOORS:
        return {
            f"receive.{topic}": operation("receive", "Producers tell Heed; what cannot be taken is parked.")
        }
    return {
        f"send.{topic}": operation("send", "Anyone may read it; nobody but Heed writes it."),
        f"receive.{topic}": operation("receive", "Heed's own workers fold it."),
    }


def _messages(topic: str, schemas: dict[str, Any]) -> dict[str, Any]:
    """The messages of a topic, by name; their schemas are added to `schemas`."""
    built = [event for event in events.EVENTS.values() if event.struct is not None]
    if topic == topics.COMMANDS:
        return {kind: _command(kind, schemas) for kind in metrics.COMMAND_KINDS}
    found = {}
    for event in built:
        if topic == event.door:
            schemas[f"{event.name}.data"] = contracts.data_schema(event)
            schemas[event.name] = contracts.event_schema(event, _schema(f"{event.name}.data"))
            found[event.name] = _message(event.name, _short(event), event.name, _told_key(), None)
        elif topic == event.topic:
            name = event.name if event.door is None else f"{event.name}.fact"
            data = f"{event.name}.open" if event.personal else f"{event.name}.data"
            schemas.setdefault(data, contracts.open_schema(event))
            schemas[name] = contracts.fact_schema(event, _schema(data))
            key = _log_key() if topic == topics.FACTS else None
            found[name] = _message(event.name, _short(event), name, key, _headers(event))
    return found


def _command(kind: str, schemas: dict[str, Any]) -> dict[str, Any]:
    _, found = msgspec.json.schema_components([commands.Told], ref_template=_schema("commands.{name}"))
    schemas |= {
        f"commands.{name}": {k: v for k, v in one.items() if k != "title"} for name, one in found.items()
    }
    told = schemas.pop("commands.Told")
    members = {
        "specversion": {"const": "1.0"},
        **told["properties"],
        "source": {"const": commands.SOURCE},
        "type": {"const": kind},
        "subject": {"type": "string", "pattern": "^home:[0-9]+$"},
        "time": {"type": "string", "format": "date-time", "pattern": contracts.LOG_TIME},
        "datacontenttype": {"const": "application/json"},
    }
    schemas[kind] = {
        "description": "It was time: contacts of one home, each with the instant that was due.",
        "type": "object",
        "properties": members,
        "required": sorted(members),
    }
    key = {"type": "string", "pattern": "^home:[0-9]+$", "description": "The home that it is about."}
    return _message(kind, schemas[kind]["description"], kind, key, None)


def _message(
    name: str, summary: str, schema: str, key: dict[str, Any] | None, headers: dict[str, Any] | None
) -> dict[str, Any]:
    message: dict[str, Any] = {
        "name": name,
        "title": name,
        "summary": summary,
        "contentType": CLOUDEVENT,
        "payload": {"$ref": _schema(schema)},
    }
    if headers is not None:
        message["headers"] = headers
    kafka: dict[str, Any] = {"bindingVersion": BINDING} | ({} if key is None else {"key": key})
    return message | {"bindings": {"kafka": kafka}}


def _headers(event: events.EventType) -> dict[str, Any]:
    """The headers of a record of the log: where it came from, and the trace that it belongs to."""
    trace = {
        "type": "string",
        "pattern": _TRACEPARENT,
        "description": "W3C trace context, if one came along.",
    }
    if event.door is None:
        return {"type": "object", "properties": {"traceparent": trace}}
    numbers = {
        name: {"type": "string", "pattern": pattern, "description": about}
        for name, (about, pattern) in _PARTITION_HEADERS.items()
    }
    door = {"const": event.door, "description": "The door of its type, also when it came by HTTP."}
    return {
        "type": "object",
        "properties": {"door": door, **numbers, "traceparent": trace},
        "required": ["door"],
    }


def _told_key() -> dict[str, Any]:
    return {"type": ["string", "null"], "description": "Best the subject; Heed does not look at it."}


def _log_key() -> dict[str, Any]:
    return {
        "type": "string",
        "description": "The subject; its murmur2 names the partition, as Kafka's default partitioner has it.",
    }


def _short(event: events.EventType) -> str:
    assert event.struct is not None, event
    return contracts.said(event.struct)


def _schema(name: str) -> str:
    return f"#/components/schemas/{name}"
