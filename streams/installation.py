"""The installation's secret: made once, kept in the topic `keys` for ever, the same for every process.

Promises: of two processes that make one at once the first by offset holds: whoever has written one reads the
topic to its end after the acknowledgement, and takes what holds there.
Limits: the whole topic is read, some seconds for a million keys; `streams.vault` asks PostgreSQL first, whose
copy is the beginning of the topic and answers the same.
Called by: `streams.vault`, once a process.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import aiokafka
import aiokafka.errors
import structlog

from schemas import errors, sealing, topics
from streams import broker, log, producer

Append = Callable[[Sequence[producer.Record]], Awaitable[None]]

_MARK: Final = f"{sealing.INSTALLATION}#".encode()


async def secret(kafka: broker.Broker, master: sealing.MasterKey, append: Append) -> bytes:
    """The secret out of the topic, made if there is none; raises `errors.Away`, `sealing.Unopened`."""
    standing = await _standing(kafka)
    if standing is None:
        kid = sealing.new_kid(sealing.INSTALLATION)
        await append([await asyncio.to_thread(key_record, kid, os.urandom(sealing.KEY_BYTES), master)])
        structlog.get_logger().info("made the installation's secret", master=master.id)
        standing = await _standing(kafka)
    if standing is None:
        raise errors.Away("the installation's secret was written, and cannot be read back yet")
    return await asyncio.to_thread(opened, standing, master)


def opened(found: sealing.KeyRecord, master: sealing.MasterKey) -> bytes:
    """A key, unwrapped; raises `sealing.Unopened`, `errors.Away`."""
    assert found.wrapped is not None
    assert found.master is not None
    return master.unwrap(found.wrapped, found.kid, found.master)


def key_record(kid: str, key: bytes, master: sealing.MasterKey) -> producer.Record:
    """A key as it stands in the topic `keys`."""
    value = sealing.write_kept(kid, master.wrap(key, kid), master.id)
    return producer.Record(topics.KEYS, 0, kid.encode(), value)


async def _standing(kafka: broker.Broker) -> sealing.KeyRecord | None:
    """The secret that holds by what the topic says now: the first that is not destroyed."""
    found: dict[str, sealing.KeyRecord] = {}
    place = aiokafka.TopicPartition(topics.KEYS, 0)
    try:
        async with log.reading(kafka) as consumer:
            end = (await consumer.end_offsets([place]))[place]
            consumer.assign([place])
            await consumer.seek_to_beginning(place)
            while await consumer.position(place) < end:
                for some in (await consumer.getmany(place, timeout_ms=1000)).values():
                    for record in some:
                        _note(found, record.value)
    except (aiokafka.errors.KafkaError, TimeoutError) as error:
        raise await kafka.away(error) from error
    return next((one for one in found.values() if one.wrapped is not None), None)


def _note(found: dict[str, sealing.KeyRecord], value: bytes | None) -> None:
    """Keys stay in the order of their first records; of each the last word counts, but for *destroyed*."""
    if value is None or _MARK not in value:
        return
    try:
        read = sealing.read_record(value)
    except ValueError:
        return  # the reader of the topic warns of it
    standing = found.get(read.kid)
    if read.subject == sealing.INSTALLATION and (standing is None or standing.wrapped is not None):
        found[read.kid] = read
