"""What `streams/batches.py` and `streams/wire.py` rely on in faust-streaming and aiokafka, privately too.

Promises: an upgrade that renames, drops or changes one of these parts fails here, with its name, before it
can lose an event in silence. Then: read the new source, adapt the module of ours, pin its digests here.
Limits: no broker; how the parts work together on a real one, the integration and fault tests show.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import inspect
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import faust
import pytest
from aiokafka.consumer import fetcher, group_coordinator
from aiokafka.consumer.consumer import AIOKafkaConsumer
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.record import default_records, memory_records, util
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from aiokafka.util import commit_structure_validate
from faust.transport import consumer as faust_consumer
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage

from projections import records
from schemas import settings
from streams import batches, faust_app, fetches, wire
from tests import bombs

TP0 = TopicPartition("t", 0)
ABORTED = 7  # a producer whose transaction is aborted
CONTROL = 0x20
_RECORD = bombs.record(0, b"v")
FETCH_RESULT: Any = fetches.SpanResult.__base__  # in its module, ours stands under its name
PARTITION_RECORDS: Any = fetches.Unpacked.__base__


def test_versions() -> None:
    """The versions that were read. Another one: read it first, see above."""
    assert importlib.metadata.version("faust-streaming") == "0.15.3"
    assert importlib.metadata.version("mode-streaming") == "0.7.1"
    assert importlib.metadata.version("aiokafka") == "0.14.0"


# What we override, or depend on so closely that a change of its body has to be read.
SOURCES = {
    FETCH_RESULT.__init__: "08116796c6feaa6b",
    FETCH_RESULT.check_assignment: "4675ae771fd6ab00",
    FETCH_RESULT.getall: "cad8ce912d89c1e1",
    FETCH_RESULT.has_more: "9002594f2a48ec08",
    fetcher.Fetcher.fetched_records: "6432ce7f8eab840c",
    fetcher.Fetcher._proc_fetch_request: "51e66543d787a186",
    fetcher.PartitionRecords._unpack_records: "a2153689239f3325",
    memory_records._MemoryRecordsPy.__init__: "2940004c8a825f88",
    memory_records._MemoryRecordsPy.has_next: "3f4723ea7244758e",
    memory_records._MemoryRecordsPy.next_batch: "d19f764c77ec2dcf",
    memory_records._MemoryRecordsPy._cache_next: "5c43fe30908f558e",
    default_records._DefaultRecordBatchPy._maybe_uncompress: "53a33d3fe08dda0e",
    default_records._DefaultRecordBatchPy._read_msg: "1a125cf8da3f189a",
    default_records._DefaultRecordBatchPy.__iter__: "93622f87e5d203ce",
    default_records._DefaultRecordBatchPy.__next__: "f58b6d4a362696bb",
    util.decode_varint_py: "a36d5b6f7518fed6",
    group_coordinator.GroupCoordinator._heartbeat_routine: "40df47db367dd341",
    group_coordinator.GroupCoordinator.check_errors: "856ae8e2ecfa061a",
    group_coordinator.GroupCoordinator._push_error_to_user: "087313db00b7ee45",
    driver.AIOKafkaConsumerThread._create_worker_consumer: "936e53aab137bb69",
    driver.AIOKafkaConsumerThread.getmany: "4d24d3cd32851e55",
    driver.AIOKafkaConsumerThread._fetch_records: "dcc2d96f49713c19",
    driver.AIOKafkaConsumerThread._seek_wait: "8a24992a74b20055",
    driver.Consumer._new_consumer_thread: "89ce55d44796a2e9",
    faust_consumer.Consumer.getmany: "b3651b6ff09e9d5b",
    faust_consumer.Consumer.perform_seek: "907234e153925494",
    faust_consumer.Consumer._drain_messages: "51f5d28b77953a29",
    faust_consumer.Consumer.on_partitions_assigned: "accafbb022f7b720",
    faust_consumer.Consumer.on_partitions_revoked: "901b70cdae5c18f3",
    faust_consumer.Consumer.stop_flow: "51903f7ff9e2f463",
    faust_consumer.Consumer.resume_flow: "a38453ab71324d3b",
    faust_consumer.ThreadDelegateConsumer.seek_to_committed: "172c89bffaa47053",
}


@pytest.mark.parametrize("part", SOURCES, ids=lambda part: part.__qualname__)
def test_the_body_is_the_one_that_was_read(part: Any) -> None:
    text = inspect.getsource(part)
    assert hashlib.blake2b(text.encode(), digest_size=8).hexdigest() == SOURCES[part], (
        f"{part.__module__}.{part.__qualname__} has changed: read it, adapt what relies on it, pin it anew"
    )


@pytest.mark.parametrize(
    ("part", "parameters"),
    [
        (FETCH_RESULT.getall, ["self", "max_records"]),
        (driver.AIOKafkaConsumerThread._create_worker_consumer, ["self", "transport"]),
        (driver.AIOKafkaConsumerThread.getmany, ["self", "active_partitions", "timeout"]),
        (driver.AIOKafkaConsumerThread.call_thread, ["self", "fun", "args", "kwargs"]),
        (driver.AIOKafkaConsumerThread.highwater, ["self", "tp"]),
        (driver.AIOKafkaConsumerThread._ensure_consumer, ["self"]),
        (driver.AIOKafkaConsumerThread.__init__, ["self", "consumer", "kwargs"]),
        (driver.Consumer._new_consumer_thread, ["self"]),
        (driver.Consumer.getmany, ["self", "timeout"]),
        (driver.Consumer.seek_to_committed, ["self"]),
        (driver.Consumer.seek_wait, ["self", "partitions"]),
        (driver.Consumer.assignment, ["self"]),
        (faust.Schema.loads_key, ["self", "app", "message", "loads", "serializer"]),
        (faust.Schema.loads_value, ["self", "app", "message", "loads", "serializer"]),
        (AIOKafkaConsumer.commit, ["self", "offsets"]),
    ],
    ids=lambda part: getattr(part, "__qualname__", None),
)
def test_signatures(part: Any, parameters: list[str]) -> None:
    assert list(inspect.signature(part).parameters) == parameters


@pytest.mark.parametrize(
    ("ours", "theirs", "names"),
    [
        (fetches.SpanResult, FETCH_RESULT, {"getall"}),
        (fetches.Unpacked, PARTITION_RECORDS, {"_consumer_record"}),
        (batches.Thread, driver.AIOKafkaConsumerThread, {"_create_worker_consumer"}),
        (batches.Consumer, driver.Consumer, {"_new_consumer_thread", "seek_to_committed", "getmany"}),
        (batches.Transport, driver.Transport, {"Consumer"}),
        (wire.Memory, memory_records._MemoryRecordsPy, {"has_next", "next_batch"}),
        (wire._Short, default_records._DefaultRecordBatchPy, {"_read_msg"}),
        (batches.Schema, faust.Schema, {"loads_key", "loads_value"}),
    ],
)
def test_every_override_overrides_something(ours: type, theirs: type, names: set[str]) -> None:
    defined = {name for name in vars(ours) if not name.startswith("__") and hasattr(theirs, name)}
    # Service subclasses get bookkeeping of their own; what counts is that ours are all still theirs.
    assert names <= defined, f"no longer parts of {theirs.__name__}: {names - defined}"


def test_a_partition_of_faust_is_no_partition_of_aiokafka() -> None:
    """Equal and of equal hash, but a commit takes its own kind alone."""
    theirs = driver.ensure_aiokafka_TP(TP("t", 0))
    assert theirs == TP0 == TP("t", 0)
    assert commit_structure_validate({theirs: 5}) == {TP0: OffsetAndMetadata(5, "")}
    with pytest.raises(TypeError):
        commit_structure_validate({TP("t", 0): 5})


def test_the_fetcher_makes_and_knows_our_results() -> None:
    """Fetcher looks the class up in its module, and asks for that very type when it hands results out."""
    assert fetcher.FetchResult is fetches.SpanResult
    assert fetcher.PartitionRecords is fetches.Unpacked
    assert "type(res_or_error) is FetchResult" in inspect.getsource(fetcher.Fetcher.fetched_records)
    assert "FetchResult(" in inspect.getsource(fetcher.Fetcher._proc_fetch_request)


def test_the_fetcher_takes_our_batches() -> None:
    assert fetcher.MemoryRecords is wire.Memory
    assert "MemoryRecords(" in inspect.getsource(fetcher.Fetcher._proc_fetch_request)


def test_a_batch_in_c_takes_what_we_inflated_as_not_compressed() -> None:
    """It is handed on behind a header without its codec."""
    batch = default_records.DefaultRecordBatch(wire._inflated(memoryview(bombs.batch(4, [_RECORD])), 4))
    assert (batch.compression_type, [one.value for one in batch]) == (0, [b"v"])


@pytest.mark.parametrize(
    "attribute",
    ["attributes", "base_offset", "compression_type", "is_control_batch", "is_transactional",
     "max_timestamp", "next_offset", "producer_id", "timestamp_type"],
)  # fmt: skip
def test_a_batch_in_c_tells(attribute: str) -> None:
    """What is asked of a batch, by the fetcher through ours and by ours."""
    raw = bombs.moved(bombs.batch(4, [_RECORD]), 7)
    batch: Any = wire.Memory(raw).next_batch()
    assert getattr(batch, attribute) == getattr(default_records._DefaultRecordBatchPy(raw), attribute)


def test_the_header_is_laid_out_as_we_write_it() -> None:
    raw = bombs.batch(4, [_RECORD] * 3)
    assert (wire.HEADER, raw[wire.MAGIC_AT], raw[wire.CODEC_AT]) == (61, 2, 4)
    assert int.from_bytes(raw[wire.COUNT_AT : wire.HEADER], "big") == 3


def test_an_endless_poll_interval_never_leaves_the_group() -> None:
    """`inf` is compared and subtracted, in these two places."""
    assert inspect.getsource(group_coordinator).count("_max_poll_interval") == 4
    assert min(2.0, float("inf") - 1.0) == 2.0


async def test_what_we_change_on_the_consumer_is_there_and_is_not_used_before_its_start(
    tmp_path: Path,
) -> None:
    made: Any = faust_app.make(settings.Settings(kafka="a:9092", home=tmp_path))
    theirs = driver.AIOKafkaConsumerThread._create_worker_consumer(made.consumer._thread, made.transport)
    ours = made.consumer._thread._create_worker_consumer(made.transport)
    try:
        changed = (
            "_isolation_level",
            "_partition_assignment_strategy",
            "_fetch_max_wait_ms",
            "_fetch_max_bytes",
            "_max_poll_interval_ms",
        )
        assert [name for name in changed if not hasattr(theirs, name)] == []
        assert theirs._isolation_level == "read_uncommitted"  # why we override: it delivers aborted records
        assert theirs._partition_assignment_strategy[0] is not RangePartitionAssignor
        assert theirs._fetcher is ours._fetcher is None
        assert theirs._coordinator is ours._coordinator is None
    finally:
        await theirs.stop()
        await ours.stop()
        made.consumer._thread.thread_loop.close()


def test_a_message_takes_our_batch(tmp_path: Path) -> None:
    span = records.Span(4, 9, [])
    batch = batches.Batch(_NO_LANE, 1, {TP("facts", 3): span})
    value: Any = batch
    message = ConsumerMessage(
        "facts", 3, 8, 0.0, 1, [], None, value, None, 0, 0, TP("facts", 3), generation_id=5
    )  # fmt: skip
    assert (message.topic, message.partition, message.offset, message.generation_id) == ("facts", 3, 8, 5)
    assert message.value is value
    assert batches.Schema().loads_value(None, message) is value


@pytest.mark.capability("LAW-4")
class TestSpans:
    """What a read says that it covers, on bytes as a broker sends them."""

    async def test_plain_records(self) -> None:
        assert _read(_batch(0, 3)) == [(0, 3, [0, 1, 2])]

    async def test_a_read_cut_short_joins_on(self) -> None:
        assert _read(_batch(0, 5), most=2) == [(0, 2, [0, 1]), (2, 4, [2, 3]), (4, 5, [4])]

    async def test_records_below_the_position_are_no_part_of_it(self) -> None:
        assert _read(_batch(0, 5), position=3) == [(3, 5, [3, 4])]

    async def test_a_compacted_hole_is_covered(self) -> None:
        assert _read(_batch(0, 2) + _batch(7, 1)) == [(0, 8, [0, 1, 7])]

    async def test_a_control_record_alone_is_covered(self) -> None:
        assert _read(_control(4), position=4) == [(4, 5, [])]

    async def test_control_records_between_and_behind_are_covered(self) -> None:
        raw = _batch(0, 2, producer=1) + _control(2, producer=1) + _batch(3, 1) + _control(4, producer=1)
        assert _read(raw) == [(0, 5, [0, 1, 3])]

    async def test_aborted_records_are_covered_and_not_delivered(self) -> None:
        raw = _batch(0, 2, producer=ABORTED) + _control(2, producer=ABORTED) + _batch(3, 1)
        assert _read(raw, aborted=[(ABORTED, 0)]) == [(0, 4, [3])]

    async def test_nothing_is_covered_after_a_seek_elsewhere(self) -> None:
        result, assignment = _result(_batch(0, 3))
        assignment.state_value(TP0).seek(1)
        assert not result.getall(10)

    async def test_an_empty_span_is_false_and_a_span_without_records_is_true(self) -> None:
        assert not fetches.SpanList(4, 4, [])
        assert fetches.SpanList(4, 5, [])


class _NoLane:
    name = "none"

    def owns(self, tp: TP) -> bool:
        return False

    def assign(self, tps: frozenset[TP]) -> None: ...

    def ready(self) -> bool:
        return True

    def reserve(self, claim: int) -> None: ...

    def claimed(self) -> tuple[int, dict[TP, int]]:
        return 0, {}


_NO_LANE = _NoLane()


@pytest.fixture
async def consumer(tmp_path: Path) -> AsyncIterator[Any]:
    """Our consumer without a broker."""
    made: Any = faust_app.make(settings.Settings(kafka="a:9092", home=tmp_path))
    yield made.consumer
    made.consumer._thread.thread_loop.close()


async def test_flow_is_stopped_and_resumed_by_what_getmany_waits_for(consumer: Any) -> None:
    assert consumer.flow_active
    consumer.stop_flow()
    assert not consumer.flow_active
    assert not consumer.can_resume_flow.is_set()
    consumer.resume_flow()
    assert consumer.flow_active
    assert consumer.can_resume_flow.is_set()
    assert consumer.should_stop is False


async def test_perform_seek_takes_no_offsets_for_an_answer(
    consumer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Faust asks for committed offsets at every assignment; ours gives none, since PostgreSQL has them."""
    told: list[frozenset[TP]] = []
    lane = _NoLane()
    monkeypatch.setattr(lane, "assign", told.append)
    monkeypatch.setattr(lane, "owns", lambda tp: tp.partition == 0)
    monkeypatch.setattr(consumer, "assignment", lambda: {TP("facts", 0), TP("facts", 1)})
    consumer.use([lane], None)
    await consumer.perform_seek()
    assert told == [frozenset({TP("facts", 0)})]


