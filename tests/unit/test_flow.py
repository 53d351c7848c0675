"""What flows: counted between looks, in bars of equal time, whatever was missed or made anew."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from api.console import flow
from schemas import errors

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def flows(*looks: tuple[int, int, int]) -> flow.Flow:
    """Looks at (second, admitted, folded)."""
    database: Any = None
    made = flow.Flow(database)
    for second, admitted, folded in looks:
        made.add(flow.Look(NOW + timedelta(seconds=second), admitted, folded))
    return made


def test_one_look_says_nothing() -> None:
    assert flows().lately() is None
    assert flows((0, 5, 5)).lately() is None


def test_what_was_before_the_first_look_is_not_counted() -> None:
    told = flows((0, 100, 90), (5, 104, 95), (35, 110, 110)).lately()
    assert told is not None
    assert (told["since"], told["admitted"], told["folded"]) == (NOW, 10, 20)
    assert told["bars"][-2:] == [5, 15] and sum(told["bars"]) == 20
    assert len(told["bars"]) == flow.KEPT_SECONDS // flow.BAR_SECONDS
    assert told["most"] == 15


def test_a_quarter_of_an_hour_is_kept() -> None:
    told = flows(*((5 * n, n, n) for n in range(1_000))).lately()
    assert told is not None
    assert told["folded"] == 180
    assert set(told["bars"]) == {6}


def test_a_log_that_was_made_anew_begins_anew() -> None:
    assert flows((0, 100, 100), (5, 3, 3)).lately() is None
    told = flows((0, 100, 100), (5, 3, 3), (10, 4, 4)).lately()
    assert told is not None and (told["admitted"], told["folded"]) == (1, 1)


async def test_a_database_that_is_away_leaves_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[Any] = [{"at": NOW, "admitted": 1, "folded": 1}, errors.Away(), RuntimeError("x")]
    answers.append({"at": NOW + timedelta(seconds=5), "admitted": 9, "folded": 8})
    asked = asyncio.Event()

    class Database:
        async def rows(self, statement: object) -> list[dict[str, Any]]:
            if not answers:
                asked.set()
                raise errors.Away
            found = answers.pop(0)
            if isinstance(found, Exception):
                raise found
            return [found]

    monkeypatch.setattr(flow, "EVERY_SECONDS", 0.001)
    database: Any = Database()
    async with flow.Flow(database) as looking:
        async with asyncio.timeout(5):
            await asked.wait()
        told = looking.lately()
    assert told is not None and (told["admitted"], told["folded"]) == (8, 7)
