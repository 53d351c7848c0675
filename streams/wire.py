"""Batches of records as they come from the broker, whatever stands in the names of their headers.

Promises: a record whose header has a name that is not UTF-8 is read like any other. Kafka keeps such names
(librdkafka sends any bytes); aiokafka raises over the whole batch, so one record at a door would end every
worker that is given its partition, for ever.
Limits: overrides private parts of aiokafka 0.14.0; aiokafka's slow Python reads such a batch.
Called by: nobody; `streams.batches` puts `Memory` in the fetcher's place.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import aiokafka.errors
from aiokafka.record import default_records, memory_records


class Memory(memory_records._MemoryRecordsPy):  # type: ignore[misc]
    """What a fetch brought for one partition, batch by batch."""

    def next_batch(self, *_: Any) -> Any:
        raw = self._next_slice
        batch = super().next_batch()
        return batch if batch is None else _Batch(batch, raw)


class _Batch:
    """A batch that is read again in the lenient way when aiokafka raises over it."""

    __slots__ = ("_batch", "_raw")

    def __init__(self, batch: Any, raw: Any) -> None:
        self._batch, self._raw = batch, raw

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        return next(self._batch)

    def __iter__(self) -> Iterator[Any]:
        try:
            yield from self._batch
        except (UnicodeDecodeError, aiokafka.errors.CorruptRecordException):
            # From its start: aiokafka passes over the offsets that it has handed out already.
            yield from _Lenient(self._raw)


class _Lenient(default_records._DefaultRecordBatchPy):  # type: ignore[misc]
    _buffer: Any

    def _maybe_uncompress(self) -> None:
        super()._maybe_uncompress()
        self._buffer = _Names(self._buffer)


class _Names(bytearray):
    """Bytes whose slices decode to something, always."""

    def __getitem__(self, at: Any) -> Any:
        found = super().__getitem__(at)
        return _Names(found) if isinstance(at, slice) else found

    def decode(self, encoding: str = "utf-8", errors: str = "replace") -> str:  # noqa: ARG002
        return super().decode(encoding, "replace")
