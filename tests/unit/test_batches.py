"""A claim that comes while a read of an older one is under way: the seek waits for that read's end."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from faust.types import TP

from schemas import settings
from streams import faust_app, fetches

TP0 = TP("facts", 0)


class _Lane:
    name = "fold-0"
    claim = 1

    def ready(self) -> bool:
        return False

    def claimed(self) -> tuple[int, Mapping[TP, int]]:
        return self.claim, {TP0: 5}


async def test_no_seek_while_a_read_of_an_older_claim_is_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That read takes records from behind the seek, and is dropped: the lane would see a gap and stop."""
    consumer: Any = faust_app.make(settings.Settings(kafka="a:9092", home=tmp_path)).consumer
    told: list[str] = []
    reads: list[asyncio.Future[Any]] = []

    async def seek_wait(_: Any) -> None:
        told.append("seek")

    def getmany(*_: Any, **__: Any) -> asyncio.Future[Any]:
        told.append("read")
        reads.append(asyncio.get_running_loop().create_future())
        return reads[-1]

    lane, wake = _Lane(), asyncio.Event()
    monkeypatch.setattr(consumer, "seek_wait", seek_wait)
    monkeypatch.setattr(consumer, "assignment", lambda: {TP0})
    monkeypatch.setattr(consumer._thread, "getmany", getmany)
    consumer.use([lane], wake)
    driven = asyncio.ensure_future(anext(consumer.getmany(1.0)))
    try:
        await asyncio.sleep(0.05)
        assert told == ["seek", "read"]
        lane.claim = 2
        wake.set()
        await asyncio.sleep(0.25)
        assert told == ["seek", "read"]
        reads[0].set_result({TP0: fetches.SpanList(5, 7, [])})
        await asyncio.sleep(0.05)
        assert told == ["seek", "read", "seek", "read"]
        assert not consumer.gathered[0].spans
    finally:
        driven.cancel()
        consumer._thread.thread_loop.close()
