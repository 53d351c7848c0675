"""Whether a position still fits what lies on the log."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from faust.types import TP

from projections import records
from schemas import topics
from streams import fetches, log
from tests.laws import world

TP0 = TP(topics.FACTS, 0)


class _Consumer:
    """Gives one answer for the partition, after an empty one."""

    def __init__(self, *found: world.Entry, start: int = 7) -> None:
        self.answers: list[dict[Any, Any]] = [{}, {TP0: fetches.SpanList(start, start + 2, found)}]

    async def __aenter__(self) -> Any:
        return self

    async def __aexit__(self, *_: object) -> None:
        return

    async def getmany(self, *_: Any, **__: Any) -> dict[Any, Any]:
        return self.answers.pop(0)

    def assign(self, _: Any) -> None: ...
    def seek(self, *_: Any) -> None: ...
    def pause(self, *_: Any) -> None: ...


READ = world.Entry(topics.FACTS, 0, 7, 1_700_000_000_000, b"read")
OTHER = world.Entry(topics.FACTS, 0, 7, 1_700_000_000_000, b"another")
NEXT = world.Entry(topics.FACTS, 0, 8, 1_700_000_000_000, b"next")


def compare(consumer: _Consumer) -> None:
    asyncio.run(log._compare(cast("Any", consumer), {TP0: (7, records.identity(READ))}))


@pytest.mark.parametrize(
    "there",
    [(READ,), (READ, NEXT), (NEXT,), ()],
    ids=["the same", "and more", "compacted away", "a span without records"],
)
def test_a_log_that_fits(there: tuple[world.Entry, ...]) -> None:
    compare(_Consumer(*there))


def test_another_record_is_a_replaced_log() -> None:
    with pytest.raises(log.Replaced):
        compare(_Consumer(OTHER))
