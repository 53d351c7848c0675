"""A thread of a worker that looks after something over and over, on a connection of its own.

Promises: a server that is away is waited for, with backoff, on a new connection, and is told of once in a
while; any other error ends the process. `wake` cuts short the wait for the next look, never the backoff.
Limits: one thing at a time; `stop` waits a bounded time for the look under way.
Called by: the relay, the loop of parked records, schedules, each of which is one.
"""

from __future__ import annotations

import abc
import threading
from typing import Final

import psycopg
import structlog

from projections import database
from schemas import errors
from streams import process, watchdog

FIRST_WAIT: Final = 0.2
LONGEST_WAIT: Final = 2.0
TOLD_EVERY: Final = 20  # waits
STOP_SECONDS: Final = 5.0


class ServerLoop(abc.ABC):
    """What is looked after is up to `look`; over which connection, to `connect`."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._turns = 0
        self._woken, self._stopping = threading.Event(), threading.Event()
        self._connection: psycopg.Connection | None = None
        self._log = structlog.get_logger().bind(lane=name)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @abc.abstractmethod
    def connect(self) -> psycopg.Connection:
        """A new connection; raises `errors.Away`."""

    @abc.abstractmethod
    def look(self, connection: psycopg.Connection) -> float:
        """One look, with what it finds to do; answers how many seconds there are until the next.

        May raise `errors.Away`, psycopg.Error.
        """

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """There is something to look at."""
        self._woken.set()

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """Finish the look under way, if it ends in time, and end."""
        self._stopping.set()
        self._woken.set()
        if self._thread.ident is not None:
            self._thread.join(seconds)

    def standing(self) -> watchdog.Standing:
        """Where the loop stands, for the watchdog: every look moves it on, whatever it finds."""
        return watchdog.Standing(self._name, self._turns, self._thread.ident)

    def _run(self) -> None:
        waits = 0
        while not self._stopping.is_set():
            self._turns += 1
            try:
                patience = self.look(self._connected())
                waits = 0
                if patience:
                    self._woken.wait(patience)
                    self._woken.clear()
            except (errors.Away, psycopg.Error) as error:
                if isinstance(error, psycopg.Error) and not database.is_away(error):
                    process.die(error)
                if waits % TOLD_EVERY == 0:
                    self._log.warning("waiting for a server", error=process.told(error))
                if self._connection is not None:
                    self._connection.close()
                self._stopping.wait(min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(waits, 6)))
                waits += 1
            except BaseException as error:
                process.die(error)

    def _connected(self) -> psycopg.Connection:
        if self._connection is None or self._connection.closed:
            self._connection = self.connect()
        return self._connection
