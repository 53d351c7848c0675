"""Whether the tables know what the registry says by now: before anything personal is opened (LAW-6).

Promises: a database that was restored from a backup is waited for until its workers have read the registry to
where it ended, since somebody may have been erased since the backup was made.
Limits: tables that no worker has begun to fill have nothing to tell, and are not waited for. Blocks.
Called by: `heed export`. The API knows it by `api.auth`.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

import aiokafka
import aiokafka.errors
import psycopg

from schemas import errors, settings, topics
from streams import broker, log

SECONDS: Final = 5.0
PAUSE: Final = 0.1

_PLACE: Final = aiokafka.TopicPartition(topics.REGISTRY, 0)
STANDS: Final = "select next_offset from heed_data.position where reader = 'fold' and topic = 'registry'"


def wait(chosen: settings.Settings, connection: psycopg.Connection) -> None:
    """Wait until the tables have caught up; raises `errors.Away` after `SECONDS`, and when Kafka is away."""
    end = asyncio.run(_end(broker.of(chosen)))
    until = time.monotonic() + SECONDS
    while any(stands < end for (stands,) in connection.execute(STANDS).fetchall()):
        if time.monotonic() > until:
            raise errors.Away(
                "The tables have not read the registry to its end, as after a backup was put back: somebody "
                "may have been erased since. Let a worker catch up, and ask again."
            )
        time.sleep(PAUSE)


async def _end(kafka: broker.Broker) -> int:
    try:
        async with log.reading(kafka) as consumer:
            return int((await consumer.end_offsets([_PLACE]))[_PLACE])
    except aiokafka.errors.KafkaError as error:
        raise await kafka.away(error) from error
