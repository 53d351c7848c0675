"""Admission: the one function that makes the log clean.

`admit` judges one event, as bytes, and gives either what goes on the log or why it does not. It never raises for any
bytes, knows no clock and no network, and the same arguments give the same outcome (but for an id made by Heed).
The first of these that fails decides: size (invalid), nesting and JSON in UTF-8 (undecodable), envelope (invalid;
unstorable id or source), type (unknown_type, wrong_door), version (newer_version), data (invalid, unstorable), time
(invalid, unstorable), subject (invalid, no_subject), time against the clock (future).
Limits: of two members with one name the last counts; nothing that is not declared is kept.
Called by the API for HTTP (`door` None, with a `Fill`) and by `intake` for the doors.
"""

import json
import re
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NoReturn

import msgspec
from uuid_utils import compat

from schemas import codec, envelope, errors, events, identity, topics

MAX_BYTES: Final = 32 * 1024
MAX_DEPTH: Final = 32

Reason = errors.Reason
PARKED_BY_HTTP: Final = frozenset(
    {Reason.FUTURE, Reason.UNDEFINED_EVENT, Reason.NO_SUBJECT}
)


class Fill(msgspec.Struct, frozen=True):
    """What HTTP may fill in: an id from the Idempotency-Key and the index in the batch, else a fresh one."""

    idempotency_key: str | None = None
    index: int = 0


class Admitted(msgspec.Struct, frozen=True, gc=False):
    """An event that goes on the log: `value` is the record, its key is `subject`, its partition `home`."""

    id: str
    source: str
    type: str
    subject: str
    home: int
    time: datetime
    door: str
    value: bytes
    traceparent: str | None = None


class Rejected(msgspec.Struct, frozen=True, gc=False):
    """An event that does not: why, what is known of it (only what can be stored), and the bytes to keep.

    `detail` names the field and the rule, never a value that was sent. By HTTP, `raw` is the completed event and
    `door` the one of its type, when that is known.
    """

    reason: errors.Reason
    detail: str
    id: str | None
    source: str | None
    type: str | None
    time: datetime | None
    door: str | None
    raw: bytes


Outcome = Admitted | Rejected

_NAMESPACE: Final = uuid.UUID("6a1d4a3e-9f0c-5d57-8a53-6d0f3bd0a7c1")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_decode: Final = msgspec.json.Decoder(envelope.Incoming).decode
_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_brackets: Final = re.compile(
    rb'"[^"\\]*(?:\\.[^"\\]*)*"?|([\[{])|([\]}])', re.DOTALL
).finditer
_attribute: Final = re.compile(r"`\$\.([a-z]+)").search
_is_traceparent: Final = re.compile(
    r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}"
).fullmatch
_is_uuid7: Final = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
    re.ASCII | re.IGNORECASE,
).fullmatch


def admit(
    raw: bytes,
    *,
    at: datetime,
    door: str | None,
    homes: int,
    ahead: timedelta,
    fill: Fill | None = None,
) -> Outcome:
    """Judge one event. `at` is its append time at `door`, or (door None) when HTTP accepted it; aware UTC."""
    try:
        incoming = _read(raw)
        event = _typed(incoming, door)
        data = _data(incoming, event)
        id, text = _filled(incoming, at, door, fill)
        time = envelope.parse_time(text)
        if subject := _subject(incoming.subject):
            if time <= at + ahead:
                return _admitted(
                    incoming, event, data, id, time, text, subject, at, door, homes
                )
            reason, detail = Reason.FUTURE, _FUTURE
        else:
            reason, detail = Reason.NO_SUBJECT, _NO_SUBJECT
        kept = raw if door else _completed(raw, id, text)
        return Rejected(
            reason,
            detail,
            id,
            incoming.source,
            event.name,
            time,
            door or event.door,
            kept,
        )
    except codec.Unreadable as error:
        return _rejected(raw, door, error)


def _admitted(
    incoming: envelope.Incoming,
    event: events.EventType,
    data: bytes,
    id: str,
    time: datetime,
    text: str,
    subject: str,
    at: datetime,
    door: str | None,
    homes: int,
) -> Admitted:
    name = event.name
    source = incoming.source or ""
    if len(text) != 24 or text[10] != "T" or text[23] != "Z":
        text = envelope.format_time(time)
    value = envelope.write_fact(
        envelope.Written(
            id,
            source,
            name,
            subject,
            text,
            event.dataschema,
            msgspec.Raw(data),
            codec.digest(name, data),
            envelope.format_time(at),
        )
    )
    trace = incoming.traceparent
    if trace is not None and _is_traceparent(trace) is None:
        trace = None
    return Admitted(
        id,
        source,
        name,
        subject,
        topics.home(subject, homes),
        time,
        door or event.door or "",
        value,
        trace,
    )


