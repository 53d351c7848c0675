"""What Segment's messages say, as events of ours: track, identify, alias, page.

Promises: equal messages give equal events, sent again too, so that they count once: the id is `messageId`,
the source `SOURCE`. A message tells of `contact:<userId>`, without one of `session:<anonymousId>`. What it
says beside the members read here, its `context` with address and browser above all, is kept nowhere.
Limits: knows no clock and no network; the events are judged by `schemas.admission`, as all are.
Called by `api.segment`.
"""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, TypeVar

import msgspec

from schemas import admission, codec, envelope, errors, identity, segment_traits

SOURCE: Final = "urn:segment"
KINDS: Final = ("track", "identify", "alias", "page")

# A clock is taken to be wrong in whole minutes: what the way took must not give a message that is sent again
# another time, and so make two facts of it that differ.
_STEP: Final = timedelta(minutes=1)

T = TypeVar("T", bound=msgspec.Struct)
Id = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]


class Told(msgspec.Struct, frozen=True):
    """The events of one message, as structured CloudEvents, and its id. Without events, nothing is kept."""

    id: str
    events: Sequence[bytes]


class Refused(Exception):
    """A message that no event can be made of: why, and its id, where that is known."""

    def __init__(self, detail: str, reason: errors.Reason = errors.Reason.INVALID) -> None:
        super().__init__(detail)
        self.detail = detail
        self.reason = reason
        self.id: str | None = None


class _Message(msgspec.Struct, rename="camel", frozen=True):
    message_id: Id | None = None
    type: str | None = None
    user_id: str | int | None = None
    anonymous_id: str | int | None = None
    previous_id: str | int | None = None
    timestamp: str | None = None
    sent_at: str | None = None
    event: str | None = None
    name: str | None = None
    properties: msgspec.Raw = msgspec.Raw()
    traits: msgspec.Raw = msgspec.Raw()
    context: msgspec.Raw = msgspec.Raw()


class _Page(msgspec.Struct, frozen=True):
    url: str | None = None
    title: str | None = None
    referrer: str | None = None


class _Context(msgspec.Struct, frozen=True):
    page: _Page | None = None


_decode: Final = msgspec.json.Decoder(_Message).decode
_values: Final = msgspec.json.Decoder(dict[str, Any]).decode
_encode: Final = msgspec.json.Encoder().encode
_named: Final = re.compile(r"`\$\.([A-Za-z]+)").search

_CHARACTERS: Final = "1 to 64 of the characters A-Z a-z 0-9 _ . ~ -"
_RULES: Final = {
    "messageId": "messageId is a string of 1 to 256 characters that names this message for ever.",
    "type": f"type is one of {', '.join(KINDS)}.",
    "userId": f"userId becomes the contact's id: {_CHARACTERS}. An address is none: send the id that your "
    "own system has for the contact, and the address as the trait email.",
    "anonymousId": f"anonymousId becomes the session's id: {_CHARACTERS}.",
    "previousId": f"previousId is the id of a contact or of a session: {_CHARACTERS}. An address is none.",
    "timestamp": "timestamp is RFC 3339 with a zone, as 2026-01-31T09:00:00.000Z.",
    "sentAt": "sentAt is RFC 3339 with a zone, as 2026-01-31T09:00:00.000Z.",
    "name": "name is the page's: a string.",
    "event": "event is the name of what was done: a string that is not empty.",
    "properties": "properties is a JSON object; url, title and referrer of a page are strings.",
    "traits": "traits is a JSON object; its numbers fit 64 bits, or are fractions.",
    "context": "context.page is a JSON object; its url, title and referrer are strings.",
}
_NO_JSON: Final = "the message is not valid JSON in UTF-8."
_NO_OBJECT: Final = "the message must be a JSON object, as Segment's clients send it."
_NOBODY: Final = "userId or anonymousId is required: whom the message tells of."
_NO_URL: Final = "properties.url is required: the page that was looked at."
_NO_USER: Final = "traits are kept of a contact alone: userId is required beside them."
_ALIAS: Final = "userId and previousId are required, and are not the same."


def told(
    raw: bytes, kind: str | None, *, at: datetime, sent_at: str | None = None, made_id: str = ""
) -> Told:
    """The events of one message. Raises Refused.

    `kind` is the route's (None: the message's own `type`), `at` when HTTP accepted it (aware UTC), `sent_at`
    the batch's, `made_id` the id of a message that has none.
    """
    message = _read(raw)
    id = message.message_id or made_id
    try:
        event = _Maker(message, id, _time(message, sent_at, at))
        match kind or message.type:
            case "track":
                found = [event.tracked()]
            case "page":
                found = [event.viewed()]
            case "identify":
                found = event.identified()
            case "alias":
                found = event.aliased()
            case _:
                raise _wrong("type")
    except Refused as refused:
        refused.id = id
        raise
    return Told(id, [_encode(one) for one in found])


