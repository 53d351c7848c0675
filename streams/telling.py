"""Facts that Heed itself tells, on somebody's word: what was decided for all of it, and changes of contacts.

Promises: when `append` returns, every fact stands on its topic. A fact has an id of its own, or the one given
(whoever says the same twice under one id says one thing). Every fact names its actor (CEE-14).
Limits: it is in force when its home's owner, or the registry's, has folded it, a moment later.
Called by: the API (settings, keys, contacts, sessions, parked), the registry's lane (first values), the
command line.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, Protocol

import msgspec
from uuid_utils import compat

from schemas import codec, commands, envelope, events
from streams import producer

SOURCE: Final = commands.SOURCE
FIRST: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Way(Protocol):
    """How records come onto Kafka: `producer.LogProducer`, or the API's."""

    async def append(self, records: Sequence[producer.Record]) -> None: ...


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """A fact to be: its type, whom or what it is about, its content, who asked for it."""

    type: str
    subject: str
    content: msgspec.Struct
    actor: str
    id: str | None = None
    time: datetime | None = None


def record(entry: Entry, now: datetime | None = None) -> producer.Record:
    """The record of a fact; its time, unless it has one, is now.

    Which partition of `facts` is left to Kafka, whose own for the key is the subject's home.
    """
    now = now or datetime.now(UTC)
    event = events.EVENTS[entry.type]
    assert event.attributed, entry.type
    assert not event.personal, entry.type  # it would have to be sealed, as admission does
    data = codec.canonical(entry.content)
    # The digest of what Heed itself decides needs no key: nothing personal stands there that could be tried.
    written = envelope.Written(
        entry.id or str(compat.uuid7()), SOURCE, entry.type, entry.subject,
        envelope.format_time(entry.time or now), event.dataschema, msgspec.Raw(data),
        codec.digest(entry.type, data, b""), envelope.format_time(now), entry.actor,
    )  # fmt: skip
    partition = 0 if event.registered else None
    return producer.Record(event.topic, partition, entry.subject.encode(), envelope.write_fact(written))


async def append(way: Way, entries: Sequence[Entry]) -> None:
    """Write facts and wait for every acknowledgement; raises `errors.Away`."""
    await way.append([record(entry) for entry in entries])