def _read(raw: bytes) -> envelope.Incoming:
    """The envelope, as far as CloudEvents goes; raises codec.Unreadable."""
    if len(raw) > MAX_BYTES:
        raise codec.Unreadable(
            Reason.INVALID, f"the event is larger than {MAX_BYTES} bytes."
        )
    if raw.count(b"{") + raw.count(b"[") > MAX_DEPTH and _depth(raw) > MAX_DEPTH:
        raise codec.Unreadable(
            Reason.UNDECODABLE, f"the event is nested deeper than {MAX_DEPTH} levels."
        )
    try:
        if not raw.isascii():
            raw.decode()
        try:
            incoming = _decode(raw)
        except msgspec.ValidationError:
            raise
        except (msgspec.DecodeError, UnicodeDecodeError):
            incoming = _decode(_mended(raw))
    except msgspec.ValidationError as error:
        match = _attribute(str(error))
        raise codec.Unreadable(
            Reason.INVALID, _RULES[match[1]] if match else _NO_OBJECT
        ) from None
    except (ValueError, RecursionError):
        raise codec.Unreadable(Reason.UNDECODABLE, _NO_JSON) from None
    source, id = incoming.source, incoming.id
    if incoming.specversion != "1.0":
        raise codec.Unreadable(Reason.INVALID, _RULES["specversion"])
    if source is None:
        raise codec.Unreadable(Reason.INVALID, _RULES["source"])
    if incoming.type is None:
        raise codec.Unreadable(Reason.INVALID, _RULES["type"])
    if "\0" in source or (id is not None and "\0" in id):
        raise codec.Unreadable(
            Reason.UNSTORABLE, "id or source holds a character that cannot be kept."
        )
    return incoming


def _typed(incoming: envelope.Incoming, door: str | None) -> events.EventType:
    """The type, if it may come by this door (None: by HTTP); raises codec.Unreadable."""
    event = events.EVENTS.get(incoming.type or "")
    if event is None or event.struct is None:
        if events.is_own(incoming.type or ""):
            raise codec.Unreadable(
                Reason.WRONG_DOOR, "events of this type are written by Heed alone."
            )
        raise codec.Unreadable(
            Reason.UNKNOWN_TYPE,
            "this Heed does not know the type; docs/events.md lists them.",
        )
    if door is not None and door != event.door:
        raise codec.Unreadable(
            Reason.WRONG_DOOR, f"events of this type come by the topic {event.door}."
        )
    return event


def _data(incoming: envelope.Incoming, event: events.EventType) -> bytes:
    """The data as it is kept: newest version, declared fields, canonical; raises codec.Unreadable."""
    data = codec.canonical(
        codec.content(event, codec.version(incoming.dataschema, event), incoming.data)
    )
    if codec.has_nul(data):
        raise codec.Unreadable(
            Reason.UNSTORABLE, "data holds a character that cannot be kept."
        )
    return data


def _filled(
    incoming: envelope.Incoming, at: datetime, door: str | None, fill: Fill | None
) -> tuple[str, str]:
    """The id and the time: as sent, by HTTP completed; raises codec.Unreadable."""
    id, time = incoming.id, incoming.time
    if door is not None:
        if id is None:
            raise codec.Unreadable(Reason.INVALID, _RULES["id"])
        if time is None:
            raise codec.Unreadable(Reason.INVALID, _RULES["time"])
        return id, time
    if id is None:
        id = _made(at, fill or Fill())
    if time is None:
        time = envelope.format_time(_told(id) or at)
    return id, time


def _made(at: datetime, fill: Fill) -> str:
    if fill.idempotency_key is None:
        return str(
            compat.uuid7(
                nanoseconds=(at - _EPOCH) // timedelta(milliseconds=1) * 1_000_000
            )
        )
    key = fill.idempotency_key.encode(errors="backslashreplace").decode()
    return str(uuid.uuid5(_NAMESPACE, f"{fill.index}:{key}"))


def _told(id: str) -> datetime | None:
    """The time that a UUIDv7 carries."""
    if _is_uuid7(id) is None:
        return None
    try:
        return _EPOCH + timedelta(milliseconds=int(id[:8] + id[9:13], 16))
    except OverflowError:
        raise codec.Unreadable(
            Reason.UNSTORABLE, "the time in the id is out of range."
        ) from None


