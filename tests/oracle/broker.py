"""Topics read from their beginning with a plain Kafka consumer.

Promises: every committed record that stood on the topic when the reading began, in the order of each
partition, and nothing of aborted transactions; no offset is committed, no group is joined.

Limits: one pass, from whatever the topic still keeps.

Called by `oracle.__main__` and by the fault tests.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import confluent_kafka

SILENCE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Record:
    topic: str
    partition: int
    offset: int
    appended_ms: int
    key: bytes | None
    value: bytes
    headers: dict[str, bytes]


def records(bootstrap: str, topic: str) -> Iterator[Record]:
    """The topic's records up to its present end; TimeoutError when the broker stays silent."""
    consumer = _consumer(bootstrap)
    try:
        yield from _until_end(consumer, topic)
    finally:
        consumer.close()


def log(bootstrap: str) -> Iterator[Record]:
    """The log: what stands in `facts`, and in the registry."""
    for topic in ("facts", "registry"):
        yield from records(bootstrap, topic)


def ends(bootstrap: str, topic: str) -> dict[int, int]:
    """The present end of each partition, as far as transactions are decided."""
    consumer = _consumer(bootstrap)
    try:
        return _ends(consumer, topic)
    finally:
        consumer.close()


def _consumer(bootstrap: str) -> confluent_kafka.Consumer:
    return confluent_kafka.Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"oracle-{uuid.uuid4().hex}",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
        }
    )


def _until_end(consumer: confluent_kafka.Consumer, topic: str) -> Iterator[Record]:
    until = _ends(consumer, topic)
    consumer.assign(
        [confluent_kafka.TopicPartition(topic, part, confluent_kafka.OFFSET_BEGINNING) for part in until]
    )
    open_parts = set(until)
    heard = time.monotonic()
    while open_parts:
        messages = consumer.consume(10_000, timeout=1.0)
        if messages:
            heard = time.monotonic()
        elif time.monotonic() - heard > SILENCE_SECONDS:
            raise TimeoutError(
                f"{topic}: nothing heard for {SILENCE_SECONDS:.0f} s, partitions {open_parts} open"
            )
        for message in messages:
            part, offset = message.partition(), message.offset()
            error = message.error()
            if error is not None and error.code() != confluent_kafka.KafkaError._PARTITION_EOF:
                raise confluent_kafka.KafkaException(error)
            if part is None or offset is None:
                raise ValueError(f"{topic}: a message without coordinates")
            if error is not None or offset >= until[part]:
                open_parts.discard(part)
            else:
                yield _record(topic, part, offset, message)


def _ends(consumer: confluent_kafka.Consumer, topic: str) -> dict[int, int]:
    metadata = consumer.list_topics(topic, timeout=SILENCE_SECONDS).topics[topic]
    if not metadata.partitions:
        raise LookupError(f"there is no topic {topic}")
    found = {}
    for part in metadata.partitions:
        _, high = consumer.get_watermark_offsets(
            confluent_kafka.TopicPartition(topic, part), timeout=SILENCE_SECONDS
        )
        found[part] = high
    return found


def _record(topic: str, part: int, offset: int, message: confluent_kafka.Message) -> Record:
    _, appended = message.timestamp()
    headers = message.headers() or []
    return Record(
        topic=topic,
        partition=part,
        offset=offset,
        appended_ms=appended,
        key=message.key(),
        value=_bytes(message.value()),
        headers={name: _bytes(value) for name, value in dict(headers).items()},
    )


def _bytes(value: str | bytes | None) -> bytes:
    return value.encode() if isinstance(value, str) else value or b""
