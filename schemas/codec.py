"""Between bytes and the data of an event: JSON that may be anything, versions, canonical form, digest.

`content` turns data of any known version into the newest struct, and says what is wrong without repeating
what was sent. `canonical` is RFC 8785 for the types of `events`: their fields are strings, booleans and small
integers under ASCII names, for which msgspec's sorted output is that form (proved in tests against an
independent implementation).
Limits: fractions and non-ASCII field names would need a real RFC 8785 encoder; a test refuses types that have
them.
Called by admission (events), envelope (the log) and projections (data of a fact).
"""

import functools
import hashlib
import json
import re
from typing import Annotated, Any, Final, NoReturn

import msgspec

from schemas import events, upcasters
from schemas.errors import Reason

# A whole number that PostgreSQL's bigint can keep; beyond it an event is unstorable.
Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]

_HUGE: Final = 1e308
_surrogate: Final = re.compile("[\ud800-\udfff]")
_NULL: Final = msgspec.Raw(b"null")
_encode: Final = msgspec.json.Encoder(order="sorted").encode
_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_version: Final = re.compile(r"urn:heed:([a-z_]+(?:\.[a-z_]+)+):([1-9][0-9]*)").fullmatch
_place: Final = re.compile(r" - at `(?:key` in `)?\$\.([a-z0-9_]+)").search
_missing: Final = re.compile(r"missing required field `([a-z0-9_]+)`").search
_bracket: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?|([\[{])|([\]}])', re.DOTALL).finditer

DATASCHEMA_RULE: Final = "dataschema must be urn:heed:<type>:<version>, or be left out (version 1)."


class Unreadable(Exception):
    """What stands there cannot be read; it is parked, with a reason and a sentence that names the rule."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


def version(dataschema: str | None, event: events.EventType) -> int:
    """The version that `dataschema` names; raises Unreadable when it is not one that this Heed knows."""
    if dataschema is None:
        return 1
    if dataschema == event.dataschema:
        return event.version
    match = _version(dataschema)
    if match is None or match[1] != event.name:
        raise Unreadable(Reason.INVALID, DATASCHEMA_RULE)
    if len(match[2]) > 6 or int(match[2]) > event.version:
        detail = f"dataschema names a version of {event.name} that is newer than {event.version}."
        raise Unreadable(Reason.NEWER_VERSION, detail)
    return int(match[2])


def content(event: events.EventType, version: int, data: bytes | msgspec.Raw) -> msgspec.Struct:
    """Data of a version as the newest struct of its type (absent data is `{}`); raises Unreadable."""
    assert event.struct is not None, event
    return _content(event, event.struct, event.decode, version, data)


def open_content(event: events.EventType, version: int, data: bytes | msgspec.Raw) -> msgspec.Struct:
    """As `content`, of a fact whose personal part is sealed: what stands open of it.

    That part keeps its names and its meaning in every version, so upcasters can do without it.
    """
    assert event.open is not None, event
    return _content(event, event.open, event.decode_open, version, data)


def parts(event: events.EventType, data: bytes) -> tuple[bytes, bytes]:
    """Canonical data in two: what stands open, and what is personal (b"" where there is nothing)."""
    if not event.personal:
        return data, b""
    personal = _encode(event.decode_personal(data))
    return (data, b"") if personal == b"{}" else (_encode(event.decode_open(data)), personal)


def joined(opened: bytes, personal: bytes) -> bytes:
    """Canonical data out of its two parts."""
    return _encode(_members(opened) | _members(personal))


def _content(
    event: events.EventType,
    struct: type[msgspec.Struct],
    decode: events.Decode,
    version: int,
    data: bytes | msgspec.Raw,
) -> msgspec.Struct:
    if not data or data == _NULL:
        data = b"{}"
    try:
        if version == event.version:
            return _decoded(decode, data)
        return _upcast(event, struct, version, data)
    except msgspec.ValidationError as error:
        raise _explained(event, error) from None
    except (ValueError, RecursionError):
        raise Unreadable(Reason.UNDECODABLE, "data is not valid JSON in UTF-8.") from None


def canonical(data: msgspec.Struct) -> bytes:
    """The canonical JSON (RFC 8785) of the data of an event."""
    return _encode(data)


def digest(name: str, canonical_data: bytes, secret: bytes) -> str:
    """What contents are told apart by: BLAKE2b-128 over the canonical `{"data", "type"}`, 32 hex digits.

    Keyed by the installation's secret (up to 64 bytes): nobody else can try which content it stands for.
    """
    whole = b'{"data":%b,"type":"%b"}' % (canonical_data, name.encode())
    return hashlib.blake2b(whole, digest_size=16, key=secret).hexdigest()


def key(source: str, id: str) -> str:
    """The 32 hex digits that stand for a fact's (source, id): BLAKE2b-128 of source NUL id."""
    return hashlib.blake2b(f"{source}\0{id}".encode(), digest_size=16).hexdigest()


def has_nul(encoded: bytes) -> bool:
    """Whether a string in this JSON (as msgspec writes it) holds NUL, which PostgreSQL cannot keep."""
    if b"\\" not in encoded:
        return False
    return b"\\u0000" in encoded.replace(b"\\\\", b"")


