"""Batches of records as they come from the broker, whatever a producer has put into them.

Promises: a batch inflates to at most 32 MiB, in memory that is touched only as far as it is filled, whatever
sizes it declares: a compression bomb costs some 30 ms and ends nobody. A batch that is larger, cannot be read
(codec, structure) or gives offsets that lie is one record at its last offset: no position goes past it in
silence. Its value is `records.Unread`, the batch as it lies on the broker, to be set aside. Headers stop
nothing: a name that is not UTF-8, over which aiokafka raises, is passed over, and so are the millions that a
large batch may hold. Once 16 MiB have been taken up in one read, the rest of a fetch waits for the next.
Limits: 32 MiB is 16 times the largest batch that a topic of ours takes, and leaves room in a worker of 300
MB; only zstd keeps a window of its own beside it, of no more. No client makes such batches unless told to:
all but Java's count `batch.size` before compressing. What is not compressed is bounded by the fetch. Batches
of Kafka 0.10 and older, which Kafka 4 does not take, are left to aiokafka. That the lengths in a batch add up
is checked by the broker that took it. Overrides private parts of aiokafka 0.14.0, pinned in
`tests/contract/test_faust.py`.
Called by: `streams.fetches`, which puts `Memory` in the fetcher's place and asks `spent`.
"""

from __future__ import annotations

import asyncio
import mmap
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import aiokafka.errors
import cramjam
from aiokafka.record import default_records, memory_records, util

from projections import records

MOST: Final = 32 << 20
TURN: Final = 16 << 20
LARGE: Final = 1 << 20  # beyond what clients make unless told to: headers could be half a million
KEPT: Final = 1 << 20  # bytes of the room that are kept for the next batch

HEADER: Final = default_records.DefaultRecordBase.HEADER_STRUCT.size
COUNT_AT: Final = HEADER - 4
CODEC_AT: Final = default_records.DefaultRecordBase.ATTRIBUTES_OFFSET + 1
CODEC_BITS: Final = default_records.DefaultRecordBase.CODEC_MASK
MAGIC_AT: Final = memory_records._MemoryRecordsPy.MAGIC_OFFSET
_varint: Final = util.decode_varint_py
_count: Final = struct.Struct(">i").unpack_from
_XERIAL: Final = b"\x82SNAPPY\0"
_XERIAL_HEADER: Final = 16

_UNREADABLE: Final = (aiokafka.errors.KafkaError, IndexError, OverflowError, ValueError)


class _Turn(threading.local):
    """What this thread's event loop has taken up in this turn; a read never waits, so it is within one."""

    size = 0

    def add(self, size: int) -> None:
        if not self.size:
            asyncio.get_running_loop().call_soon(self._end)
        self.size += size

    def _end(self) -> None:
        self.size = 0


_turn = _Turn()


def spent() -> bool:
    """Whether the read under way has taken its part, so that other partitions wait for the next."""
    return _turn.size >= TURN


class Memory(memory_records._MemoryRecordsPy):  # type: ignore[misc]
    """What a fetch brought for one partition, batch by batch."""

    _begun = False

    def has_next(self) -> bool:
        """Also false in the midst when the read has taken its part: the rest is fetched again."""
        return self._next_slice is not None and not (self._begun and spent())

    def next_batch(self, *_: Any) -> Any:
        self._begun = True
        raw = self._next_slice
        batch = super().next_batch()
        return batch if batch is None or raw[MAGIC_AT] < 2 else _Batch(batch, raw)


class _Batch:
    """A batch that inflates within bounds, and is read again without headers when aiokafka raises."""

    __slots__ = ("_batch", "_raw")

    def __init__(self, batch: Any, raw: Any) -> None:
        self._batch, self._raw = batch, raw

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        return next(self._batch)

    def __iter__(self) -> Iterator[Any]:
        batch, raw = self._batch, self._raw
        (count,) = _count(raw, COUNT_AT)
        try:
            if batch.compression_type:
                raw = _inflated(raw, batch.compression_type)
                batch = default_records.DefaultRecordBatch(raw)
            _turn.add(len(raw))
            if len(raw) <= LARGE:
                yield from _in_order(batch, batch, count)
            else:
                yield from _in_order(_Short(raw), batch, count)
            return
        except cramjam.DecompressionError as error:
            fault = _told(error)
        except _UNREADABLE:
            try:
                # From its start: aiokafka passes over the offsets that it has handed out already.
                yield from _in_order(_Short(raw), batch, count)
                return
            except _UNREADABLE:
                fault = "its records do not have the form that Kafka gives them"
        yield self._whole(fault)

    def _whole(self, fault: str) -> Any:
        batch = self._batch
        first, last = batch.base_offset, batch.next_offset - 1
        value = records.Unread(
            self._raw,
            f"the batch of records at offsets {first} to {last} cannot be read: {fault}. "
            "Send its events again, with the same ids: what was taken of it counts once.",
        )
        return default_records._DefaultRecordPy(
            last, batch.max_timestamp, batch.timestamp_type, None, value, []
        )


