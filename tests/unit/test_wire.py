"""Whatever a producer puts into a batch: odd names, bombs, rubbish; each record once, or the batch aside."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
import tracemalloc
from collections.abc import Callable
from typing import Any

import aiokafka
import pytest
from aiokafka import codec as codecs
from aiokafka.consumer import fetcher
from aiokafka.record.default_records import DefaultRecordBatch, _DefaultRecordBatchBuilderPy

from projections import records
from schemas import topics
from streams import wire
from tests import bombs

CODECS = {"gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
TP0 = aiokafka.TopicPartition("t", 0)
EVENTS = [(n, b"v%d" % n) for n in range(5)]


class _Name(str):
    __slots__ = ()

    def encode(self, *_: Any) -> bytes:
        return b"\xff"


def _batch(codec: int, start: int = 0, count: int = 5, odd: int | None = None) -> bytes:
    builder = _DefaultRecordBatchBuilderPy(2, codec, False, -1, -1, 0, 1 << 20)
    for n in range(count):
        headers: Any = [(_Name("no") if n == odd else "door", b"x")]
        builder.append(n, 1_000, b"k", b"v%d" % (start + n), headers)
    raw = bytearray(builder.build())
    raw[:8] = start.to_bytes(8, "big")
    return bytes(raw)


def _partition(raw: bytes, position: int = 0) -> Any:
    return fetcher.PartitionRecords(
        TP0, wire.Memory(raw), None, position, None, None, True, fetcher.READ_COMMITTED
    )


def _values(raw: bytes) -> list[tuple[int, bytes]]:
    return [(one.offset, one.value) for one in _partition(raw)]


async def _alone(raw: bytes) -> records.Unread:
    """The value that stands for a batch of 100 to 109, between two good ones."""
    read = _partition(_batch(0, 95) + bombs.moved(raw, 100) + _batch(0, 110), 95)
    found = list(read)
    assert [one.offset for one in found] == [*range(95, 100), 109, *range(110, 115)]
    assert read.next_fetch_offset == 115
    value = found[5].value
    assert isinstance(value, records.Unread)
    assert value == bombs.moved(raw, 100)
    assert "offsets 100 to 109" in value.detail
    return value


@pytest.mark.parametrize("codec", [0, *CODECS.values()], ids=["plain", *CODECS])
async def test_a_batch_is_read(codec: int) -> None:
    assert _values(_batch(codec)) == EVENTS


@pytest.mark.parametrize("codec", [0, *CODECS.values()], ids=["plain", *CODECS])
async def test_a_name_that_is_not_utf8_in_the_midst_of_a_batch(codec: int) -> None:
    read = _partition(_batch(codec, odd=2))
    assert [(one.offset, one.value) for one in read] == EVENTS
    assert read.next_fetch_offset == 5


async def test_snappy_without_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """As librdkafka writes it; aiokafka and Java write blocks."""
    monkeypatch.setattr(
        "aiokafka.record.default_records.snappy_encode",
        lambda raw: codecs.snappy_encode(raw, xerial_compatible=False),
    )
    raw = _batch(CODECS["snappy"])
    assert b"SNAPPY" not in raw
    assert _values(raw) == EVENTS


@pytest.mark.capability("LAW-7")
@pytest.mark.parametrize("name", bombs.BOMBS)
async def test_a_bomb_is_set_aside_in_one_piece(name: str) -> None:
    assert "more than 32 MiB" in (await _alone(bombs.BOMBS[name](10))).detail


@pytest.mark.capability("LAW-7")
@pytest.mark.parametrize("name", bombs.BOMBS)
def test_a_bomb_takes_no_more_memory_than_its_bound(name: str) -> None:
    """In a process of its own, whose peak tells: the bound, the window of zstd, and the batch itself."""
    told = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(_PEAK), name], capture_output=True, text=True, check=True
    )  # fmt: skip
    grown = int(told.stdout) * (1 if sys.platform == "darwin" else 1024)
    assert grown < 2 * wire.MOST + (8 << 20)


_PEAK = """
import asyncio, resource, sys
from tests import bombs
from tests.unit import test_wire

async def main():
    raw = bombs.BOMBS[sys.argv[1]](10)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(3):
        assert len(list(test_wire._partition(raw))) == 1
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)

