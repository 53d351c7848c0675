"""Admission: the one function that makes the log clean.

`admit` judges one event, as bytes, and gives either what goes on the log or why it does not; what is personal
it sets apart, to be sealed (`sealed`) once the keys are at hand. It never raises for any bytes, knows no
clock and no network, and equal arguments give equal outcomes (but for an id that Heed makes). The first that
fails decides:
  size (invalid); nesting, JSON, UTF-8 (undecodable); envelope (invalid), id and source (unstorable);
  type (unknown_type, wrong_door); version (newer_version, invalid); data (invalid, unstorable);
  id, time (invalid, unstorable); subject (invalid, no_subject); undefined_event; time against the clock
  (future).
Limits: of two members with one name the last counts; nothing that is not declared is kept.
Called by the API for HTTP (`door` None, with a `completion.Fill`) and by `intake` for the doors.
"""

import re
from datetime import datetime, timedelta
from typing import Final

import msgspec

from schemas import (
    codec,
    completion,
    envelope,
    errors,
    events,
    identifiers,
    identity,
    links,
    sealing,
    told,
    topics,
    writing,
)

MAX_BYTES: Final = 32 * 1024
MAX_DEPTH: Final = 32

Reason = errors.Reason
PARKED_BY_HTTP: Final = frozenset({Reason.FUTURE, Reason.UNDEFINED_EVENT, Reason.NO_SUBJECT})


class Admitted(msgspec.Struct, frozen=True, gc=False):
    """An event that goes on the log: `value` is the record, its key is `subject`, its place `topic` and
    `partition`; `links` go on with it. While `personal` is not empty, the record lacks it: it is finished
    by `sealed`."""

    id: str
    source: str
    type: str
    subject: str
    topic: str
    partition: int
    time: datetime
    door: str
    value: bytes
    personal: bytes = b""
    traceparent: str | None = None
    links: tuple[writing.Link, ...] = ()


class Rejected(msgspec.Struct, frozen=True, gc=False):
    """An event that does not: why, what is known of it (only what can be stored), and the bytes to keep.

    `detail` names the field and the rule, never a value that was sent. `subject` is whom it is about, where
    that is one whose facts are kept. By HTTP, `raw` is the completed event
    where it is parked, and `door` the one of its type, where that is known.
    """

    reason: errors.Reason
    detail: str
    id: str | None
    source: str | None
    type: str | None
    time: datetime | None
    door: str | None
    raw: bytes
    subject: str | None = None


Outcome = Admitted | Rejected

_decode: Final = msgspec.json.Decoder(envelope.Incoming).decode
_attribute: Final = re.compile(r"`\$\.([a-z]+)").search
_is_traceparent: Final = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}").fullmatch

_TOO_LARGE: Final = f"the event is larger than {MAX_BYTES} bytes."
_TOO_DEEP: Final = f"the event is nested deeper than {MAX_DEPTH} levels."
_NO_JSON: Final = "the event is not valid JSON in UTF-8."
_NO_OBJECT: Final = "the event must be a JSON object: a CloudEvent in structured mode."
_NO_TYPE: Final = "this Heed does not know the type; docs/events.md lists those it takes."
_OWN_TYPE: Final = "events of this type are written by Heed alone."
_NOT_KEPT: Final = "holds a character that cannot be kept (NUL, or half of a surrogate pair)."
_FUTURE: Final = "time is further ahead than HEED_AHEAD_SECONDS; the event waits until its time has come."
_NO_SUBJECT: Final = (
    "subject is none of contact:, session:, email:, phone: and custom:, and there are no data.identifiers; "
    "the event waits, and can be driven again once somebody is told of."
)
_ITSELF: Final = "data.into must be another contact than the one that the event is about."
_UNDEFINED: Final = "no event of this name is defined: it is kept, and is taken once somebody has defined it."
_RULES: Final = {
    "specversion": 'specversion must be "1.0": Heed takes CloudEvents 1.0.',
    "id": "id is required: a string of 1 to 256 characters that names this event of its source for ever.",
    "source": "source is required: a string of 1 to 256 characters that names the sending system.",
    "type": "type is required: a string, one of the types in docs/events.md.",
    "subject": "subject must be contact: or session: and 1 to 64 of the characters A-Z a-z 0-9 _ . ~ -.",
    "time": "time is required: RFC 3339 with a zone, as 2026-01-31T09:00:00.000Z.",
    "dataschema": codec.DATASCHEMA_RULE,
    "traceparent": "traceparent must be a string, or be left out.",
}


