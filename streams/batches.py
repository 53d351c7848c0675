"""Faust's transport, in batches: one message per lane and micro-batch instead of one per record.

Promises: a message's value is a `Batch` of spans that cover the log without a hole, control, aborted and
compacted records included. A lane gets its next batch when it is ready for it; until then records gather (up
to 8,000 or 8 MiB), its partitions are left alone beyond that, and the other lanes' flow on. Where a lane
reads on is decided by its claim in PostgreSQL alone: a batch fetched under an older claim is dropped, and
the seek that follows a claim comes before the next fetch. Aborted records of transactions are never
delivered (read_committed).
Limits: overrides private parts of faust-streaming 0.15.3 and aiokafka 0.14.0; `tests/contract/test_faust.py`
holds them to it.
Called by: `streams.app`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, Protocol, cast

import aiokafka
import aiokafka.errors
import faust
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage

from projections import records
from streams import fetches

TARGET = 8000
MOST_BYTES = 8 << 20
ADVICE_SECONDS = 1.0  # aiokafka tries a commit again for as long as the broker is away
LINGER = 0.004  # seconds a record may wait for company when its lane is idle


@dataclasses.dataclass(slots=True)
class Batch:
    """What a lane gets: spans of its partitions, read under one of its claims."""

    lane: Lane
    claim: int
    spans: dict[TP, records.Span]


class Lane(Protocol):
    """What the transport needs of a lane."""

    name: str

    def owns(self, tp: TP) -> bool: ...
    def assign(self, tps: frozenset[TP]) -> None: ...
    def ready(self) -> bool: ...
    def reserve(self, claim: int) -> None:
        """A batch of this claim is on its way: not ready until it is done."""

    def claimed(self) -> tuple[int, Mapping[TP, int]]:
        """The number of the claim that stands (0: none) and where it reads on."""


@dataclasses.dataclass(slots=True)
class Gathered:
    """What has been fetched for one lane and not delivered yet."""

    lane: Lane
    claim: int = 0
    partitions: frozenset[TP] = frozenset()
    spans: dict[TP, records.Span] = dataclasses.field(default_factory=dict)
    count: int = 0
    size: int = 0
    since: float = 0.0

    def drop(self) -> None:
        self.spans, self.count, self.size = {}, 0, 0

    def add(self, tp: TP, found: fetches.SpanList) -> None:
        if not self.spans:
            self.since = time.monotonic()
        span = self.spans.get(tp)
        if span is None:
            self.spans[tp] = records.Span(found.start, found.end, list(found))
        else:
            # A read that does not join on leaves a hole for the lane to see and refuse.
            span.start = span.start if span.end == found.start else -1
            span.end = found.end
            span.records.extend(found)
        self.count += len(found)
        self.size += sum(len(r.value) for r in found if r.value is not None)

    def full(self) -> bool:
        return self.count >= TARGET or self.size >= MOST_BYTES

    def ripe(self, now: float) -> bool:
        return bool(self.spans) and (self.full() or now - self.since >= LINGER) and self.lane.ready()

    def take(self) -> Batch:
        batch = Batch(self.lane, self.claim, self.spans)
        self.drop()
        self.lane.reserve(self.claim)
        return batch


class Thread(driver.AIOKafkaConsumerThread):
    """The consumer's thread: read_committed, range assignor, advisory commits."""

    def _create_worker_consumer(self, transport: Any) -> aiokafka.AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        consumer._isolation_level = "read_committed"
        consumer._partition_assignment_strategy = (RangePartitionAssignor,)
        consumer._fetch_max_wait_ms = 250
        consumer._fetch_max_bytes = 16 << 20
        # A worker whose lanes wait for PostgreSQL fetches nothing. After this long aiokafka would leave the
        # group, and would not join again before a fetch, which waits for partitions: a deadlock for ever.
        consumer._max_poll_interval_ms = float("inf")
        return consumer

    async def advise(self, offsets: Mapping[TP, int]) -> None:
        """Tell Kafka how far we are, for lag tools; whether it listens does not matter."""
        await self.call_thread(self._advise, offsets)

    async def group_error(self) -> Exception | None:
        """What the group's routine met and will not go on from before somebody has asked for it, once."""
        found: Exception | None = await self.call_thread(self._group_error)
        return found

    async def _group_error(self) -> Exception | None:
        try:
            self._ensure_consumer()._coordinator.check_errors()
        except aiokafka.errors.KafkaError as error:
            return cast("Exception", error)
        return None

    async def _advise(self, offsets: Mapping[TP, int]) -> None:
        consumer = self._ensure_consumer()
        held = consumer.assignment()
        named = {driver.ensure_aiokafka_TP(tp): offset for tp, offset in offsets.items() if tp in held}
        try:
            async with asyncio.timeout(ADVICE_SECONDS):
                await consumer.commit(named)
        except (aiokafka.errors.KafkaError, TimeoutError, ValueError):
            return


