"""Records of the log as a fold takes them: spans of partitions, decoded once, ready to be copied in.

Promises: a batch says exactly which offsets it covers (`Span`), control records, aborted and compacted ones
included; what cannot be read is set aside with its reason and never stops the others; of two contents under
one key the smaller (time, digest) goes on, whichever came first.
Limits: pure; one call decodes one batch (at most 8,000 records or 8 MiB).
Called by: the fold lanes, replay, law tests.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from datetime import datetime
from hashlib import blake2b
from typing import Annotated, Protocol

import msgspec

from projections import engagement
from schemas import codec, envelope, errors, events, topics
from schemas import identity as identities


class Record(Protocol):
    """What is used of a Kafka record (aiokafka's ConsumerRecord fits)."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def value(self) -> bytes | None: ...


class Unread(bytes):
    """A batch that cannot be read, as it lies on the broker, in place of a value; `detail` says why.

    It begins with its offset, so with a NUL: nothing takes it for an event.
    """

    detail: str

    def __new__(cls, raw: bytes | memoryview, detail: str) -> Unread:
        made = super().__new__(cls, raw)
        made.detail = detail
        return made


@dataclasses.dataclass(slots=True)
class Span:
    """Offsets [start, end) of one partition, and the records that lie there."""

    start: int
    end: int
    records: list[Record]


@dataclasses.dataclass(frozen=True, slots=True)
class Aside:
    """A record that cannot be folded, with its reason, as it is parked."""

    reason: str
    detail: str
    topic: str
    part: int
    off: int
    raw: bytes
    type: str | None = None
    source: str | None = None
    event_id: str | None = None
    event_time: datetime | None = None
    door: str | None = None


class Marks(msgspec.Struct, gc=False):
    """What rows are counted by, read from a fact's data without decoding the rest."""

    mailing_id: Annotated[str, msgspec.Meta(max_length=128)] | None = None
    test: bool = False


_marks = msgspec.json.Decoder(Marks).decode
_NONE = "\\N"
_NOT_OURS = "the data of this fact is not what Heed writes."


@dataclasses.dataclass(slots=True)
class Decoded:
    """A batch of `facts`: lines for COPY by key, subjects to look at, what is set aside, what came twice."""

    lines: dict[tuple[str, str], tuple[str, str, str, Record]] = dataclasses.field(default_factory=dict)
    touched: dict[str, int] = dataclasses.field(default_factory=dict)
    asides: list[Aside] = dataclasses.field(default_factory=list)
    accepted: list[datetime] = dataclasses.field(default_factory=list)
    duplicates: int = 0
    conflicts: int = 0

    def text(self) -> bytes:
        """The lines in order of their keys, so that index pages are visited once."""
        lines = self.lines
        return "".join([lines[key][2] for key in sorted(lines)]).encode()


def decode(records: Iterable[Record], homes: int) -> Decoded:
    """Facts as lines for COPY; never raises for what a record holds."""
    out = Decoded()
    home_of: dict[str, int] = {}
    for record in records:
        try:
            _take(out, home_of, record, homes)
        except codec.Unreadable as error:
            out.asides.append(aside(record, error.reason, error.detail))
    return out


def aside(record: Record, reason: str, detail: str) -> Aside:
    """A record of the log that cannot be folded, by its coordinates."""
    value = record.value or b""
    if isinstance(value, Unread):
        reason, detail = errors.Reason.UNDECODABLE, value.detail
    return Aside(reason, detail, record.topic, record.partition, record.offset, value)


def refused(record: Record) -> Aside:
    """A record that PostgreSQL would not keep."""
    return aside(record, errors.Reason.UNSTORABLE, "the database cannot keep this record.")


def _take(out: Decoded, home_of: dict[str, int], record: Record, homes: int) -> None:
    value = record.value or b""
    fact = envelope.read_fact(value)
    marks, version, data = _content(fact)
    subject = fact.subject
    home = home_of.get(subject)
    if home is None:
        _well_formed(subject)
        home = home_of[subject] = topics.home(subject, homes)
    mailing = marks.mailing_id
    source, event_id = fact.source, fact.id
    key = codec.key(source, event_id).hex()
    if b"\\" in value:
        source, event_id, data = _escape(source), _escape(event_id), _escape(data)
        subject_text, mailing_text = _escape(subject), _NONE if mailing is None else _escape(mailing)
        type_text = _escape(fact.type)
    else:
        subject_text, mailing_text, type_text = subject, _NONE if mailing is None else mailing, fact.type
    time = envelope.format_time(fact.time)
    line = (
        f"{subject_text}\t{key}\t{source}\t{event_id}\t{type_text}\t{time}\t{version}\t{fact.digest}\t"
        f"{envelope.format_time(fact.accepted)}\t{'t' if marks.test else 'f'}\t{record.partition}\t"
        f"{record.offset}\t{mailing_text}\t{data}\n"
    )
    named = (subject, key)
    standing = out.lines.get(named)
    if standing is not None:
        if standing[:2] == (time, fact.digest):
            out.duplicates += 1
            return
        out.conflicts += 1
        if standing[:2] < (time, fact.digest):
            return
    out.lines[named] = (time, fact.digest, line, record)
    out.accepted.append(fact.accepted)
    if engagement.counts(fact.type, mailing, marks.test) or standing is not None:
        out.touched[subject] = home


def _well_formed(subject: str) -> None:
    """A contact's row can be told of in commands only under an id that Heed admits."""
    if identities.contact_id(subject) is not None and identities.is_contact_subject(subject) is None:
        raise codec.Unreadable(errors.Reason.INVALID, "the contact id of this fact is none that Heed admits.")


def _content(fact: envelope.Fact) -> tuple[Marks, int, str]:
    """What the fact is counted by, its version, and its data at the newest version."""
    event = events.EVENTS.get(fact.type)
    if event is None or not event.built:
        raise codec.Unreadable(errors.Reason.UNKNOWN_TYPE, "this Heed does not know the type of this fact.")
    try:
        if fact.dataschema == event.dataschema:
            # What `Marks` leaves out was only skipped: it may not even be UTF-8.
            marks, data = _marks(fact.data), bytes(fact.data).decode()
        else:
            content = codec.content(event, codec.version(fact.dataschema, event), fact.data)
            newest = codec.canonical(content)
            marks, data = _marks(newest), newest.decode()
    except (msgspec.DecodeError, ValueError, RecursionError):
        raise codec.Unreadable(errors.Reason.UNDECODABLE, _NOT_OURS) from None
    if "\n" in data or "\t" in data or "\r" in data:  # between its tokens: it would break COPY's lines
        raise codec.Unreadable(errors.Reason.UNDECODABLE, _NOT_OURS)
    return marks, event.version, data


def _escape(text: str) -> str:
    """A value for COPY's text format."""
    if "\\" in text:
        text = text.replace("\\", "\\\\")
    return text.replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


def identity(record: Record) -> str:
    """What a record is known by at the next claim: offset, append time, and a hash of its bytes."""
    return f"{record.offset}:{record.timestamp}:{blake2b(record.value or b'', digest_size=8).hexdigest()}"
