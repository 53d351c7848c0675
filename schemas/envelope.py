"""The envelope: CloudEvents 1.0 as producers send it, and as the log keeps it.

`Incoming` is what a producer may send, read once and leniently: attributes that are not declared are ignored,
so a `digest` or an `accepted` of a stranger is dropped. `Fact` is a record of the log: keys in the order of
`Written`, times in UTC with milliseconds, `data` of the newest version with declared fields only, the digest
of type and data.
`actor` names who told it, where it tells of Heed itself or of who somebody is (`EventType.attributed`). Where
something of the data is personal it stands in `sealed`, encrypted under the key that `kid` names, and `data`
has the rest; the digest is of the whole.
`members` are those of a set of identifiers, where the subject is one (`schemas.identifiers`).
Limits: a leap second cannot be told.
Called by admission (writes) and by the fold, replay and the API (read).
"""

import re
from datetime import UTC, datetime
from typing import Annotated, Final

import msgspec

from schemas import codec, events
from schemas.errors import Reason

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
TypeName = Annotated[str, msgspec.Meta(max_length=128)]
Subject = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
Digest = Annotated[str, msgspec.Meta(max_length=32, pattern="^[0-9a-f]{32}$")]
Sealed = Annotated[
    str,
    msgspec.Meta(max_length=2**16, description="The personal part of data, encrypted; base64."),
]
Kid = Annotated[
    str, msgspec.Meta(max_length=256, description="The key that it is encrypted under; in the topic keys.")
]
Members = Annotated[
    str,
    msgspec.Meta(max_length=512, description="Of a set: its members as subjects, commas between them."),
]
Moment = Annotated[datetime, msgspec.Meta(tz=True)]

_CLOCK: Final = r"-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:\d\d)"
_is_rfc3339: Final = re.compile(r"\d{4}" + _CLOCK, re.ASCII).fullmatch
_is_far: Final = re.compile(r"(?:[+-]\d{4,}|\d{5,}|0000)" + _CLOCK, re.ASCII).fullmatch

_NO_TIME: Final = (
    "time must be RFC 3339 with a zone, as 2026-01-31T09:00:00.000Z, and exist; seconds are 00 to 59."
)
_FAR_TIME: Final = "time is out of range: the years 1 to 9999 in UTC can be kept."


class Incoming(msgspec.Struct, frozen=True, gc=False):
    """An event as it comes: what is declared here is looked at, the rest is ignored."""

    specversion: str | None = None
    id: Name | None = None
    source: Name | None = None
    type: str | None = None
    subject: str | None = None
    time: str | None = None
    dataschema: str | None = None
    data: msgspec.Raw = msgspec.Raw(b"null")
    traceparent: str | None = None


class Written(msgspec.Struct, gc=False, omit_defaults=True):
    """A fact as it is written to the log; `Fact` reads it."""

    id: str
    source: str
    type: str
    subject: str
    time: str
    dataschema: str
    data: msgspec.Raw
    digest: str
    accepted: str
    actor: str | None = None
    members: str | None = None
    sealed: str | None = None
    kid: str | None = None


class Fact(msgspec.Struct, frozen=True, gc=False):
    """A fact as it is read from the log."""

    id: Name
    source: Name
    type: TypeName
    subject: Subject
    time: Moment
    dataschema: str
    data: msgspec.Raw
    digest: Digest
    accepted: Moment
    specversion: str = "1.0"
    actor: Name | None = None
    members: Members | None = None
    sealed: Sealed | None = None
    kid: Kid | None = None

    @property
    def version(self) -> int:
        """The version of its data."""
        return int(self.dataschema.rpartition(":")[2])


_decode: Final = msgspec.json.Decoder(Fact).decode
_encode: Final = msgspec.json.Encoder().encode


def write_fact(fact: Written) -> bytes:
    """The bytes of a fact, as they stand on the log."""
    return b'{"specversion":"1.0",' + _encode(fact)[1:]


def with_sealed(value: bytes, sealed: str, kid: str) -> bytes:
    """The bytes of a fact with its sealed part: neither it nor a kid holds what JSON escapes."""
    return b'%b,"sealed":"%b","kid":"%b"}' % (value[:-1], sealed.encode(), kid.encode())


def read_fact(value: bytes) -> Fact:
    """A record of the log; raises codec.Unreadable for anything that Heed did not write."""
    try:
        fact = _decode(value)
        # Heed writes UTC: another offset is a stranger's, and would be taken for UTC further on.
        in_utc = fact.time.tzinfo is UTC and fact.accepted.tzinfo is UTC
        if in_utc and not (b"\\" in value and codec.has_nul(value)):
            return fact
    except (ValueError, RecursionError):
        pass
    raise codec.Unreadable(Reason.UNDECODABLE, "this record is not a fact that Heed wrote.")


def read_content(fact: Fact, personal: bytes = b"{}") -> msgspec.Struct:
    """The data of a fact with its personal part, opened, as the newest struct; raises codec.Unreadable."""
    event = events.EVENTS.get(fact.type)
    if event is None or not event.built:
        raise codec.Unreadable(Reason.UNKNOWN_TYPE, "this Heed does not know the type of this fact.")
    data = codec.joined(bytes(fact.data), personal)
    return codec.content(event, codec.version(fact.dataschema, event), data)


def format_time(moment: datetime) -> str:
    """An aware UTC time as RFC 3339, cut to the millisecond: always 24 characters."""
    text = _encode(moment)
    return (text[1:24] + b"Z" if len(text) > 24 else text[1:20] + b".000Z").decode()


def is_canonical(text: str) -> bool:
    """Whether a time that can be read stands in the very form that `format_time` gives."""
    return len(text) == 24 and text[4:20:3] == "--T::." and text[23] == "Z"


def check_times(*texts: str) -> None:
    """Raises ValueError unless each is a time in the very form that `format_time` gives."""
    for text in texts:
        if not is_canonical(text):
            raise ValueError(text)
        datetime.fromisoformat(text)


def parse_time(text: str) -> datetime:
    """RFC 3339 with a zone as UTC, cut (never rounded) to the millisecond; raises codec.Unreadable."""
    if is_canonical(text):
        try:
            return datetime.fromisoformat(text)
        except ValueError:
            pass
    if _is_far(text) is not None:
        raise codec.Unreadable(Reason.UNSTORABLE, _FAR_TIME)
    if _is_rfc3339(text) is None:
        raise codec.Unreadable(Reason.INVALID, _NO_TIME)
    try:
        moment = datetime.fromisoformat(text.upper()).astimezone(UTC)
    except OverflowError:
        raise codec.Unreadable(Reason.UNSTORABLE, _FAR_TIME) from None
    except ValueError:
        raise codec.Unreadable(Reason.INVALID, _NO_TIME) from None
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