class Consumer(driver.Consumer):
    """Delivers batches to lanes; see the module."""

    gathered: list[Gathered]
    wake: asyncio.Event

    def _new_consumer_thread(self) -> Thread:
        return Thread(self, loop=self.loop, beacon=self.beacon)

    def use(self, lanes: Iterable[Lane], wake: asyncio.Event) -> None:
        """The lanes to deliver to, and the event that says one of them has become ready or has claimed."""
        self.gathered = [Gathered(lane) for lane in lanes]
        self.wake = wake

    async def advise(self, offsets: Mapping[TP, int]) -> None:
        """Tell Kafka how far the lanes are, for lag tools."""
        await cast("Thread", self._thread).advise(offsets)

    async def group_error(self) -> Exception | None:
        """An error of the consumer group that stands in its way until it was asked for here."""
        return await cast("Thread", self._thread).group_error()

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """On every assignment: lanes claim what is theirs; no fetch comes before their seek."""
        tps = self.assignment()
        for one in self.gathered:
            one.lane.assign(frozenset(tp for tp in tps if one.lane.owns(tp)))
        return {}

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, ConsumerMessage]]:  # noqa: ARG002
        fetch: asyncio.Task[Any] | None = None
        asked: dict[str, int] = {}
        try:
            while not self.should_stop:
                if not self.flow_active:
                    await self.wait(self.can_resume_flow)  # type: ignore[arg-type]
                    continue
                self.wake.clear()
                await self._follow_claims({} if fetch is None else asked)
                batch = self._next_ripe()
                if batch is not None:
                    yield self._message(batch)
                    continue
                if fetch is None:
                    wanted, patience = self._wanted()
                    asked = {one.lane.name: one.claim for one in self.gathered}
                    if wanted:
                        fetch = asyncio.ensure_future(self._thread.getmany(wanted, timeout=patience))
                await self._something(fetch)
                if fetch is not None and fetch.done():
                    self._gather(fetch.result(), asked)
                    fetch = None
        finally:
            if fetch is not None:
                fetch.cancel()

    async def _follow_claims(self, reading: Mapping[str, int]) -> None:
        """Seek where new claims say, once no older read is under way: it could take records from there."""
        for one in self.gathered:
            claim, offsets = one.lane.claimed()
            if claim == one.claim:
                continue
            one.drop()
            one.claim, one.partitions = 0, frozenset()
            if reading.get(one.lane.name):
                continue
            here = self.assignment()
            if claim and all(tp in here for tp in offsets):
                await self.seek_wait(offsets)
                one.claim, one.partitions = claim, frozenset(offsets)

    def _next_ripe(self) -> Batch | None:
        now = time.monotonic()
        for one in self.gathered:
            if one.ripe(now):
                return one.take()
        return None

    def _wanted(self) -> tuple[set[TP], float]:
        """Partitions to fetch from, and how long to wait for records: short while a lane sits out."""
        wanted: set[TP] = set()
        all_in = True
        for one in self.gathered:
            if one.claim and not one.full():
                wanted |= one.partitions
            else:
                all_in = False
        return wanted, 0.25 if all_in else 0.02

    async def _something(self, fetch: asyncio.Task[Any] | None) -> None:
        """Wait for records, for a lane that has become ready, or until what has gathered is ripe."""
        now = time.monotonic()
        waits = [
            max(0.0005, one.since + LINGER - now) for one in self.gathered if one.spans and one.lane.ready()
        ]
        woken = asyncio.ensure_future(self.wake.wait())
        others = [fetch] if fetch is not None else []
        await asyncio.wait(
            [woken, *others], timeout=min(waits, default=0.1), return_when=asyncio.FIRST_COMPLETED
        )
        woken.cancel()

    def _gather(self, found: Mapping[TP, fetches.SpanList], asked: Mapping[str, int]) -> None:
        for tp, spanned in found.items():
            for one in self.gathered:
                if tp in one.partitions and one.claim == asked[one.lane.name] == one.lane.claimed()[0]:
                    one.add(tp, spanned)

    def _message(self, batch: Batch) -> tuple[TP, ConsumerMessage]:
        tp, span = next(iter(batch.spans.items()))
        value: Any = batch
        message = ConsumerMessage(
            topic=tp.topic,
            partition=tp.partition,
            offset=span.end - 1,
            timestamp=time.time(),
            timestamp_type=1,
            headers=None,
            key=None,
            value=value,
            checksum=None,
            tp=tp,
            generation_id=self.app.consumer_generation_id,
        )
        return tp, message


class Transport(driver.Transport):
    """Faust's aiokafka transport with our consumer."""

    Consumer = Consumer


class Schema(faust.Schema[Any, Any]):
    """Hands a batch through as it is: lanes decode."""

    def loads_key(self, *_: Any, **__: Any) -> None:
        return None

    def loads_value(self, _: Any, message: Any, **__: Any) -> Any:  # type: ignore[override]
        return message.value
