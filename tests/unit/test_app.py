"""The settings of the worker's Faust app, pinned: each is there for a reason that a change has to answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import faust
import pytest
from aiokafka.coordinator.assignors.range import RangePartitionAssignor

from projections import fold
from schemas import settings, topics
from streams import app, batches, faust_app, fold_loop, intake


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[Any]:
    chosen = settings.Settings(kafka="a:9092,b:9093", group="g", worker_name="worker-7", home=tmp_path)
    made: Any = faust_app.make(chosen)
    yield made
    made.consumer._thread.thread_loop.close()  # made with the thread, which is never started here


@pytest.mark.parametrize(
    ("name", "value"),
    [
        # A dead worker's homes are free after 10 s; a live one hears of it within half a second, as until the
        # last one has, all stand still.
        ("broker_session_timeout", 10.0),
        ("broker_heartbeat_interval", 0.5),
        ("broker_rebalance_timeout", 20.0),
        ("broker_request_timeout", 40.0),
        ("broker_max_poll_interval", 300.0),
        ("broker_max_poll_records", batches.TARGET),
        # A topic that was away when homes were shared out is shared out within 5 s of its return.
        ("consumer_metadata_max_age_ms", 5_000),
        # A restart within the session time moves nothing.
        ("consumer_group_instance_id", "g-worker-7"),
        ("consumer_auto_offset_reset", "earliest"),
        ("processing_guarantee", faust.types.enums.ProcessingGuarantee.AT_LEAST_ONCE),
        # What Heed does itself, or not at all.
        ("web_enabled", False),
        ("topic_disable_leader", True),
        ("topic_allow_declare", False),
        ("table_standby_replicas", 0),
        ("autodiscover", False),
        ("stream_wait_empty", False),
        ("stream_buffer_maxsize", 4),
        ("broker_client_id", "heed-worker-7"),
    ],
)
async def test_settings(made: Any, name: str, value: object) -> None:
    assert getattr(made.conf, name) == value


async def test_every_broker_is_named(made: Any) -> None:
    assert [str(url) for url in made.conf.broker] == ["kafka://a:9092", "kafka://b:9093"]


async def test_no_tables_on_disk(made: Any) -> None:
    assert str(made.conf.store) == "memory:"


async def test_the_batch_transport_is_in_place(made: Any) -> None:
    assert isinstance(made.transport, batches.Transport)
    assert isinstance(made.consumer, batches.Consumer)
    assert isinstance(made.consumer._thread, batches.Thread)


async def test_the_consumer_reads_committed_records_by_ranges(made: Any) -> None:
    consumer = made.consumer._thread._create_worker_consumer(made.transport)
    await consumer.stop()
    assert consumer._isolation_level == "read_committed"
    assert consumer._partition_assignment_strategy == (RangePartitionAssignor,)
    assert consumer._session_timeout_ms == 10_000
    assert consumer._heartbeat_interval_ms == 500
    assert consumer._enable_auto_commit is False
    assert consumer._group_instance_id == "g-worker-7"


def test_a_worker_needs_no_more_than_a_few_batches_at_once() -> None:
    assert batches.TARGET == 8000
    assert batches.MOST_BYTES == 8 << 20
    assert app.LANES == 2


def test_every_topic_has_one_reader() -> None:
    read = [*topics.DOORS, *fold_loop.TOPICS, topics.REGISTRY, topics.KEYS]
    assert sorted(read) == sorted(topic.name for topic in topics.all_topics(8))
    assert len(set(read)) == len(read)
    assert (intake.READER, fold_loop.FoldLane.reader) == ("intake", fold.READER)