def _in_order(found: Iterable[Any], batch: Any, count: int) -> Iterator[Any]:
    """Records, as long as each lies behind the one before, with room for those to come.

    Kafka checks offsets within a batch only if it is compressed. One that lies would move a position past
    records to come, or pass itself over.
    """
    before, room = batch.base_offset - 1, batch.next_offset - count
    for record in found:
        offset = record.offset
        if not before < offset <= room:
            raise aiokafka.errors.CorruptRecordException("an offset lies outside its place")
        before = offset
        room += 1
        yield record


class _Room(threading.local):
    """Where this thread inflates: memory that is there only as far as it is filled, and not for long."""

    def __init__(self) -> None:
        self.pages = mmap.mmap(-1, MOST, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.view = memoryview(self.pages)


_room = _Room()


def _inflated(raw: Any, codec: int) -> bytes:
    """The batch as it would be without compression."""
    inflate = _INFLATE.get(codec)
    if inflate is None:
        raise cramjam.DecompressionError("no codec that Kafka knows")
    head = bytearray(raw[:HEADER])
    head[CODEC_AT] &= ~CODEC_BITS
    size = MOST
    try:
        size = inflate(raw[HEADER:], _room.view)
        return b"".join((head, _room.view[:size]))
    finally:
        if size > KEPT:
            _room.pages.madvise(mmap.MADV_DONTNEED)


def _snappy(raw: memoryview, room: memoryview) -> int:
    """Snappy, bare or in the blocks in which Java's library writes it."""
    if bytes(raw[: len(_XERIAL)]) != _XERIAL:
        return cramjam.snappy.decompress_raw_into(raw, room)
    at, filled = _XERIAL_HEADER, 0
    while at < len(raw):
        size = int.from_bytes(raw[at : at + 4], "big")
        at += 4
        filled += cramjam.snappy.decompress_raw_into(raw[at : at + size], room[filled:])
        at += size
    return filled


_INFLATE: Final[dict[int, Callable[[Any, Any], int]]] = {
    default_records.DefaultRecordBase.CODEC_GZIP: cramjam.gzip.decompress_into,
    default_records.DefaultRecordBase.CODEC_SNAPPY: _snappy,
    default_records.DefaultRecordBase.CODEC_LZ4: cramjam.lz4.decompress_into,
    default_records.DefaultRecordBase.CODEC_ZSTD: cramjam.zstd.decompress_into,
}


def _told(error: cramjam.DecompressionError) -> str:
    text = str(error)
    if "write whole buffer" in text or "smaller than required" in text or "too much memory" in text:
        return f"it inflates to more than {MOST >> 20} MiB (a smaller batch.size helps)"
    return "it does not inflate"


class _Short(default_records._DefaultRecordBatchPy):  # type: ignore[misc]
    """Records without keys and headers: these are passed over by the record's own length, unread."""

    _buffer: Any
    _pos: int

    def _read_msg(self) -> Any:
        # aiokafka's own way in C reads beyond the end of the buffer, wherever a length that lies sends it.
        buffer = self._buffer
        length, at = _varint(buffer, self._pos)
        end = at + length
        since, at = _varint(buffer, at + 1)
        step, at = _varint(buffer, at)
        size, at = _varint(buffer, at)
        size, at = _varint(buffer, at + max(0, size))
        value = None if size < 0 else bytes(buffer[at : at + size])
        if not at + max(0, size) < end <= len(buffer):
            raise aiokafka.errors.CorruptRecordException("a length reaches beyond its record")
        self._pos = end
        moment = self.max_timestamp if self.timestamp_type else self.first_timestamp + since
        return default_records._DefaultRecordPy(
            self.base_offset + step, moment, self.timestamp_type, None, value, []
        )