def admit(
    raw: bytes, *, at: datetime, door: str | None, homes: int, ahead: timedelta, secret: bytes,
    fill: completion.Fill | None = None,
) -> Outcome:  # fmt: skip
    """Judge one event. `at`: its append time at `door`, or (no door) when HTTP accepted it; aware UTC.

    `secret` is the installation's, by which the digest is keyed.
    """
    try:
        event = _read(raw)
        kind = _kind(event, door)
        data = b"" if kind.undefined else _data(event, kind)
        id, text = _named(event, at, door, fill)
        time = envelope.parse_time(text)
        subject, members = _about(event, secret)
        if not subject:
            reason, detail = Reason.NO_SUBJECT, _NO_SUBJECT
        elif not subject.startswith(kind.subjects):
            kinds = " or ".join(f"{one}<id>" for one in kind.subjects if one != identity.SET)
            raise codec.Unreadable(Reason.INVALID, f"subject of {kind.name} must be {kinds}.")
        elif kind.name == "contact.merged" and links.is_to_itself(subject, data):
            raise codec.Unreadable(Reason.INVALID, _ITSELF)
        elif kind.undefined:
            reason, detail = Reason.UNDEFINED_EVENT, _UNDEFINED
        elif time > at + ahead:
            reason, detail = Reason.FUTURE, _FUTURE
        else:
            source = event.source or ""
            actor = fill.actor if fill is not None and kind.attributed else None
            digest = codec.digest(kind.name, data, secret)
            opened, personal = codec.parts(kind, data)
            value = writing.written(kind, opened, digest, id, source, subject, text, time, at, actor, members)
            partition = topics.partition(kind.topic, subject, homes)
            trace = event.traceparent
            if trace is not None and _is_traceparent(trace) is None:
                trace = None
            came_by = door or kind.door or ""
            return Admitted(
                id, source, kind.name, subject, kind.topic, partition, time, came_by, value, personal, trace,
                writing.links_of(kind, data, id, source, subject, text, time, at, actor, secret),
            )  # fmt: skip
        kept = _completed(raw, id, text) if door is None else raw
        about = subject if identity.is_subject(subject) else None
        return Rejected(reason, detail, id, event.source, kind.name, time, door or kind.door, kept, about)
    except codec.Unreadable as error:
        return _rejected(raw, door, error)


def sealed(event: Admitted, key: sealing.DataKey, nonce: bytes) -> Admitted:
    """The event with its personal part in the record, sealed with a key of its subject and a fresh nonce."""
    part = key.seal(event.source, event.id, event.personal, nonce)
    value = envelope.with_sealed(event.value, part, key.kid)
    return msgspec.structs.replace(event, value=value, personal=b"")


def _read(raw: bytes) -> envelope.Incoming:
    """The envelope, as far as CloudEvents goes; raises codec.Unreadable."""
    if len(raw) > MAX_BYTES:
        raise codec.Unreadable(Reason.INVALID, _TOO_LARGE)
    if raw.count(b"{") + raw.count(b"[") > MAX_DEPTH and codec.depth(raw) > MAX_DEPTH:
        raise codec.Unreadable(Reason.UNDECODABLE, _TOO_DEEP)
    try:
        event = _decoded(raw)
    except msgspec.ValidationError as error:
        raise _shapeless(str(error)) from None
    except (ValueError, RecursionError):
        raise codec.Unreadable(Reason.UNDECODABLE, _NO_JSON) from None
    source, id = event.source, event.id
    if event.specversion != "1.0":
        raise codec.Unreadable(Reason.INVALID, _RULES["specversion"])
    if source is None:
        raise codec.Unreadable(Reason.INVALID, _RULES["source"])
    if event.type is None:
        raise codec.Unreadable(Reason.INVALID, _RULES["type"])
    if "\0" in source:
        raise codec.Unreadable(Reason.UNSTORABLE, f"source {_NOT_KEPT}")
    if id is not None and "\0" in id:
        raise codec.Unreadable(Reason.UNSTORABLE, f"id {_NOT_KEPT}")
    return event


