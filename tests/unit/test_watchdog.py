"""The watchdog's patience, by a clock that the test moves; and a thread that looks for real."""

from __future__ import annotations

import asyncio
import faulthandler
import threading
import time
from typing import cast

import pytest

from streams import process, watchdog

SECONDS = 60.0


class World:
    """Threads, whether they have work, and a clock."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.patience = watchdog.Patience(SECONDS)

    def run(self, seconds: float, *, work: bool, mark: object = 0, idle: bool = False) -> float | None:
        """Look every second at one thread; gives the second at which it was found stuck."""
        for second in range(int(seconds)):
            self.now += 1
            moving = mark() if callable(mark) else mark
            for one in self.patience.due(self.now, [watchdog.Standing("fold-0", moving, idle=idle)]):
                if self.patience.seen(one, work):
                    return second + 1
        return None


def test_who_has_work_and_stands_still_is_stuck_after_its_time_and_not_before() -> None:
    found = World().run(200, work=True)
    assert found is not None
    assert SECONDS <= found <= SECONDS * (1 + 1 / watchdog.LOOKS) + 2


def test_who_moves_on_or_has_no_work_or_nothing_of_its_own_is_never_stuck() -> None:
    ticks = iter(range(100_000))
    slow = (next(ticks) // 50 for _ in range(100_000))
    assert World().run(2_000, work=True, mark=lambda: next(slow)) is None  # a step every 50 s
    assert World().run(2_000, work=False) is None
    assert World().run(2_000, work=True, idle=True) is None


def test_work_is_waited_for_from_when_it_was_seen() -> None:
    """An idle hour is no standing still: the record that ends it has the whole time to be read."""
    world = World()
    assert world.run(3_600, work=False) is None
    found = world.run(200, work=True)
    assert found is not None
    assert found >= SECONDS


def test_a_server_that_is_away_starts_the_time_anew() -> None:
    """Close looks find no work they could do while a server is away."""
    world = World()
    assert world.run(50, work=True) is None
    assert world.run(60, work=False) is None
    assert world.run(50, work=True) is None


def test_time_in_which_the_process_was_suspended_does_not_count() -> None:
    world = World()
    assert world.run(40, work=True) is None
    world.now += 10_000
    assert world.run(5, work=True) is None


def test_an_event_loop_that_runs_nothing_is_found_with_the_place_where_it_stands(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found: list[BaseException] = []
    ended = threading.Event()

    def die(error: BaseException) -> None:
        found.append(error)
        ended.set()

    monkeypatch.setattr(process, "die", die)
    monkeypatch.setattr(watchdog, "TICK", 0.01)
    monkeypatch.setattr(faulthandler, "dump_traceback_later", lambda *_, **__: None)

    async def blocks() -> None:
        dog = watchdog.Watchdog(0.2, list)
        dog.start()
        await asyncio.sleep(0.5)
        assert not found
        began = time.monotonic()
        while not found and time.monotonic() - began < 20:
            ended.wait(0.05)  # the loop stands still in here
        dog.stop()

    asyncio.run(blocks())
    stuck = found[0]
    assert isinstance(stuck, watchdog.Stuck)
    assert stuck.exit_code == 3
    assert "event loop has work and has not got on for" in str(stuck)
    assert " wait" in str(stuck)


def test_a_close_look_that_is_cancelled_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library may cancel whoever awaits it; the next look is taken all the same."""
    looks = threading.Semaphore(0)

    class Eyes:
        def with_work(self, *_: object) -> set[str]:
            looks.release()
            raise asyncio.CancelledError

    async def watched() -> None:
        stands = watchdog.Standing("fold-0", 0)
        dog = watchdog.Watchdog(0.2, lambda: [stands], cast("watchdog.Eyes", Eyes()))
        dog.start()
        for _ in range(3):
            assert await asyncio.to_thread(looks.acquire, timeout=10)
        dog.stop()

    monkeypatch.setattr(process, "die", pytest.fail)
    monkeypatch.setattr(watchdog, "TICK", 0.01)
    monkeypatch.setattr(faulthandler, "dump_traceback_later", lambda *_, **__: None)
    asyncio.run(watched())
