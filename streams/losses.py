"""Giving up records that were deleted before they were read.

Promises: nothing is given up in silence: a reader whose records are gone stops (`log.Lost`) until somebody
runs this, which says how many there were. The position moves to where the topic begins now.
Limits: for a reader that stands still; one that works on the topic is not overtaken, since it is not behind.
Called by: `heed topics accept-loss`.
"""

from __future__ import annotations

import asyncio
from typing import Final

import aiokafka
import aiokafka.errors

from projections import database
from schemas import errors, settings, topics
from streams import broker, log

STANDS: Final = "select part, next_offset from {table} where topic = %s order by part"
SKIP: Final = """
update {table} set epoch = epoch + 1, next_offset = %s, last_record = null
where topic = %s and part = %s and next_offset < %s
"""


def accept(chosen: settings.Settings, topic: str) -> dict[int, int]:
    """Move the readers of a topic to where it begins; answers how many records each partition lost."""
    if topic not in {one.name for one in topics.all_topics(chosen.homes)}:
        raise errors.Usage("That is no topic of Heed's: `heed topics check` knows them.")
    table = "heed_ops.position" if topic in (*topics.DOORS, topics.KEYS) else "heed_data.position"
    firsts = asyncio.run(_firsts(chosen, topic))
    lost: dict[int, int] = {}
    with database.connect(chosen.postgres, database.LIVE_PATH, "heed topics accept-loss") as connection:
        for part, stood in connection.execute(STANDS.format(table=table).encode(), (topic,)).fetchall():
            if stood < firsts.get(part, 0):
                connection.execute(
                    SKIP.format(table=table).encode(), (firsts[part], topic, part, firsts[part])
                )
                lost[part] = firsts[part] - stood
    return lost


async def _firsts(chosen: settings.Settings, topic: str) -> dict[int, int]:
    asked = [aiokafka.TopicPartition(topic, part) for part in range(chosen.homes)]
    try:
        async with log.reading(broker.of(chosen)) as consumer:
            return {tp.partition: first for tp, first in (await consumer.beginning_offsets(asked)).items()}
    except aiokafka.errors.KafkaError as error:
        raise await broker.of(chosen).away(error) from error