def _shapeless(text: str) -> codec.Unreadable:
    """Why no envelope could be read from what is JSON."""
    match = _attribute(text)
    return codec.Unreadable(Reason.INVALID, _RULES.get(match[1], _NO_OBJECT) if match else _NO_OBJECT)


def _decoded(raw: bytes) -> envelope.Incoming:
    if not raw.isascii():
        raw.decode()  # msgspec skips what is not declared without looking at its UTF-8
    try:
        return _decode(raw)
    except msgspec.ValidationError:
        once = codec.once_each(raw)  # raises for the rest of the bytes, which may not even be JSON
        if once is None:
            raise
        return _decode(once)
    except msgspec.DecodeError:
        return _decode(codec.mended(raw))


def _kind(event: envelope.Incoming, door: str | None) -> events.EventType:
    """The type, if it may come by this door (None: by HTTP); raises codec.Unreadable."""
    name = event.type or ""
    kind = events.EVENTS.get(name)
    if events.is_own(name):
        raise codec.Unreadable(Reason.WRONG_DOOR, _OWN_TYPE)
    if kind is None or not (kind.built or kind.undefined):
        raise codec.Unreadable(Reason.UNKNOWN_TYPE, _NO_TYPE)
    if door is not None and door != kind.door:
        raise codec.Unreadable(Reason.WRONG_DOOR, f"events of this type come by the topic {kind.door}.")
    return kind


def _data(event: envelope.Incoming, kind: events.EventType) -> bytes:
    """The data as it is kept: newest version, declared fields, canonical; raises codec.Unreadable."""
    data = codec.canonical(codec.content(kind, codec.version(event.dataschema, kind), event.data))
    if codec.has_nul(data):
        raise codec.Unreadable(Reason.UNSTORABLE, f"data {_NOT_KEPT}")
    return data


def _about(event: envelope.Incoming, secret: bytes) -> tuple[str, str]:
    """Whom the event is about, as the log names them, and the members of a set; raises codec.Unreadable.

    ("", ""): nobody is told of.
    """
    told = event.subject
    if told is None:
        return identifiers.addressed(event.data, secret)
    if told.startswith((identity.CONTACT, identity.SESSION)):
        if identity.is_subject(told) is None:
            raise codec.Unreadable(Reason.INVALID, _RULES["subject"])
        return told, ""
    return identifiers.subject(told, secret) or "", ""


def _named(
    event: envelope.Incoming, at: datetime, door: str | None, fill: completion.Fill | None
) -> tuple[str, str]:
    """The id and the time: as sent; by HTTP completed. Raises codec.Unreadable."""
    id, time = event.id, event.time
    if id is None:
        if door is not None:
            raise codec.Unreadable(Reason.INVALID, _RULES["id"])
        id = completion.made_id(at, fill or completion.NOTHING)
    if time is None:
        if door is not None:
            raise codec.Unreadable(Reason.INVALID, _RULES["time"])
        time = envelope.format_time(completion.time_of(id) or at)
    return id, time


def _completed(raw: bytes, id: str, time: str) -> bytes:
    whole = completion.completed(raw, id, time)
    if len(whole) > MAX_BYTES:
        raise codec.Unreadable(Reason.INVALID, _TOO_LARGE)
    return whole


def _rejected(raw: bytes, door: str | None, error: codec.Unreadable) -> Rejected:
    """The rejection, with what can be told of the event."""
    readable = len(raw) <= MAX_BYTES and error.reason is not Reason.UNDECODABLE
    known = told.of(raw) if readable else told.Told()
    kind = events.EVENTS.get(known.type or "")
    if door is None and kind is not None:
        door = kind.door
    return Rejected(
        error.reason, error.detail, known.id, known.source, known.type, known.time, door, raw, known.subject
    )  # fmt: skip