class _Maker:
    """Makes the events of one message."""

    def __init__(self, message: _Message, id: str, time: str | None) -> None:
        self._message = message
        self._head = {"specversion": "1.0", "source": SOURCE, "id": id} | ({"time": time} if time else {})
        self._user = _id("userId", message.user_id)
        self._session = _id("anonymousId", message.anonymous_id)

    def tracked(self) -> dict[str, Any]:
        name = self._message.event
        if not name:
            raise _wrong("event")
        data = {"event": name, "params": _object("properties", self._message.properties)}
        return self._event("custom.received", self._whom(), data)

    def viewed(self) -> dict[str, Any]:
        told = _part("properties", self._message.properties, _Page)
        around = _part("context", self._message.context, _Context).page or _Page()
        data = {
            "referrer": told.referrer or around.referrer,
            "title": told.title or around.title or self._message.name,
            "url": told.url or around.url,
        }
        if not data["url"]:
            raise Refused(_NO_URL)
        return self._event("page.viewed", self._whom(), {name: text for name, text in data.items() if text})

    def identified(self) -> list[dict[str, Any]]:
        whom = self._whom()
        traits = segment_traits.identified(_decoded(self._message.traits))
        if self._user is None and traits:
            raise Refused(_NO_USER)
        found = []
        if self._user and self._session:
            found.append(self._linked(self._session, self._user))
        if traits:
            found.append(self._event("contact.identified", whom, traits))
        return found

    def aliased(self) -> list[dict[str, Any]]:
        previous = _id("previousId", self._message.previous_id)
        if self._user is None or previous is None or previous == self._user:
            raise Refused(_ALIAS)
        merged = self._event("contact.merged", f"{identity.CONTACT}{previous}", {"into": self._user})
        return [self._linked(previous, self._user), merged]

    def _linked(self, session: str, contact: str) -> dict[str, Any]:
        return self._event("session.linked", f"{identity.SESSION}{session}", {"contact_id": contact})

    def _whom(self) -> str:
        if self._user:
            return f"{identity.CONTACT}{self._user}"
        if self._session:
            return f"{identity.SESSION}{self._session}"
        raise Refused(_NOBODY)

    def _event(self, type: str, subject: str, data: object) -> dict[str, Any]:
        return {**self._head, "type": type, "subject": subject, "data": data}


def _read(raw: bytes) -> _Message:
    if len(raw) > admission.MAX_BYTES:
        raise Refused(f"the message is larger than {admission.MAX_BYTES} bytes.")
    try:
        if not raw.isascii():
            raw.decode()  # msgspec skips what is not declared without looking at its UTF-8
        return _decode(raw)
    except msgspec.ValidationError as error:
        match = _named(str(error))
        raise Refused(_RULES.get(match[1], _NO_OBJECT) if match else _NO_OBJECT) from None
    except (ValueError, RecursionError):
        raise Refused(_NO_JSON, errors.Reason.UNDECODABLE) from None


def _time(message: _Message, sent_at: str | None, at: datetime) -> str | None:
    """The message's time by a clock that is right, as Segment does it: what the sender's clock was off when
    it sent is taken off, here in whole minutes."""
    if not message.timestamp:
        return None
    try:
        moment = envelope.parse_time(message.timestamp)
        if sent := message.sent_at or sent_at:
            moment += round((at - _moment("sentAt", sent)) / _STEP) * _STEP
    except (codec.Unreadable, OverflowError):
        raise _wrong("timestamp") from None
    return envelope.format_time(moment)


def _moment(name: str, text: str) -> datetime:
    try:
        return envelope.parse_time(text)
    except codec.Unreadable:
        raise _wrong(name) from None


def _id(name: str, told: str | int | None) -> str | None:
    """An id as a part of a subject; None where it is left out or empty."""
    text = "" if told is None else str(told)
    if not text:
        return None
    if identity.is_contact_id(text) is None:
        raise _wrong(name)
    return text


def _object(name: str, raw: msgspec.Raw) -> msgspec.Raw:
    text = bytes(raw).strip()
    if text in (b"", b"null"):
        return msgspec.Raw(b"{}")
    if text[:1] != b"{":
        raise _wrong(name)
    return msgspec.Raw(text)


def _decoded(traits: msgspec.Raw) -> dict[str, Any]:
    try:
        return _values(_object("traits", traits))
    except (ValueError, RecursionError):
        raise _wrong("traits") from None


def _part(name: str, raw: msgspec.Raw, shape: type[T]) -> T:
    try:
        return msgspec.json.decode(_object(name, raw), type=shape)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise _wrong(name) from None


def _wrong(name: str) -> Refused:
    return Refused(_RULES[name])
