"""Quix Streams as a neighbour, in its own environment: its PostgreSQL sink as shipped, or one with our SQL.

Promises: `shipped` gives every event to Quix's `PostgreSQLSink`, which appends it; the counters are a view
over what was appended. `ours` is a batching sink with the very statements of the other contenders: COPY,
one upsert, positions in the same transaction. Both commit every 8,000 events, as the others do.
Limits: the shipped sink is at least once and keeps no counters, so it does less. One process, as Quix
comes.
Called by `tests.bench.peers.build`, as `python -m tests.bench.peers.quix SPEC`.
"""

from __future__ import annotations

import json
import sys
import traceback
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import quixstreams
from quixstreams import sinks as quix_sinks
from quixstreams.sinks.community import postgresql

from projections import positions
from schemas import topics
from tests.bench import meter, sinks

BATCH = 8000
SECONDS = 1.0
READER = "bench"


class Shipped(postgresql.PostgreSQLSink):  # type: ignore[misc]
    """The sink as it is, watched."""

    def __init__(self, counted: meter.Meter, **given: Any) -> None:
        super().__init__(**given)
        self._meter = counted

    def add(self, *given: Any, **named: Any) -> None:
        self._meter.start()
        super().add(*given, **named)

    def write(self, batch: quix_sinks.SinkBatch) -> None:
        super().write(batch)
        self._meter.add(batch.size)


class Ours(quix_sinks.BatchingSink):  # type: ignore[misc]
    """One transaction for all partitions: rows and positions, as the product's counter lane."""

    def __init__(self, dsn: str, homes: int, counted: meter.Meter) -> None:
        super().__init__()
        self._dsn, self._homes, self._meter = dsn, homes, counted
        self._sink = sinks.Counter()

    def setup(self) -> None:
        self._connection = sinks.connect(self._dsn, self._sink)
        firsts = {(topics.FACTS, part): 0 for part in range(self._homes)}
        held = positions.claim(self._connection, READER, "quix", firsts)
        self._epochs = {part: one.epoch for (_, part), one in held.items()}
        self._next = {part: one.next_offset for (_, part), one in held.items()}

    def add(self, *given: Any, **named: Any) -> None:
        self._meter.start()
        super().add(*given, **named)

    def flush(self) -> None:
        """All partitions at once, where the base class writes them one by one."""
        found = [
            item
            for batch in self._batches.values()
            for item in batch
            if item.offset >= self._next[batch.partition]
        ]
        ends = {batch.partition: list(batch)[-1].offset + 1 for batch in self._batches.values() if batch.size}
        self._batches.clear()
        if found:
            self._write(found, ends)

    def _write(self, found: list[Any], ends: dict[int, int]) -> None:
        moves = {
            (topics.FACTS, part): positions.Move(self._epochs[part], self._next[part], end, end)
            for part, end in ends.items()
        }
        plan = self._sink.plan(found)
        with self._connection.transaction():
            self._sink.copy(self._connection, plan)
            positions.move(self._connection, READER, moves)
            self._sink.write(self._connection, plan, datetime.now(UTC))
        self._next.update(ends)
        self._meter.add(len(found))

    def write(self, batch: quix_sinks.SinkBatch) -> None:
        raise NotImplementedError("flush writes all batches")


def main(spec: dict[str, Any]) -> None:
    """Fold what `spec` asks for, until the meter ends the process."""
    counted = meter.Meter(spec["count"], *spec["pids"], warm=spec["warm"])
    app = quixstreams.Application(
        broker_address=spec["kafka"], consumer_group=f"bench-{spec['folder'].rpartition('-')[2]}",
        auto_offset_reset="earliest", commit_every=BATCH, commit_interval=SECONDS, auto_create_topics=False,
        use_changelog_topics=False, loglevel="WARNING", state_dir=spec["folder"],
        consumer_extra_config={
            "isolation.level": "read_committed", "fetch.queue.backoff.ms": 2,
            "max.partition.fetch.bytes": 4 << 20,
        },
    )  # fmt: skip
    if spec["mode"] == "ours":
        topic = app.topic(topics.FACTS, value_deserializer="bytes", key_deserializer="bytes")
        app.dataframe(topic).sink(Ours(spec["dsn"], spec["homes"], counted))
    else:
        _shipped(app, spec, counted)
    app.run()


def _shipped(app: quixstreams.Application, spec: dict[str, Any], counted: meter.Meter) -> None:
    topic = app.topic(topics.FACTS, value_deserializer="json", key_deserializer="str")
    place = urlsplit(spec["dsn"])
    sink = Shipped(
        counted, host=place.hostname or "", port=place.port or 0, dbname=place.path[1:],
        user=place.username or "", password="", schema_name="bench", table_name=sinks.APPENDED,
        schema_auto_update=True,
    )  # fmt: skip
    app.dataframe(topic).apply(
        lambda fact: {"contact_id": fact["subject"][8:], "at": fact["time"], "type": fact["type"]}
    ).sink(sink)


if __name__ == "__main__":
    try:
        main(json.loads(sys.argv[1]))
    except BaseException:
        traceback.print_exc()
        raise