def _batch(start: int, count: int, producer: int = -1) -> bytes:
    """A record batch as it lies on the broker, transactional if a producer is given."""
    transactional = producer >= 0
    builder = DefaultRecordBatchBuilder(
        magic=2, compression_type=0, is_transactional=transactional, producer_id=producer, producer_epoch=0,
        base_sequence=0, batch_size=1 << 20,
    )  # fmt: skip
    for number in range(count):
        assert builder.append(number, 1_000, None, b"v", []) is not None
    raw = bytearray(builder.build())
    raw[0:8] = start.to_bytes(8, "big")
    return bytes(raw)


def _control(start: int, producer: int = 1, kind: int = 0) -> bytes:
    """A batch with the marker that ends a transaction: 0 aborts, 1 commits."""
    builder = DefaultRecordBatchBuilder(
        magic=2, compression_type=0, is_transactional=True, producer_id=producer, producer_epoch=0,
        base_sequence=0, batch_size=1 << 16,
    )  # fmt: skip
    builder.append(0, 1_000, b"\0\0" + kind.to_bytes(2, "big"), b"\0" * 6, [])
    raw = bytearray(builder.build())
    raw[0:8] = start.to_bytes(8, "big")
    raw[22] |= CONTROL
    return bytes(raw)


def _result(raw: bytes, position: int = 0, aborted: list[tuple[int, int]] | None = None) -> tuple[Any, Any]:
    subscriptions = SubscriptionState()
    subscriptions.assign_from_user({TP0})
    assignment = subscriptions.subscription.assignment
    assignment.state_value(TP0).seek(position)
    part = fetcher.PartitionRecords(
        TP0, MemoryRecords(raw), aborted, position, None, None, False, fetcher.READ_COMMITTED
    )  # fmt: skip
    return fetcher.FetchResult(TP0, assignment=assignment, partition_records=part, backoff=0), assignment


def _read(
    raw: bytes, position: int = 0, most: int | None = None, aborted: list[tuple[int, int]] | None = None
) -> list[tuple[int, int, list[int]]]:
    """Every read of a fetch: what it covers, and the offsets of its records."""
    result, assignment = _result(raw, position, aborted)
    found = []
    while result.has_more():
        spans = result.getall(most)
        if not spans:
            break
        found.append((spans.start, spans.end, [record.offset for record in spans]))
        assert assignment.state_value(TP0).position == spans.end
    return found
