"""What lies on the log: ends of partitions, single records; and whether a position still fits what lies
there.

Promises: a claim is believed only if the log still reaches from its start to where the reader stands and,
where it still lies there, the last record read is the same: so a truncated, replaced or recreated topic is
noticed instead of being skipped in silence.
Limits: asks Kafka with a consumer of its own, without a group; a call takes up to 10 s.
Called by: lanes (when they claim); its `reading` by whoever reads without a group.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import dataclasses
from collections.abc import Coroutine, Iterable, Mapping
from typing import Any

import aiokafka
import aiokafka.errors
import structlog
from faust.types import TP

from projections import positions, records
from schemas import errors, topics
from streams import broker

FOR_EVER = frozenset({topics.FACTS, topics.REGISTRY, topics.KEYS})
MAY_EXPIRE = frozenset({topics.COMMANDS})
WAIT = 10.0

logger = structlog.get_logger()


@dataclasses.dataclass(frozen=True, slots=True)
class Ends:
    """The first offset that lies in a partition, and the offset after the last."""

    first: int
    end: int


@dataclasses.dataclass(frozen=True, slots=True)
class Checked:
    """Positions that fit the log: where to read on in each partition, and how far it reached then."""

    nexts: dict[TP, int]
    ends: dict[TP, Ends]


class Replaced(errors.Doubt):
    """The topic is not the one that was read: truncated, recreated or replaced."""


class Lost(errors.Doubt):
    """Records were deleted before they were read."""


class Inspector:
    """Asks Kafka about partitions, from threads, on the event loop given."""

    def __init__(self, kafka: broker.Broker, loop: asyncio.AbstractEventLoop) -> None:
        self._kafka = kafka
        self._loop = loop

    def ends(self, tps: Iterable[TP]) -> dict[TP, Ends]:
        """Ends of partitions; raises `errors.Away`, or `Replaced` for a topic that is not there."""
        answer: dict[TP, Ends] = self._ask(self._ends(list(tps)))
        return answer

    def checking(self, held: Mapping[TP, positions.Held]) -> concurrent.futures.Future[Checked]:
        """Whether these positions fit the log: the answer to come, within 10 s. It raises `Replaced` or
        `Lost`, or `errors.Away`.
        """
        return asyncio.run_coroutine_threadsafe(_answered(self._check(held)), self._loop)

    def _ask(self, question: Any) -> Any:
        future = asyncio.run_coroutine_threadsafe(_answered(question), self._loop)
        try:
            return future.result(WAIT + 2)
        except TimeoutError as error:
            future.cancel()
            raise errors.Away("Kafka did not answer in time") from error

    async def _ends(self, tps: list[TP]) -> dict[TP, Ends]:
        async with reading(self._kafka) as consumer:
            return await _ends(consumer, tps)

    async def _check(self, held: Mapping[TP, positions.Held]) -> Checked:
        async with reading(self._kafka) as consumer:
            ends = await _ends(consumer, held)
            nexts, last_records = fit(held, ends)
            if last_records:
                await _compare(consumer, last_records)
            return Checked(nexts, ends)


async def _answered(question: Coroutine[Any, Any, Any]) -> Any:
    try:
        async with asyncio.timeout(WAIT):
            return await question
    except TimeoutError as error:
        raise errors.Away("Kafka did not answer in time") from error
    except aiokafka.errors.KafkaError as error:
        raise errors.Away(f"Kafka cannot be reached ({type(error).__name__})") from error


def fit(
    held: Mapping[TP, positions.Held], ends: Mapping[TP, Ends]
) -> tuple[dict[TP, int], dict[TP, tuple[int, str]]]:
    """Where to read on in each partition, and the last records read that lie there still, to be compared.

    `ends` are younger than `held`. Raises `Replaced` or `Lost` where they show it.
    """
    nexts: dict[TP, int] = {}
    last_records: dict[TP, tuple[int, str]] = {}
    for tp, position in held.items():
        end = ends[tp]
        nexts[tp] = position.next_offset
        if position.next_offset > end.end:
            raise Replaced(
                f"{tp.topic} {tp.partition} ends at {end.end}, but was read up to "
                f"{position.next_offset}: Kafka's data was truncated or replaced. "
                "Restore it, or start on a new database."
            )
        if position.next_offset < end.first:
            if tp.topic not in MAY_EXPIRE:
                raise Lost(
                    f"{tp.topic} {tp.partition} begins at {end.first}, but was read up to "
                    f"{position.next_offset}: {end.first - position.next_offset} records are lost. "
                    f"Restore the topic, or give them up with `heed topics accept-loss {tp.topic}`."
                )
            nexts[tp] = end.first
        elif position.last_record:
            offset = int(position.last_record.split(":", 1)[0])
            if end.first <= offset < end.end:
                last_records[tp] = (offset, position.last_record)
    return nexts, last_records


async def _ends(consumer: aiokafka.AIOKafkaConsumer, tps: Iterable[TP]) -> dict[TP, Ends]:
    there = await consumer.topics()
    asked = {tp: aiokafka.TopicPartition(*tp) for tp in tps}
    for tp in asked:
        if tp.topic not in there:
            raise Replaced(
                f"the topic {tp.topic} is gone: restore it, or create it with `heed topics create`."
            )
    first = await consumer.beginning_offsets(list(asked.values()))
    end = await consumer.end_offsets(list(asked.values()))
    return {tp: Ends(first[one], end[one]) for tp, one in asked.items()}


async def _compare(consumer: aiokafka.AIOKafkaConsumer, wanted: Mapping[TP, tuple[int, str]]) -> None:
    left = {aiokafka.TopicPartition(*tp): one for tp, one in wanted.items()}
    consumer.assign(list(left))
    for tp, (offset, _) in left.items():
        consumer.seek(tp, offset)
    while left:
        found = await consumer.getmany(*left, timeout_ms=1000, max_records=len(left) * 10)
        for tp, some in found.items():
            offset, expected = left.pop(tp)
            # A compacted topic may have dropped the record itself, and a span may hold no record at all;
            # then there is nothing to compare.
            first = next(iter(some), None)
            if first is not None and first.offset == offset and records.identity(first) != expected:
                raise Replaced(
                    f"{tp.topic} {tp.partition}: another record stands at {offset} than the one that "
                    "was read. Kafka's data was replaced. Restore it, or start on a new database."
                )
            consumer.pause(tp)


class reading:  # noqa: N801 - used as a function
    """A consumer without a group, for the time of a `with`; raises `errors.Away` when it cannot begin."""

    def __init__(self, kafka: broker.Broker) -> None:
        self._kafka = kafka
        self._consumer = aiokafka.AIOKafkaConsumer(
            **kafka.client,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            max_partition_fetch_bytes=topics.MAX_MESSAGE_BYTES,
            fetch_max_wait_ms=50,
        )

    async def __aenter__(self) -> aiokafka.AIOKafkaConsumer:
        try:
            await self._consumer.start()
        except BaseException as error:
            await self._stop()
            if isinstance(error, aiokafka.errors.KafkaError):
                raise await self._kafka.away(error) from error
            raise
        return self._consumer

    async def __aexit__(self, *_: object) -> None:
        await self._stop()

    async def _stop(self) -> None:
        # aiokafka cancels its tasks and awaits them: one that has not begun yet would cancel us.
        try:
            await asyncio.sleep(0)
        finally:
            await self._consumer.stop()
