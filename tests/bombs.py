"""Record batches that no client would make: bombs, and batches whose inside is not what they say.

Promises: bytes as a producer sends them, with a right checksum. A bomb is at most 2 MiB, the most a topic of
ours takes, and as large inflated as its codec allows: gzip 1.5 GiB, lz4 470 MiB, zstd 9 GiB, snappy 40 MiB;
its records are whole, so a broker that counts them finds nothing wrong.
Called by the tests of what stands on a topic.
"""

from __future__ import annotations

import functools
import struct
import zlib
from collections.abc import Callable, Iterable
from typing import Any

import aiokafka
import aiokafka.errors
import cramjam
from aiokafka import codec as codecs
from aiokafka.protocol import produce
from aiokafka.record import default_records, util

HEADER = default_records.DefaultRecordBase.HEADER_STRUCT
CRC_AT = default_records.DefaultRecordBase.CRC_OFFSET
SIGNED_FROM = default_records.DefaultRecordBase.ATTRIBUTES_OFFSET
GZIP, SNAPPY, LZ4, ZSTD = 1, 2, 3, 4
RLE = 128 << 10  # bytes of one block of zstd


def varint(number: int) -> bytes:
    out = bytearray()
    util.encode_varint_py(number, out.append)
    return bytes(out)


def opened(number: int, size: int) -> bytes:
    """A record up to its value of `size` bytes; no headers (one NUL) end it."""
    body = b"\0\0" + varint(number) + varint(-1) + varint(size)
    return varint(len(body) + size + 1) + body


def record(number: int, value: bytes) -> bytes:
    return opened(number, len(value)) + value + b"\0"


def headed(number: int, value: bytes, count: int, last: bytes = b"") -> bytes:
    """A record with `count` headers of two bytes each (an empty name, no value), the last one with a name."""
    headers = b"\0\x01" * (count - 1) + varint(len(last)) + last + b"\x01"
    body = b"\0\0" + varint(number) + varint(-1) + varint(len(value)) + value + varint(count) + headers
    return varint(len(body)) + body


def framed(codec: int, count: int, payload: bytes, last: int | None = None) -> bytes:
    """A batch of `count` records by its own word, around a payload compressed already."""
    delta = count - 1 if last is None else last
    raw = bytearray(
        HEADER.pack(0, HEADER.size - 12 + len(payload), -1, 2, 0, codec, delta, 1_000, 1_000,
                    -1, -1, -1, count)
    )  # fmt: skip
    raw += payload
    struct.pack_into(">I", raw, CRC_AT, util.calc_crc32c(bytes(raw[SIGNED_FROM:])))
    return bytes(raw)


def batch(codec: int, told: Iterable[bytes], count: int | None = None, last: int | None = None) -> bytes:
    """A batch of these records; `count` lies about how many, `last` is the offset of the last there was."""
    some = list(told)
    return framed(codec, len(some) if count is None else count, _COMPRESS[codec](b"".join(some)), last)


def moved(raw: bytes, offset: int) -> bytes:
    """The batch as it lies in a log from this offset on."""
    return offset.to_bytes(8, "big") + raw[8:]


def count(raw: bytes) -> int:
    """How many offsets a batch takes."""
    return int(HEADER.unpack_from(raw)[6]) + 1


def payload(raw: bytes) -> bytes:
    """What a broker leaves as it is: all behind the header."""
    return raw[HEADER.size :]


def behind(raw: bytes, more: bytes) -> bytes:
    """The batch with more behind its compressed end."""
    return framed(raw[SIGNED_FROM + 1], count(raw), payload(raw) + more)


async def send(bootstrap: str, topic: str, part: int, raw: bytes) -> int:
    """A batch as it is, to the broker; gives the offset it got, or raises."""
    async with aiokafka.AIOKafkaProducer(bootstrap_servers=bootstrap, request_timeout_ms=60_000) as made:
        await made.partitions_for(topic)
        node = made.client.cluster.leader_for_partition(aiokafka.TopicPartition(topic, part))
        answer: Any = await made.client.send(
            node, produce.ProduceRequest(None, -1, 60_000, [(topic, [(part, raw)])])
        )
    _, code, offset, *_ = answer.topics[0][1][0]
    if code:
        raise aiokafka.errors.for_code(code)
    return int(offset)


def _gzip(payload: bytes) -> bytes:
    made = zlib.compressobj(9, zlib.DEFLATED, 31)
    return made.compress(payload) + made.flush()


def _lz4(payload: bytes) -> bytes:
    made = cramjam.lz4.Compressor(level=9, content_checksum=False, block_linked=False)
    made.compress(payload)
    return bytes(made.finish())


_COMPRESS: dict[int, Callable[[bytes], bytes]] = {
    0: bytes,
    1: _gzip,
    2: lambda payload: bytes(cramjam.snappy.compress_raw(payload)),
    3: _lz4,
    4: lambda payload: bytes(cramjam.zstd.compress(payload)),
}


def _streamed(compress: Callable[[bytes], bytes], end: Callable[[], bytes], count: int, size: int) -> bytes:
    zeros, out = bytes(1 << 20), []
    for number in range(count):
        out.append(compress(opened(number, size)))
        out += [compress(zeros) for _ in range(size >> 20)]
        out.append(compress(b"\0"))
    return b"".join(out) + end()


@functools.cache
def gzip_bomb(count: int) -> bytes:
    made = zlib.compressobj(9, zlib.DEFLATED, 31)
    return framed(1, count, _streamed(made.compress, made.flush, count, 1500 // count << 20))


@functools.cache
def lz4_bomb(count: int) -> bytes:
    made = cramjam.lz4.Compressor(level=9, content_checksum=False, block_linked=False)

    def compress(some: bytes) -> bytes:
        made.compress(some)
        return b""

    return framed(3, count, _streamed(compress, lambda: bytes(made.finish()), count, 470 // count << 20))


def snappy_bomb(count: int) -> bytes:
    return batch(2, [record(number, bytes(40 // count << 20)) for number in range(count)])


def xerial_bomb(count: int) -> bytes:
    """Snappy in the blocks of Java's library, none of which is large."""
    plain = b"".join(record(number, bytes(40 // count << 20)) for number in range(count))
    return framed(2, count, codecs.snappy_encode(plain))


def zstd_bomb(count: int, gib: int = 9, window: int = 20) -> bytes:
    """Blocks that repeat one NUL, 128 KiB in 4 bytes each; the frame names no size."""
    runs = gib * (1 << 30) // count // RLE
    size = min(runs * RLE, (1 << 31) - RLE)
    parts = []
    for number in range(count):
        head = opened(number, size)
        parts.append((len(head) << 3).to_bytes(3, "little") + head)
        parts += [(RLE << 3 | 2).to_bytes(3, "little") + b"\0"] * (size // RLE)
        parts.append((1 << 3).to_bytes(3, "little") + b"\0")
    parts.append((0 << 3 | 1).to_bytes(3, "little"))
    return framed(4, count, b"\x28\xb5\x2f\xfd" + bytes([0, (window - 10) << 3]) + b"".join(parts))


BOMBS: dict[str, Callable[[int], bytes]] = {
    "gzip": gzip_bomb,
    "snappy": snappy_bomb,
    "snappy in blocks": xerial_bomb,
    "lz4": lz4_bomb,
    "zstd": zstd_bomb,
    "zstd with a wide window": lambda count: zstd_bomb(count, window=27),
}
