"""Batches with header names that are not UTF-8, read like any other, each record once."""

from __future__ import annotations

from typing import Any

import aiokafka
import pytest
from aiokafka.consumer import fetcher
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

from streams import wire


class _Name(str):
    __slots__ = ()

    def encode(self, *_: Any) -> bytes:
        return b"\xff"


@pytest.mark.parametrize("codec", [0, 1], ids=["plain", "gzip"])
def test_a_name_that_is_not_utf8_in_the_midst_of_a_batch(codec: int) -> None:
    builder = _DefaultRecordBatchBuilderPy(2, codec, False, -1, -1, 0, 1 << 20)
    for n in range(5):
        builder.append(n, 1_000, b"k", b"v%d" % n, [(_Name("no") if n == 2 else "door", b"x")])
    memory = wire.Memory(bytes(builder.build()))
    read = fetcher.PartitionRecords(
        aiokafka.TopicPartition("t", 0), memory, None, 0, None, None, True, fetcher.READ_COMMITTED
    )
    assert [(one.offset, one.value) for one in read] == [(n, b"v%d" % n) for n in range(5)]
    assert read.next_fetch_offset == 5
