"""Between bytes and the data of an event: shapes, versions, canonical form, digest.

`content` turns data of any known version into the newest struct and says what is wrong without repeating what was
sent. `canonical` is RFC 8785 for the types of `events`: their fields are strings, booleans and small integers under
ASCII names, for which msgspec's sorted output is that form (proved in tests against an independent implementation).
Limits: fractions and non-ASCII field names would need a real RFC 8785 encoder; a test refuses types that have them.
Called by admission (events), envelope (the log) and projections (data of a fact).
"""

import hashlib
import re
from typing import Any, Final

import msgspec

from schemas import events, upcasters
from schemas.errors import Reason

_NULL: Final = msgspec.Raw(b"null")
_encode: Final = msgspec.json.Encoder(order="sorted").encode
_URN: Final = re.compile(r"urn:heed:([a-z_]+(?:\.[a-z_]+)+):([1-9][0-9]*)").fullmatch
_PATH: Final = re.compile(r" - at `\$\.([a-z_]+)")
_MISSING: Final = re.compile(r"missing required field `([a-z_]+)`")


class Unreadable(Exception):
    """What stands there cannot be read; it is parked, with its reason and a sentence that names the rule."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


def version(dataschema: str | None, event: events.EventType) -> int:
    """The version that `dataschema` names; raises Unreadable when it is not one this Heed knows."""
    if dataschema is None:
        return 1
    if dataschema == event.dataschema:
        return event.version
    match = _URN(dataschema)
    if match is None or match[1] != event.name:
        raise Unreadable(
            Reason.INVALID,
            "dataschema must be urn:heed:<type>:<version>, or be left out (version 1).",
        )
    if len(match[2]) > 6 or int(match[2]) > event.version:
        raise Unreadable(
            Reason.NEWER_VERSION,
            f"dataschema names a version newer than {event.version}, the newest that this Heed knows of {event.name}.",
        )
    return int(match[2])


def content(
    event: events.EventType, version: int, data: bytes | msgspec.Raw
) -> msgspec.Struct:
    """Data of a version as the newest struct of its type; raises Unreadable."""
    if not data or data == _NULL:
        data = b"{}"
    try:
        if version == event.version:
            struct: msgspec.Struct = event.decode(data)
            return struct
        old = msgspec.json.decode(data)
        if not isinstance(old, dict):
            raise Unreadable(Reason.INVALID, "data must be an object.")
        return _upcast(event, version, old)
    except msgspec.ValidationError as error:
        raise _explained(event, error) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Unreadable(
            Reason.UNDECODABLE, "data is not valid JSON in UTF-8."
        ) from None


def canonical(data: Any) -> bytes:
    """The canonical JSON (RFC 8785) of the data of an event, as struct or as plain values."""
    return _encode(data)


def has_nul(encoded: bytes) -> bool:
    """Whether a string in this JSON (as msgspec writes it) holds NUL, which PostgreSQL cannot keep."""
    return b"\\u0000" in encoded and b"\\u0000" in encoded.replace(b"\\\\", b"")


def digest(name: str, canonical_data: bytes) -> str:
    """What the content of an event is told apart by: BLAKE2b-128 over canonical `{"data", "type"}`, 32 hex digits."""
    content = b'{"data":%b,"type":%b}' % (canonical_data, _encode(name))
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def key(source: str, id: str) -> bytes:
    """The 16 bytes that stand for a fact's (source, id): BLAKE2b-128 of source NUL id."""
    return hashlib.blake2b(f"{source}\0{id}".encode(), digest_size=16).digest()


def _upcast(
    event: events.EventType, version: int, data: dict[str, Any]
) -> msgspec.Struct:
    assert event.struct is not None
    try:
        newest = upcasters.upcast(event.name, version, event.version, data)
    except Exception:
        # An upcaster may raise anything on data that is not of its version: such data is invalid, not an accident.
        detail = f"data does not have the shape of version {version} of {event.name}."
        raise Unreadable(Reason.INVALID, detail) from None
    return msgspec.convert(newest, event.struct)


def _explained(event: events.EventType, error: msgspec.ValidationError) -> Unreadable:
    """The same error in a sentence of ours: msgspec's own may repeat a value that was sent."""
    text = str(error)
    match = _PATH.search(text) or _MISSING.search(text)
    if match is None:
        return Unreadable(
            Reason.INVALID, f"data must be an object with the fields of {event.name}."
        )
    if (
        "out of range" in text
        or " <= 9223372036854775807" in text
        or " >= -9223372036854775808" in text
    ):
        return Unreadable(
            Reason.UNSTORABLE, f"data.{match[1]} is a number out of range (64 bits)."
        )
    return Unreadable(
        Reason.INVALID, f"data.{match[1]} must be {rule(event, match[1])}."
    )


def rule(event: events.EventType, name: str) -> str:
    """The rule of a field of a type, in words: for error details and for the documents."""
    for declared in msgspec.inspect.type_info(event.struct).fields:  # type: ignore[union-attr]
        if declared.name == name:
            needed = "" if declared.required else ", or be left out"
            return _words(declared.type) + needed
    return "as the type says"


def _words(kind: Any) -> str:
    match kind:
        case msgspec.inspect.Metadata():
            return _words(kind.type)
        case msgspec.inspect.UnionType():
            return " or ".join(
                _words(one)
                for one in kind.types
                if not isinstance(one, msgspec.inspect.NoneType)
            )
        case msgspec.inspect.StrType(pattern=None):
            return f"a string of {kind.min_length or 0} to {kind.max_length} characters"
        case msgspec.inspect.StrType():
            return f"a string of {kind.min_length or 0} to {kind.max_length} characters in its usual form"
        case msgspec.inspect.LiteralType():
            return " or ".join(f'"{value}"' for value in kind.values)
        case msgspec.inspect.BoolType():
            return "true or false"
        case msgspec.inspect.IntType():
            return "a whole number"
        case _:
            return "of its declared type"
