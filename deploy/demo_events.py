"""How the demo writes an event down: a CloudEvent as any producer writes it, and when and how it is sent.

Promises: ids are numbered in the order of writing, so the same calls give the same bytes.

Called by `deploy.demo_history` and `deploy.demo_trouble`.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import msgspec

from schemas import envelope, events

# Part of every id: a history that is made otherwise is another history.
EDITION: Final = 2
MAIL: Final = "urn:example.org:mail"
CRM: Final = "urn:example.org:crm"
SECOND: Final = 1000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR
MONTH: Final = 2_629_800 * SECOND


class Event(msgspec.Struct, omit_defaults=True):
    specversion: str
    id: str
    source: str
    type: str
    subject: str | None
    time: str
    data: dict[str, Any]
    dataschema: str | None = None


class Letter(NamedTuple):
    """An event on its way: when it is sent (only the order counts), through which door, and its bytes."""

    sent: int
    by_http: bool
    door: str
    key: bytes | None
    value: bytes


class Writer:
    """Writes letters of the time from `start` to `anchor` (milliseconds), all chance drawn from one seed."""

    def __init__(self, seed: int, start: int, anchor: int) -> None:
        self.dice = random.Random(seed)
        self.start, self.anchor = start, anchor
        self.letters: list[Letter] = []
        self.encode = msgspec.json.Encoder().encode
        self._seed, self._count = seed, 0

    def write(
        self, kind: str, subject: str, at: int, data: dict[str, Any], by_http: bool
    ) -> tuple[str, str] | None:
        """A good event; answers its source and id. Nothing of the time after the anchor is written."""
        if at > self.anchor:
            return None
        event, door = self.event(kind, subject, at, data), events.EVENTS[kind].door or ""
        self.send(at, by_http, door, subject.encode(), self.encode(event))
        return event.source, event.id

    def event(self, kind: str, subject: str, at: int, data: dict[str, Any]) -> Event:
        self._count += 1
        source = MAIL if kind.startswith("mail.") else CRM
        name = f"{EDITION}-{self._seed}-{self._count:07d}"
        return Event("1.0", name, source, kind, subject, say(at), data)

    def send(self, sent: int, by_http: bool, door: str, key: bytes | None, value: bytes) -> None:
        self.letters.append(Letter(sent, by_http, door, key, value))

    def any_time(self) -> int:
        return self.start + int(self.dice.random() * (self.anchor - self.start))


def say(at: int) -> str:
    return envelope.format_time(datetime.fromtimestamp(at / 1000, UTC))
