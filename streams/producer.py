"""Records onto Kafka, all acknowledged or an error.

Promises: idempotent, acks from all replicas; when `append` returns, every record stands on its topic. When
it raises, some may stand there: whoever appends again makes duplicates, which the fold drops. After a
failure the producer is made anew, so a broken sequence cannot outlive it.
Limits: one event loop; a call takes as long as `timeout` at most.
Called by: intake, the relay, the API, `heed parked redrive`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
from collections.abc import Sequence

import aiokafka
import aiokafka.errors
from aiokafka.producer.message_accumulator import BatchBuilder

from schemas import errors, topics
from streams import broker

THREAD_SECONDS = 10.0  # what a lane waits for acknowledgements
CLOSE_SECONDS = 5.0  # what a producer that failed has to send what it can
TOGETHER = 20  # from here on records of one partition go as batches, at a tenth of the price


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """What is appended; without a partition, Kafka's partitioner chooses."""

    topic: str
    partition: int | None
    key: bytes | None
    value: bytes
    headers: Sequence[tuple[str, bytes]] = ()


class LogProducer:
    """An idempotent producer that is made anew after every failure."""

    def __init__(self, kafka: broker.Broker, client_id: str, *, linger_ms: int = 0) -> None:
        self._kafka = kafka
        self._client_id = client_id
        self._linger_ms = linger_ms
        self._producer: aiokafka.AIOKafkaProducer | None = None
        self._making = asyncio.Lock()
        self._closing: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Connect; raises `errors.Away`."""
        await self._connected()

    async def stop(self) -> None:
        """Send what is buffered and disconnect; those that failed before are gone then, too."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.stop()
        await asyncio.gather(*self._closing)

    async def append(self, records: Sequence[Record], timeout: float = 4.5) -> None:
        """Append and wait for every acknowledgement; raises `errors.Away` after `timeout` seconds."""
        producer = None
        try:
            async with asyncio.timeout(timeout):
                producer = await self._connected()
                await self._send(producer, records)
        except (TimeoutError, aiokafka.errors.KafkaError) as error:
            await self._discard(producer)
            raise errors.Away(f"Kafka did not acknowledge in time ({type(error).__name__})") from error

    def append_from_thread(self, records: Sequence[Record], loop: asyncio.AbstractEventLoop) -> None:
        """`append` for a thread beside the event loop; blocks until all is acknowledged, or `errors.Away`."""
        sent = asyncio.run_coroutine_threadsafe(self.append(records, timeout=THREAD_SECONDS), loop)
        try:
            sent.result(THREAD_SECONDS + 5)
        except TimeoutError as error:
            sent.cancel()
            raise errors.Away("Kafka did not acknowledge in time") from error

    async def _connected(self) -> aiokafka.AIOKafkaProducer:
        async with self._making:
            if self._producer is None:
                made = aiokafka.AIOKafkaProducer(
                    **self._kafka.client,
                    client_id=self._client_id,
                    enable_idempotence=True,
                    acks="all",
                    linger_ms=self._linger_ms,
                    max_batch_size=512 * 1024,
                    max_request_size=topics.MAX_MESSAGE_BYTES,
                    request_timeout_ms=10_000,
                )
                try:
                    await made.start()
                except BaseException as error:
                    await made.stop()
                    if isinstance(error, aiokafka.errors.KafkaError):
                        raise await self._kafka.away(error) from error
                    raise
                self._producer = made
            return self._producer

    async def _discard(self, producer: aiokafka.AIOKafkaProducer | None) -> None:
        if producer is not None and self._producer is producer:
            self._producer = None
            # The loop itself holds tasks weakly, so this one would not have to come to its end.
            closing = asyncio.create_task(_close(producer))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    async def _send(self, producer: aiokafka.AIOKafkaProducer, records: Sequence[Record]) -> None:
        placed: dict[tuple[str, int], list[Record]] = {}
        single: list[Record] = []
        for record in records:
            if record.partition is None or len(records) < TOGETHER:
                single.append(record)
            else:
                placed.setdefault((record.topic, record.partition), []).append(record)
        waiting = [
            await producer.send(r.topic, r.value, key=r.key, partition=r.partition, headers=list(r.headers))
            for r in single
        ]
        waiting += await asyncio.gather(*(_batches(producer, *name, some) for name, some in placed.items()))
        for told in await asyncio.gather(*waiting, return_exceptions=True):
            if isinstance(told, BaseException):
                raise told


async def _batches(
    producer: aiokafka.AIOKafkaProducer, topic: str, partition: int, records: list[Record]
) -> asyncio.Future[object]:
    """Records of one partition as few batches as fit; answers the last one's acknowledgement."""
    batch: BatchBuilder = producer.create_batch()
    for record in records:
        if _add(batch, record) is None:
            await (await producer.send_batch(batch, topic, partition=partition))
            batch = producer.create_batch()
            _add(batch, record)
    sent: asyncio.Future[object] = await producer.send_batch(batch, topic, partition=partition)
    return sent


def _add(batch: BatchBuilder, record: Record) -> object:
    return batch.append(key=record.key, value=record.value, timestamp=None, headers=list(record.headers))


async def _close(producer: aiokafka.AIOKafkaProducer) -> None:
    """Send what it can for a while, then end what goes on inside it though nobody waits any more."""
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await producer.stop()
    except (TimeoutError, aiokafka.errors.KafkaError):
        await producer._sender.close()
        buffered = producer._message_accumulator
        for batch in itertools.chain(buffered._pending_batches, *buffered._batches.values()):
            # Others may still wait for it, and for them this is no cancelling of theirs.
            batch.failure(aiokafka.errors.ProducerClosed())
            for future in (batch.future, batch._drain_waiter, *(one for one, _ in batch._msg_futures)):
                if not future.cancelled():
                    future.exception()  # asked for, so that nobody is told that nobody asked
        await producer.client.close()