asyncio.run(main())
"""


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
async def test_a_batch_of_just_the_bound_is_read(codec: int) -> None:
    room = wire.MOST - len(bombs.record(0, b""))
    fits, bursts = (bombs.batch(codec, [bombs.record(0, bytes(room - spare))]) for spare in (6, 5))
    assert [len(one.value) for one in _partition(fits)] == [room - 6]
    assert isinstance(next(_partition(bursts)).value, records.Unread)


def _rubbish(codec: int) -> bytes:
    return bombs.framed(codec, 10, b"{no codec's bytes}" * 9)


def _cut(codec: int) -> bytes:
    whole = bombs.batch(codec, [bombs.record(n, b"v" * 99) for n in range(10)])
    return bombs.framed(codec, 10, whole[wire.HEADER : -7])


def _too_few(codec: int) -> bytes:
    return bombs.batch(codec, [bombs.record(n, b"v") for n in range(8)], count=10)


def _no_records(codec: int) -> bytes:
    return bombs.batch(codec, [b"\xff" * 40], count=10)


def _lengths_that_lie(codec: int) -> bytes:
    return bombs.batch(codec, [b"\x7e\0\0\0" + b"\xfe\xff\xff\xff\x0f" * 4], count=10)


@pytest.mark.capability("LAW-7")
@pytest.mark.parametrize("codec", [*CODECS.values(), 5, 7], ids=[*CODECS, "5", "7"])
@pytest.mark.parametrize("made", [_rubbish, _cut], ids=lambda made: made.__name__)
async def test_what_does_not_inflate_is_set_aside(made: Callable[[int], bytes], codec: int) -> None:
    if codec > 4 and made is _cut:
        pytest.skip("nothing can be compressed with it")
    assert "does not inflate" in (await _alone(made(codec))).detail


@pytest.mark.capability("LAW-7")
@pytest.mark.parametrize("codec", [0, *CODECS.values()], ids=["plain", *CODECS])
@pytest.mark.parametrize("made", [_no_records, _lengths_that_lie], ids=lambda made: made.__name__)
async def test_what_holds_no_records_is_set_aside(made: Callable[[int], bytes], codec: int) -> None:
    assert "do not have the form" in (await _alone(made(codec))).detail


@pytest.mark.capability("LAW-7")
@pytest.mark.parametrize("codec", [0, CODECS["zstd"]], ids=["plain", "zstd"])
async def test_records_before_the_bad_one_are_read(codec: int) -> None:
    found = list(_partition(_too_few(codec)))
    assert [one.offset for one in found] == [*range(8), 9]
    assert isinstance(found[-1].value, records.Unread)


@pytest.mark.capability("LAW-4")
@pytest.mark.parametrize(
    ("numbers", "read_on"),
    [([77], []), ([0, 0], [0]), ([0, 2, 1], [0]), ([-1], []), ([0, 2**40], [0]), ([0, 1, 1], [0, 1])],
    ids=str,
)
async def test_an_offset_that_lies_moves_no_position(numbers: list[int], read_on: list[int]) -> None:
    """Kafka takes such a batch, if it is not compressed."""
    count = len(numbers)
    raw = bombs.batch(0, [bombs.record(number, b"v") for number in numbers])
    found = list(_partition(raw + bombs.moved(_batch(0), count)))
    assert [one.offset for one in found] == [*read_on, count - 1, *range(count, count + 5)]
    assert isinstance(found[len(read_on)].value, records.Unread)


async def test_a_hole_that_compaction_left_is_no_lie() -> None:
    raw = bombs.batch(0, [bombs.record(number, b"v") for number in (0, 3, 4)], last=6)
    assert [one.offset for one in _partition(raw)] == [0, 3, 4]


async def test_a_count_of_two_thousand_million_is_one_record() -> None:
    raw = bombs.framed(CODECS["zstd"], 2**31 - 1, b"rubbish")
    read = _partition(raw)
    assert [one.offset for one in read] == [2**31 - 2]
    assert read.next_fetch_offset == 2**31 - 1


async def test_a_position_within_a_bomb_does_not_pass_it_in_silence() -> None:
    read = _partition(bombs.moved(bombs.BOMBS["zstd"](10), 100), position=104)
    assert [one.offset for one in read] == [109]


async def test_a_read_inflates_its_part_and_the_rest_waits() -> None:
    big = bombs.batch(CODECS["zstd"], [bombs.record(0, bytes(10 << 20))])
    raw = b"".join(bombs.moved(big, n) for n in range(5))
    read = _partition(raw)
    assert [one.offset for one in read] == [0, 1]
    assert read.next_fetch_offset == 2
    assert wire.spent()
    assert wire.Memory(raw).has_next(), "aiokafka would take a fetch without records for a record too large"
    await asyncio.sleep(0)
    assert not wire.spent()


@pytest.mark.parametrize("name", [b"", b"\xff"])
@pytest.mark.parametrize(("codec", "count"), [(0, 1_000_000), (bombs.GZIP, 15_000_000), (0, 100_000)])
async def test_millions_of_headers_are_passed_over(codec: int, count: int, name: bytes) -> None:
    told = [bombs.record(0, b"a"), bombs.headed(1, b"b", count, name), bombs.record(2, b"c")]
    raw = bombs.batch(codec, told)
    assert len(raw) <= topics.MAX_MESSAGE_BYTES
    tracemalloc.start()
    try:
        assert [value for _, value in _values(raw)] == [b"a", b"b", b"c"]
        assert tracemalloc.get_traced_memory()[1] < 3 * wire.MOST
    finally:
        tracemalloc.stop()


def test_aiokafka_alone_would_burst() -> None:
    """Why we inflate ourselves."""
    raw = bombs.batch(CODECS["zstd"], [bombs.record(0, bytes(2 * wire.MOST))])
    assert len(next(iter(DefaultRecordBatch(raw))).value or b"") == 2 * wire.MOST
