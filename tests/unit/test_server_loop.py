"""The frame of the relay, of the loop of parked records and of schedules, over servers that come and go."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from structlog.testing import capture_logs

from schemas import errors
from streams import process, server_loop

SECONDS = 10.0


class Connection:
    """As much of a connection as the loop asks for."""

    closed = False

    def close(self) -> None:
        self.closed = True


class Looks(server_loop.ServerLoop):
    """Does at its nth look what it is told to; then says so, and waits for long."""

    def __init__(self, *told: Exception | float) -> None:
        super().__init__("looks")
        self.told = list(told)
        self.connections: list[Connection] = []
        self.over = threading.Event()

    def connect(self) -> Any:
        self.connections.append(Connection())
        return self.connections[-1]

    def look(self, connection: Any) -> float:
        assert connection is self.connections[-1] and not connection.closed
        if not self.told:
            self.over.set()
            return SECONDS
        match self.told.pop(0):
            case Exception() as error:
                raise error
            case patience:
                return patience


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Looks]]:
    """Starts a loop that does as it is told, and ends it with the test."""
    monkeypatch.setattr(server_loop, "FIRST_WAIT", 0.001)
    made: list[Looks] = []

    def start(*told: Exception | float) -> Looks:
        made.append(Looks(*told))
        made[-1].start()
        return made[-1]

    yield start
    for one in made:
        one.stop()
        assert not one._thread.is_alive()


@pytest.mark.parametrize("away", [errors.Away("Kafka"), psycopg.OperationalError("gone")])
def test_a_server_that_is_away_is_waited_for_on_a_new_connection(
    run: Callable[..., Looks], away: Exception
) -> None:
    with capture_logs() as said:
        found = run(0.0, *[away] * 5, 0.0)
        assert found.over.wait(SECONDS)
    assert len(found.connections) == 6
    assert [one["event"] for one in said] == ["waiting for a server"], "once, not five times"
    assert (found.standing().name, found.standing().mark) == ("looks", 8)


def test_what_is_no_server_away_ends_the_process(
    run: Callable[..., Looks], monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[BaseException] = []

    def die(error: BaseException) -> None:
        ended.append(error)

    monkeypatch.setattr(process, "die", die)
    wrong = [psycopg.errors.UndefinedTable(), errors.Doubt("no"), ValueError()]
    assert run(*wrong).over.wait(SECONDS)
    assert ended == wrong


def test_waking_cuts_the_wait_short(run: Callable[..., Looks]) -> None:
    found = run()
    assert found.over.wait(SECONDS / 2)
    for _ in range(3):
        found.over.clear()
        found.wake()
        assert found.over.wait(SECONDS / 2)


def test_one_that_never_started_is_stopped() -> None:
    Looks().stop()
