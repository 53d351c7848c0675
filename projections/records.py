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
from schemas import admission, codec, envelope, errors, events, identifiers, sealing, told, topics
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
    subject: str | None = None


class Marks(msgspec.Struct, gc=False):
    """What rows are counted by, read from a fact's data without decoding the rest."""

    mailing_id: Annotated[str, msgspec.Meta(max_length=128)] | None = None
    test: bool = False


class Written(msgspec.Struct, gc=False):
    """A fact with its times as they are written, which is how COPY takes them."""

    id: envelope.Name
    source: envelope.Name
    type: envelope.TypeName
    subject: envelope.Subject
    time: str
    dataschema: str
    data: msgspec.Raw
    digest: envelope.Digest
    accepted: str
    actor: envelope.Name | None = None
    members: envelope.Members = ""
    sealed: envelope.Sealed = ""
    kid: envelope.Kid = ""


_written = msgspec.json.Decoder(Written).decode
_marks = msgspec.json.Decoder(Marks).decode
_CURRENT = {event.dataschema: event.name for event in events.EVENTS.values() if event.folded}
_NAMED = (*events.ANYONE,)
_NONE = "\\N"
_NOT_OURS = "the data of this fact is not what Heed writes."


@dataclasses.dataclass(slots=True)
class Decoded:
    """A batch of `facts`: lines for COPY, subjects to look at, what is set aside, what came twice.

    `lines` holds (time, digest, line, record) by the line's first two columns; `kids` are the keys that facts
    are sealed with; `sets` are the members of sets that are told of; `accepted` are times as text.
    """

    lines: dict[str, tuple[str, str, str, Record]] = dataclasses.field(default_factory=dict)
    kids: set[str] = dataclasses.field(default_factory=set)
    sets: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    touched: dict[str, int] = dataclasses.field(default_factory=dict)
    asides: list[Aside] = dataclasses.field(default_factory=list)
    accepted: list[str] = dataclasses.field(default_factory=list)
    duplicates: int = 0
    conflicts: int = 0

    def text(self) -> bytes:
        """The lines in order of their keys, so that index pages are visited once."""
        return "".join(sorted([line for _, _, line, _ in self.lines.values()])).encode()


def decode(records: Iterable[Record], homes: int | None) -> Decoded:
    """Facts as lines for COPY; never raises for what a record holds.

    Without `homes` nobody is told whom to look at: `touched` stays empty.
    """
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
    known = told.Told()
    if isinstance(value, Unread):
        reason, detail = errors.Reason.UNDECODABLE, value.detail
    elif reason != errors.Reason.UNDECODABLE and len(value) <= admission.MAX_BYTES:
        known = told.of(value)
    return Aside(
        reason, detail, record.topic, record.partition, record.offset, value,
        known.type, known.source, known.id, known.time, None, known.subject,
    )  # fmt: skip


def refused(record: Record) -> Aside:
    """A record that PostgreSQL would not keep."""
    return aside(record, errors.Reason.UNSTORABLE, "the database cannot keep this record.")


def _take(out: Decoded, home_of: dict[str, int], record: Record, homes: int | None) -> None:
    value = record.value or b""
    escaped = b"\\" in value
    fact = None if escaped else _as_written(value)
    if fact is None:
        fact = _restated(value)
    marks, data = _content(fact)
    subject, source, event_id, type_ = fact.subject, fact.source, fact.id, fact.type
    home = home_of.get(subject)
    if home is None:
        _well_formed(subject)
        if fact.members or subject.startswith(identities.SET):
            out.sets[subject] = _members(subject, fact.members)
        home = home_of[subject] = 0 if homes is None else topics.home(subject, homes)
    kid, sealed = fact.kid, fact.sealed
    if kid or sealed:
        if not sealed or kid not in out.kids:
            _check_sealed(kid, sealed, subject)
        out.kids.add(kid)
    mailing = marks.mailing_id
    key = codec.key(source, event_id)
    named, told, actor = f"{subject}\t{key}", mailing, fact.actor
    if escaped:
        named, source, event_id, data = (
            f"{_escape(subject)}\t{key}",
            _escape(source),
            _escape(event_id),
            _escape(data),
        )
        sealed = _escape(sealed)
        told = None if mailing is None else _escape(mailing)
        actor = None if actor is None else _escape(actor)
    time, digest = fact.time, fact.digest
    if type_ in engagement.WORDS:
        codec.open_content(events.EVENTS[type_], events.EVENTS[type_].version, fact.data)
    line = (
        f"{named}\t{source}\t{event_id}\t{type_}\t{time}\t{events.EVENTS[type_].version}\t{digest}\t"
        f"{fact.accepted}\t{'t' if marks.test else 'f'}\t{record.partition}\t{record.offset}\t"
        f"{_NONE if told is None else told}\t{_NONE if actor is None else actor}\t{data}\t"
        f"{sealed or _NONE}\t{kid or _NONE}\n"
    )
    standing = out.lines.get(named)
    if standing is not None:
        if standing[:2] == (time, digest):
            out.duplicates += 1
            return
        out.conflicts += 1
        if standing[:2] < (time, digest):
            return
    out.lines[named] = (time, digest, line, record)
    out.accepted.append(fact.accepted)
    if homes is not None and (standing is not None or engagement.counts(type_, mailing, marks.test)):
        out.touched[subject] = home


