"""What a read of the log brings: records, and which offsets it covers.

Promises: a read says where it began and where the next one begins, whether records lie between or not:
control records, aborted and compacted ones leave no hole. A record carries what readers use of it and no
more.
Limits: overrides private parts of aiokafka 0.14.0; importing this puts them in their place.
Called by: `streams.batches`; every consumer of a process that imports it reads in this way, replay's too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from aiokafka.consumer import fetcher

from streams import wire


class SpanList(list[Any]):
    """Records of one read with the offsets [start, end) it covers; true when it covers any."""

    __slots__ = ("end", "start")

    def __init__(self, start: int, end: int, found: Iterable[Any]) -> None:
        super().__init__(found)
        self.start = start
        self.end = end

    def __bool__(self) -> bool:
        return self.end > self.start


class Taken(msgspec.Struct, gc=False):
    """What readers use of a record: half the cost of aiokafka's own, and nothing for the collector.

    Headers are there once somebody has asked for them (`keep_headers`).
    """

    topic: str
    partition: int
    offset: int
    timestamp: int
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()


class Unpacked(fetcher.PartitionRecords):  # type: ignore[misc]
    """What a fetch brought for one partition, record by record."""

    def _consumer_record(self, tp: Any, record: Any) -> Taken:
        return Taken(tp.topic, tp.partition, record.offset, record.timestamp, record.value)

    def _headed(self, tp: Any, record: Any) -> Taken:
        at, value, headers = record.timestamp, record.value, record.headers
        return Taken(tp.topic, tp.partition, record.offset, at, value, headers)


def keep_headers() -> None:
    """From now on records of this process carry their headers: some 5 % more for a read."""
    Unpacked._consumer_record = Unpacked._headed  # type: ignore[method-assign]


class SpanResult(fetcher.FetchResult):  # type: ignore[misc]
    """A fetch that says which offsets each read covers, records or not."""

    def getall(self, max_records: int | None = None) -> list[Any]:
        unread = self._partition_records
        if unread is None or not self.check_assignment(self._topic_partition) or wire.spent():
            return []
        start = unread.next_fetch_offset
        found = super().getall(max_records)
        return SpanList(start, unread.next_fetch_offset, found)


fetcher.FetchResult = SpanResult
fetcher.PartitionRecords = Unpacked
fetcher.MemoryRecords = wire.Memory
