"""Processes that load the log for a replay: each reads, decodes and copies the partitions that fall to it.

Python decodes on one core, so one process would read the log at the speed of one. Promises: a member commits
what it has read together with how far that is, under the epochs it was given, so one that outlives its
replay is fenced by the next; it ends with the process that made it. What stops one stops the replay, under
the same error.
Limits: made by `fork`, so before its maker has threads or connections; a partition belongs to one member.
Called by: `streams.replay_swap`.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import Any, Final

import psycopg

from projections import database, loading, next_pair, positions
from projections.positions import TP
from schemas import errors, settings
from streams import broker, replay_log

MOST: Final = 8
GONE: Final = "a process of the replay was killed; `heed replay` goes on with what is left."

Moves = dict[TP, positions.Move]


def jobs(chosen: settings.Settings) -> int:
    """How many processes: as many as there are cores, and no more than homes."""
    return max(1, min(len(os.sched_getaffinity(0)), chosen.homes, MOST))


class Crew:
    """So many processes; `with` ends them."""

    def __init__(self, chosen: settings.Settings, number: int) -> None:
        context = multiprocessing.get_context("fork")
        self._pipes: list[Connection[Any, Any]] = []
        self._processes = []
        for _ in range(number):
            ours, theirs = context.Pipe()
            self._pipes.append(ours)
            process = context.Process(target=_serve, args=(chosen, theirs, list(self._pipes)), daemon=True)
            process.start()
            theirs.close()
            self._processes.append(process)

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            process.join()
        for pipe in self._pipes:
            pipe.close()

    def begin(self, moves: Moves) -> None:
        """Deal the partitions out, in turn."""
        for number, pipe in enumerate(self._pipes):
            names = sorted(moves)[number :: len(self._pipes)]
            _send(pipe, {name: moves[name] for name in names})

    def load(self, bounds: Mapping[TP, int], told: Callable[[dict[TP, int]], None]) -> None:
        """Load every partition up to its bound; `told` hears how far they have come.

        Raises `errors.Away`, `positions.Fenced`, or whatever else stopped a member.
        """
        for pipe in self._pipes:
            _send(pipe, dict(bounds))
        busy = list(self._pipes)
        while busy:
            ready = multiprocessing.connection.wait(busy)
            for pipe in [one for one in busy if one in ready]:
                found = _receive(pipe)
                if isinstance(found, BaseException):
                    raise found
                if found is None:
                    busy.remove(pipe)
                else:
                    told(found)


def _send(pipe: Connection[Any, Any], what: object) -> None:
    try:
        pipe.send(what)
    except OSError:
        raise errors.Away(GONE) from None


def _receive(pipe: Connection[Any, Any]) -> Any:
    try:
        return pipe.recv()
    except (EOFError, OSError):
        raise errors.Away(GONE) from None


def _serve(chosen: settings.Settings, pipe: Connection[Any, Any], makers: list[Connection[Any, Any]]) -> None:
    """A member: its partitions first, then bounds, until its maker is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is its maker's business
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_maker, daemon=True).start()
    for one in makers:
        one.close()
    with contextlib.suppress(EOFError, OSError):
        try:
            _load(chosen, pipe)
        except psycopg.Error as error:
            away = database.is_away(error)
            pipe.send(errors.Away(f"PostgreSQL ended the replay ({type(error).__name__})") if away else error)
        except (EOFError, OSError):
            raise
        except Exception as error:
            pipe.send(error)


def _end_with_maker() -> None:
    """Whatever PostgreSQL keeps this process waiting with: its session ends with it, and holds up nobody."""
    maker = multiprocessing.parent_process()
    assert maker is not None
    maker.join()
    os._exit(1)


def _load(chosen: settings.Settings, pipe: Connection[Any, Any]) -> None:
    moves: Moves = pipe.recv()
    starts = {name: move.start for name, move in moves.items()}
    with (
        contextlib.closing(next_pair.connect(chosen.postgres)) as connection,
        replay_log.Source(broker.of(chosen), None, starts) as source,
    ):
        loader = loading.Loader(connection, moves)
        while True:
            bounds = pipe.recv()
            for taken in source.upto({name: bounds[name] for name in moves if name in bounds}):
                loader.take(*taken)
                pipe.send(taken[2])
            pipe.send(None)