def _subject(subject: str | None) -> str | None:
    """The subject, if it has a home in the log; raises codec.Unreadable for an ill-formed contact."""
    if subject is not None and subject.startswith(identity.CONTACT):
        if identity.is_contact_subject(subject) is None:
            raise codec.Unreadable(Reason.INVALID, _RULES["subject"])
        return subject
    return None


def _depth(raw: bytes) -> int:
    """How deep the brackets nest, those inside strings left out."""
    depth = deepest = 0
    for match in _brackets(raw):
        if match[1]:
            depth += 1
            deepest = max(deepest, depth)
        elif match[2]:
            depth -= 1
    return deepest


def _mended(raw: bytes) -> bytes:
    """The same JSON with NUL for every string that UTF-8 cannot hold (lone surrogates are valid JSON escapes).

    NUL cannot be kept either: so such a string is unstorable where it would be kept, and ignored where it would not.
    Raises ValueError if it is no JSON.
    """
    value = json.loads(
        raw.decode(), parse_constant=_refuse, parse_int=_integer, parse_float=_fraction
    )
    return json.dumps(_storable(value), ensure_ascii=False).encode()


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


def _integer(text: str) -> Any:
    return int(text) if len(text) < 32 else "\0"


def _fraction(text: str) -> Any:
    value = float(text)
    return value if abs(value) != float("inf") else "\0"


def _storable(value: Any) -> Any:
    if isinstance(value, dict):
        return {_storable(name): _storable(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_storable(member) for member in value]
    if isinstance(value, str) and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            return "\0"
    return value


def _completed(raw: bytes, id: str, time: str) -> bytes:
    """The event as HTTP accepted it: with its id and its time, for `intake` to judge as at a door."""
    try:
        members = _members(raw)
    except msgspec.DecodeError:
        members = _members(_mended(raw))
    members["id"] = msgspec.Raw(msgspec.json.encode(id))
    members["time"] = msgspec.Raw(msgspec.json.encode(time))
    whole = msgspec.json.encode(members)
    if len(whole) > MAX_BYTES:
        raise codec.Unreadable(
            Reason.INVALID,
            f"the event, with its id and time, is larger than {MAX_BYTES} bytes.",
        )
    return whole


def _rejected(raw: bytes, door: str | None, error: codec.Unreadable) -> Rejected:
    """The rejection, with what can be told of the event from bytes that may be anything."""
    id = source = type = time = None
    if len(raw) <= MAX_BYTES and error.reason is not Reason.UNDECODABLE:
        try:
            value = json.loads(_mended(raw))
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict):
            id, source, type = (
                _known(value.get(name)) for name in ("id", "source", "type")
            )
            try:
                time = (
                    envelope.parse_time(value["time"])
                    if isinstance(value.get("time"), str)
                    else None
                )
            except codec.Unreadable:
                time = None
    if door is None and type in events.EVENTS:
        door = events.EVENTS[type].door
    return Rejected(error.reason, error.detail, id, source, type, time, door, raw)


def _known(value: object) -> str | None:
    return (
        value
        if isinstance(value, str) and 0 < len(value) <= 256 and "\0" not in value
        else None
    )


_NO_JSON: Final = "the event is not valid JSON in UTF-8."
_NO_OBJECT: Final = "the event must be a JSON object: a CloudEvent in structured mode."
_FUTURE: Final = "time is further ahead than HEED_AHEAD_SECONDS: it waits here and is driven again when its time comes."
_NO_SUBJECT: Final = (
    "subject is not a contact: Heed takes contact:<id> for now; whoever is addressed otherwise waits here until it can"
    " be found."
)
_RULES: Final = {
    "specversion": 'specversion must be "1.0": Heed takes CloudEvents 1.0.',
    "id": "id is required: a string of 1 to 256 characters that names this event of its source for ever.",
    "source": "source is required: a string of 1 to 256 characters that names the sending system.",
    "type": "type is required: a string, one of the types in docs/events.md.",
    "subject": "subject must be a string; of a contact, contact: and 1 to 64 of the characters A-Z a-z 0-9 _ . ~ -.",
    "time": "time is required: RFC 3339 with a zone, as 2026-01-31T09:00:00.000Z.",
    "dataschema": "dataschema must be urn:heed:<type>:<version>, or be left out (version 1).",
    "data": "data must be an object.",
    "traceparent": "traceparent must be a string.",
}
