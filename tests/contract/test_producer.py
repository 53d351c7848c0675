"""The producer on a real Kafka: one that failed is gone, and leaves nothing running behind it."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka.producer import message_accumulator

from schemas import errors
from schemas import topics as names
from streams import broker, producer

RECORD = producer.Record(names.EMAIL_ACTIVITY, 0, None, b"{}")


async def test_a_producer_that_failed_leaves_no_task(topics: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is buffered can be neither sent nor waited for."""
    monkeypatch.setattr(producer, "CLOSE_SECONDS", 0.3)
    buffered = message_accumulator.MessageAccumulator
    monkeypatch.setattr(buffered, "drain_by_nodes", lambda *_, **__: ({}, False))
    before = asyncio.all_tasks()
    out = producer.LogProducer(broker.Broker(topics), "t")
    for _ in range(2):
        with pytest.raises(errors.Away):
            await out.append([RECORD], timeout=0.5)
    await asyncio.wait_for(out.stop(), 5)
    await asyncio.sleep(0.1)
    assert asyncio.all_tasks() == before


async def test_who_shares_a_producer_that_failed_is_told_that_the_log_is_away(
    topics: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Intake and relay share one: closing it for the first is no cancelling of the second."""
    monkeypatch.setattr(producer, "CLOSE_SECONDS", 0.3)
    monkeypatch.setattr(
        message_accumulator.MessageAccumulator, "drain_by_nodes", lambda *_, **__: ({}, False)
    )
    out = producer.LogProducer(broker.Broker(topics), "t")
    first = asyncio.create_task(out.append([RECORD], timeout=0.5))
    await asyncio.sleep(0.3)
    second = asyncio.create_task(out.append([RECORD] * producer.TOGETHER, timeout=5))
    found = await asyncio.gather(first, second, return_exceptions=True)
    assert [type(one) for one in found] == [errors.Away, errors.Away]
    await asyncio.wait_for(out.stop(), 5)


async def test_after_a_failure_the_next_one_writes(topics: str, monkeypatch: pytest.MonkeyPatch) -> None:
    out = producer.LogProducer(broker.Broker(topics), "t")
    with monkeypatch.context() as patched:
        patched.setattr(out, "_send", lambda *_: asyncio.sleep(9))
        with pytest.raises(errors.Away):
            await out.append([RECORD], timeout=0.5)
    await out.append([RECORD])
    await out.stop()
