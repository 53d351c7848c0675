"""The limit: confluent-kafka and psycopg in a loop by hand, two lanes, nothing between them.

Promises: as exact as the product's lanes: positions are compared and set in the transaction that writes
the rows (`projections.positions`, the same statements). Each lane has a connection, a thread that fetches
and decodes, and a thread that writes, with one batch between them; a batch is what has come in while the
last one was written.
Limits: no group and no rebalance, no claims that are checked, no nudges, no timers, no parking; an error
ends it.
Called by `tests.bench.contender`.
"""

from __future__ import annotations

import os
import queue
import threading
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

import confluent_kafka as kafka

from projections import positions
from schemas import topics
from tests.bench import meter, sink_engagement, sinks

LANES = 2
TARGET = 8000
READER = "bench"


class Taken(NamedTuple):
    """A record with what a sink reads of it."""

    value: bytes
    partition: int
    offset: int


class Lane:
    """One connection and the partitions whose number is `index` modulo the number of lanes."""

    def __init__(self, index: int, spec: dict[str, Any], counted: meter.Meter) -> None:
        self.sink = sink_engagement.SINKS[spec["sink"]]()
        self.connection = sinks.connect(spec["dsn"], self.sink)
        self.meter = counted
        self.consumer = kafka.Consumer({
            "bootstrap.servers": spec["kafka"], "group.id": "bench-by-hand", "enable.auto.commit": False,
            "isolation.level": "read_committed", "fetch.max.bytes": 16 << 20,
            "max.partition.fetch.bytes": 1 << 20,
        })  # fmt: skip
        parts = range(index, spec["homes"], LANES)
        firsts = {(topics.FACTS, part): 0 for part in parts}
        self.held = positions.claim(self.connection, READER, f"by-hand-{index}", firsts)
        self.next = {part: self.held[topics.FACTS, part].next_offset for part in parts}
        self.consumer.assign([kafka.TopicPartition(topics.FACTS, part, self.next[part]) for part in parts])
        self.planned: queue.Queue[tuple[int, dict[int, int], Any]] = queue.Queue(1)

    def read(self) -> None:
        """Fetch and decode, batch after batch."""
        while True:
            found = self.consumer.consume(TARGET, 0.02)
            if not found:
                continue
            self.meter.start()
            taken: list[Taken] = []
            ends: dict[int, int] = {}
            for message in found:
                part, offset, value = message.partition(), message.offset(), message.value()
                assert message.error() is None
                assert isinstance(value, bytes)
                assert part is not None
                assert offset is not None
                taken.append(Taken(value, part, offset))
                ends[part] = offset + 1
            self.planned.put((len(taken), ends, self.sink.plan(taken)))

    def write(self) -> None:
        """One transaction after another."""
        while True:
            count, ends, plan = self.planned.get()
            moves = {
                (topics.FACTS, part): positions.Move(
                    self.held[topics.FACTS, part].epoch, self.next[part], end, end
                )
                for part, end in ends.items()
            }
            with self.connection.transaction():
                self.sink.copy(self.connection, plan)
                at = positions.move(self.connection, READER, moves)
                self.sink.write(self.connection, plan, at)
            self.next.update(ends)
            self.meter.add(count)


def run(spec: dict[str, Any], counted: meter.Meter) -> None:
    """Both lanes, until the meter ends the process."""
    lanes = [Lane(index, spec, counted) for index in range(LANES)]
    threads = [
        threading.Thread(target=_or_die, args=(step,)) for one in lanes for step in (one.read, one.write)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _or_die(step: Callable[[], None]) -> None:
    try:
        step()
    except BaseException:
        traceback.print_exc()
        os._exit(3)