def _as_written(value: bytes) -> Written | None:
    """A fact in the very form that this Heed gives it, without escapes; None for what has another form."""
    try:
        fact = _written(value)
        if _CURRENT.get(fact.dataschema) == fact.type:
            envelope.check_times(fact.time, fact.accepted)
            return fact
    except (ValueError, RecursionError):
        pass
    return None


def _restated(value: bytes) -> Written:
    """Any other fact, as this Heed would write it."""
    fact = envelope.read_fact(value)
    event = events.EVENTS.get(fact.type)
    if event is None or not event.folded:
        raise codec.Unreadable(errors.Reason.UNKNOWN_TYPE, "this Heed does not know the type of this fact.")
    data = fact.data
    if fact.dataschema != event.dataschema:
        read = codec.content if fact.kid is None else codec.open_content
        content = read(event, codec.version(fact.dataschema, event), data)
        data = msgspec.Raw(codec.canonical(content))
    return Written(
        fact.id, fact.source, fact.type, fact.subject, envelope.format_time(fact.time), event.dataschema,
        data, fact.digest, envelope.format_time(fact.accepted), fact.actor, fact.members or "",
        fact.sealed or "", fact.kid or "",
    )  # fmt: skip


def _content(fact: Written) -> tuple[Marks, str]:
    """What the fact is counted by, and its data as text."""
    try:
        # What `Marks` leaves out was only skipped: it may not even be UTF-8.
        marks, data = _marks(fact.data), bytes(fact.data).decode()
    except (msgspec.DecodeError, ValueError, RecursionError):
        raise codec.Unreadable(errors.Reason.UNDECODABLE, _NOT_OURS) from None
    if "\n" in data or "\t" in data or "\r" in data:  # between its tokens: it would break COPY's lines
        raise codec.Unreadable(errors.Reason.UNDECODABLE, _NOT_OURS)
    return marks, data


def _check_sealed(kid: str, sealed: str, subject: str) -> None:
    """What is sealed names a key of the fact's own subject: with another's it would not be erased with it."""
    if not (sealed and sealing.is_kid(kid) and sealing.subject_of(kid) == subject):
        raise codec.Unreadable(
            errors.Reason.INVALID, "the sealed part of this fact names no key of its subject."
        )


def _well_formed(subject: str) -> None:
    """A contact's row can be told of in commands only under an id that Heed admits."""
    if identities.is_logged(subject) is None and subject.startswith(_NAMED):
        raise codec.Unreadable(errors.Reason.INVALID, "the subject of this fact is none that Heed admits.")


def _members(subject: str, told: str) -> list[str]:
    """Who is in a set, in the order in which they are asked for a contact."""
    try:
        return identifiers.members_of(subject, told)
    except ValueError:
        raise codec.Unreadable(errors.Reason.INVALID, "the members of this fact are not its set's.") from None


def _escape(text: str) -> str:
    """A value for COPY's text format."""
    if "\\" in text:
        text = text.replace("\\", "\\\\")
    return text.replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


def identity(record: Record) -> str:
    """What a record is known by at the next claim: offset, append time, and a hash of its bytes."""
    return f"{record.offset}:{record.timestamp}:{blake2b(record.value or b'', digest_size=8).hexdigest()}"