def depth(raw: bytes) -> int:
    """How deep the brackets nest, those inside strings left out."""
    now = deepest = 0
    for match in _bracket(raw):
        if match[1]:
            now += 1
            deepest = max(deepest, now)
        elif match[2]:
            now -= 1
    return deepest


def mended(raw: bytes) -> bytes:
    """The same JSON with NUL for each lone surrogate, and a huge number for each that no float can hold.

    NUL cannot be kept either, so such a text is unstorable where it would be kept, and ignored elsewhere.
    For rare cases: 20 times slower than msgspec. Raises ValueError or RecursionError for what is no JSON.
    """
    value = json.loads(raw.decode(), parse_constant=_refuse, parse_int=_integer, parse_float=_fraction)
    return json.dumps(_storable(value), ensure_ascii=False).encode()


def once_each(raw: bytes) -> bytes | None:
    """The same JSON with the last alone of members of one name; None where every name stands once.

    For what was found ill-formed: the decoder looks at each of them, and the last is what counts. As slow as
    `mended`, and raises as it does.
    """
    twice = False

    def last(members: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal twice
        found = dict(members)
        twice = twice or len(found) < len(members)
        return found

    value = json.loads(
        raw.decode(),
        parse_constant=_refuse,
        parse_int=_integer,
        parse_float=_fraction,
        object_pairs_hook=last,
    )
    return json.dumps(_storable(value), ensure_ascii=False).encode() if twice else None


@functools.cache
def rule(struct: type[msgspec.Struct], name: str) -> str:
    """The rule of a field, in words: for error details and for the documents."""
    info = msgspec.inspect.type_info(struct)
    assert isinstance(info, msgspec.inspect.StructType), struct
    field = next(one for one in info.fields if one.encode_name == name)
    return _words(field.type) + ("" if field.required else ", or be left out")


def _decoded(decode: events.Decode, data: bytes | msgspec.Raw) -> msgspec.Struct:
    try:
        return decode(data)
    except msgspec.ValidationError:
        once = once_each(bytes(data))
        if once is None:
            raise
        return decode(once)


def _upcast(
    event: events.EventType, struct: type[msgspec.Struct], version: int, data: bytes | msgspec.Raw
) -> msgspec.Struct:
    try:
        old = msgspec.json.decode(data)
    except msgspec.DecodeError:
        old = msgspec.json.decode(mended(bytes(data)))
    if not isinstance(old, dict):
        raise Unreadable(Reason.INVALID, "data must be an object.")
    try:
        newest = upcasters.upcast(event.name, version, event.version, old)
    except Exception:
        # An upcaster may raise anything on data that is not of its version: that is invalid, no accident.
        detail = f"data does not have the shape of version {version} of {event.name}."
        raise Unreadable(Reason.INVALID, detail) from None
    return msgspec.convert(newest, struct)


def _explained(event: events.EventType, error: msgspec.ValidationError) -> Unreadable:
    """The same error in a sentence of ours: msgspec's own may repeat a value that was sent."""
    text = str(error)
    match = _place(text) or _missing(text)  # what is missing inside of a field is the field's fault
    if match is None or event.struct is None:
        return Unreadable(Reason.INVALID, "data must be an object.")
    name = match[1]
    if "out of range" in text or " <= 9223372036854775807" in text or " >= -9223372036854775808" in text:
        return Unreadable(Reason.UNSTORABLE, f"data.{name} is a number out of range.")
    return Unreadable(Reason.INVALID, f"data.{name} must be {rule(event.struct, name)}.")


def _words(kind: Any) -> str:
    match kind:
        case msgspec.inspect.Metadata():
            return _words(kind.type)
        case msgspec.inspect.UnionType():
            return " or ".join(_words(one) for one in kind.types if one != msgspec.inspect.NoneType())
        case msgspec.inspect.StrType(pattern=None):
            return f"a string of {kind.min_length or 0} to {kind.max_length} characters"
        case msgspec.inspect.StrType():
            return f"a string of {kind.min_length or 0} to {kind.max_length} characters in its usual form"
        case msgspec.inspect.LiteralType():
            return " or ".join(f'"{value}"' for value in kind.values)
        case msgspec.inspect.StructType(fields=fields):
            return "an object with " + " and ".join(
                f"{one.encode_name} ({_words(one.type)})" for one in fields
            )
        case msgspec.inspect.ListType():
            return f"a list of at most {kind.max_length}, each {_words(kind.item_type)}"
        case msgspec.inspect.DictType():
            names, values = _words(kind.key_type), _words(kind.value_type)
            return f"an object of at most {kind.max_length} members, each name {names}, each value {values}"
        case msgspec.inspect.BoolType():
            return "true or false"
        case msgspec.inspect.IntType():
            return "a whole number"
        case _:
            return "of its declared type"


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


def _integer(text: str) -> float:
    return int(text) if len(text) < 40 else _HUGE


def _fraction(text: str) -> float:
    value = float(text)
    return _HUGE if abs(value) == float("inf") else value


def _storable(value: Any) -> Any:
    if isinstance(value, dict):
        return {_storable(name): _storable(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_storable(member) for member in value]
    if isinstance(value, str) and not value.isascii():
        return _surrogate.sub("\0", value)
    return value
