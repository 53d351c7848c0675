"""Records of one event id on the topics: at the places where facts came from, around a time, and behind the
readers' positions.

Promises: bounded in records and in seconds, and says what was read and whether that was all. Batches are read
as workers read them (`streams.wire`), so that nothing that stands on a topic can end who looks.
Limits: an id is looked for as it stands in JSON; one with exotic escapes is not found.
Called by: `streams.event_trace`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import aiokafka
import aiokafka.errors
import msgspec
import orjson

from schemas import codec, envelope, errors, settings, topics
from streams import broker, fetches, log

MOST_RECORDS: Final = 300_000
GO_ON: Final = 200  # milliseconds a read may wait

Place = tuple[str, int, int]
TP = tuple[str, int]


@dataclasses.dataclass(frozen=True, slots=True)
class Wanted:
    """What is looked for: an id (of a source), known places, and spans of time to look through."""

    id: str
    source: str | None
    places: tuple[Place, ...]
    around: tuple[tuple[datetime, datetime], ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Seen:
    """A record with the id; of its content only what names it."""

    place: Place
    at: datetime
    headers: dict[str, str]
    source: str | None = None
    subject: str | None = None
    type: str | None = None
    time: datetime | None = None
    digest: str | None = None


@dataclasses.dataclass(slots=True)
class Found:
    records: list[Seen] = dataclasses.field(default_factory=list)
    searched: list[str] = dataclasses.field(default_factory=list)


class _Event(msgspec.Struct):
    """What names an event, at a door or on the log; the rest may be anything."""

    id: Any = None
    source: Any = None
    subject: Any = None
    type: Any = None
    time: Any = None
    digest: Any = None


_decode = msgspec.json.Decoder(_Event).decode


def look(chosen: settings.Settings, wanted: Wanted, positions: Mapping[TP, int], seconds: float) -> Found:
    """Read; never raises for Kafka: what could not be read is said in `searched`."""
    fetches.keep_headers()
    found = Found()

    async def run() -> None:
        async with log.reading(broker.of(chosen)) as consumer:
            await _Search(consumer, wanted, found, time.monotonic() + seconds).run(chosen.homes, positions)

    try:
        asyncio.run(asyncio.wait_for(run(), 2 * seconds))
    except (errors.Away, aiokafka.errors.KafkaError, TimeoutError, OSError):
        found.searched.append("Kafka did not answer: its topics were not searched, or not to the end")
    return found


class _Search:
    def __init__(self, consumer: Any, wanted: Wanted, found: Found, until: float) -> None:
        self._consumer = consumer
        self._wanted = wanted
        self._found = found
        self._until = until
        self._left = MOST_RECORDS
        self._seen: set[Place] = set()
        texts = {orjson.dumps(wanted.id), msgspec.json.encode(wanted.id), _ascii(wanted.id)}
        self._needles = [text.strip(b'"') for text in texts]

    async def run(self, homes: int, positions: Mapping[TP, int]) -> None:
        there = await self._consumer.topics()
        names = [one for one in topics.all_topics(homes) if one.name != topics.COMMANDS and one.name in there]
        tps = [aiokafka.TopicPartition(one.name, part) for one in names for part in range(one.partitions)]
        first = await self._consumer.beginning_offsets(tps)
        end = await self._consumer.end_offsets(tps)
        known = {tp: [] for tp in tps}  # type: dict[Any, list[tuple[int, int]]]
        for topic, part, offset in self._wanted.places:
            tp = aiokafka.TopicPartition(topic, part)
            if tp in known and first[tp] <= offset < end[tp]:
                known[tp].append((offset, offset + 1))
        await self._read("the places where its facts came from", known)
        behind = {tp: [(max(first[tp], positions.get(tuple(tp), 0)), end[tp])] for tp in tps}
        await self._read("what the readers have not read yet", behind)
        for since, upto in self._wanted.around:
            spans = await self._between(tps, end, since, upto)
            await self._read(f"doors and log from {envelope.format_time(since)} to "
                             f"{envelope.format_time(upto)}", spans)  # fmt: skip

    async def _between(
        self, tps: list[Any], end: Mapping[Any, int], since: datetime, upto: datetime
    ) -> dict[Any, list[tuple[int, int]]]:
        """Offsets appended between two instants, by the broker's index of times."""
        starts, stops = [
            await self._consumer.offsets_for_times({tp: int(when.timestamp() * 1000) for tp in tps})
            for when in (since, upto)
        ]
        return {
            tp: [(starts[tp].offset if starts[tp] else end[tp], stops[tp].offset if stops[tp] else end[tp])]
            for tp in tps
        }

    async def _read(self, what: str, spans: Mapping[Any, list[tuple[int, int]]]) -> None:
        """Read these offsets; says how many records there were, and whether that was all."""
        before, cut = self._left, False
        for turn in range(max((len(some) for some in spans.values()), default=0)):
            now = {tp: some[turn] for tp, some in spans.items() if turn < len(some)}
            cut |= not await self._through({tp: one for tp, one in now.items() if one[0] < one[1]})
        number = before - self._left
        self._found.searched.append(f"{what}: {number:,} records" + (", cut short" if cut else ""))

    async def _through(self, spans: dict[Any, tuple[int, int]]) -> bool:
        """Read one span of each partition; answers whether all was read."""
        if not spans:
            return True
        self._consumer.assign(list(spans))
        for tp, (start, _) in spans.items():
            self._consumer.seek(tp, start)
        waiting = dict(spans)
        while waiting:
            if self._left <= 0 or time.monotonic() > self._until:
                return False
            for tp, some in (await self._consumer.getmany(*waiting, timeout_ms=GO_ON)).items():
                _, stop = waiting[tp]
                self._left -= len(some)
                self._take(record for record in some if record.offset < stop)
                if some.end >= stop:
                    del waiting[tp]
                    self._consumer.pause(tp)
        return True

    def _take(self, records: Iterable[Any]) -> None:
        for record in records:
            value = record.value or b""
            place = (record.topic, record.partition, record.offset)
            if place in self._seen or not any(needle in value for needle in self._needles):
                continue
            event = _named(value)
            if event.id != self._wanted.id or self._wanted.source not in (None, event.source):
                continue
            self._seen.add(place)
            at = datetime.fromtimestamp(record.timestamp / 1000, UTC)
            self._found.records.append(
                Seen(
                    place,
                    at,
                    _headers(record.headers),
                    _text(event.source),
                    _text(event.subject),
                    _text(event.type),
                    _time(event.time),
                    _text(event.digest),
                )
            )


def _named(value: bytes) -> _Event:
    try:
        return _decode(value)
    except (ValueError, RecursionError):
        return _Event()


def _headers(found: Iterable[tuple[str, bytes]]) -> dict[str, str]:
    """The headers that Heed writes, where they have the form that it gives them."""
    told: dict[str, str] = {}
    for name, value in found:
        text = (value or b"").decode("ascii", "replace")[:64]
        if (
            (name in ("partition", "offset") and text.isdigit())
            or (name == "door" and text in topics.DOORS)
            or name == "traceparent"
        ):
            told[name] = text
    return told


def _text(value: Any) -> str | None:
    return value[:256] if isinstance(value, str) else None


def _time(value: Any) -> datetime | None:
    try:
        return envelope.parse_time(value) if isinstance(value, str) else None
    except codec.Unreadable:
        return None


def _ascii(text: str) -> bytes:
    return json.dumps(text).encode()
