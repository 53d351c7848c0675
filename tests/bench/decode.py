"""The first rung: what it costs to read a fact from bytes, without any server.

Promises: the same facts for each way: json and orjson as dicts, msgspec as the envelope's struct, and all
that the fold does with a batch before the database sees it (`projections.records`: struct, key, home,
line for COPY, sorted).
Limits: one thread; nothing else is done.
Called by `tests.bench.contender`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from projections import records
from schemas import envelope, topics
from tests.bench import meter, traffic

BATCH = 8000


@dataclass(frozen=True, slots=True)
class Record:
    """A record as Kafka's client would give it."""

    partition: int
    value: bytes
    offset: int = 0
    timestamp: int = 0
    topic: str = topics.FACTS


def run(spec: dict[str, Any], counted: meter.Meter) -> None:
    """Decode `count` facts, batch by batch."""
    facts = traffic.facts(spec["traffic"], spec["count"], 1, spec["homes"])
    batches = [
        [Record(part, value) for _, part, value in facts[i : i + BATCH]] for i in range(0, len(facts), BATCH)
    ]
    way = WAYS[spec["mode"]]
    counted.start()
    for batch in batches:
        way(batch)
        counted.add(len(batch))


def _each(decode: Callable[[bytes], object]) -> Callable[[Sequence[Record]], None]:
    def way(batch: Sequence[Record]) -> None:
        for record in batch:
            decode(record.value)

    return way


def _fold(batch: Sequence[Record]) -> None:
    records.decode(batch, 8).text()


WAYS: dict[str, Callable[[Sequence[Record]], None]] = {
    "json": _each(json.loads),
    "orjson": _each(orjson.loads),
    "msgspec": _each(envelope.read_fact),
    "records": _fold,
}
