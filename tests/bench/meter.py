"""What a run costs: events per second, and CPU per event of the worker, of PostgreSQL and of the broker.

Promises: the clock starts with the first records that reach the contender (joining a group and claiming
are not counted), or once `warm` events are done, and stops when the last of `count` is committed; what is
printed is one JSON line, and the process ends with it, so nothing of one run is left in the next.
Limits: CPU of servers is read from /proc in steps of 10 ms.
Called by every contender.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from typing import Any, NoReturn

import psutil


class Meter:
    """Counts events of one run; `add` may be called from several threads."""

    def __init__(self, count: int, kafka_pid: int, postgres_pid: int, *, warm: int = 0) -> None:
        self.count = count
        self.warm = warm
        self.before = 0
        self.done = 0
        self.batches = 0
        self._pids = (kafka_pid, postgres_pid)
        self._began: tuple[float, ...] | None = None
        self._lock = threading.Lock()

    def start(self) -> None:
        """The first records are here."""
        with self._lock:
            if self._began is None:
                self._began = self._snapshot()

    def add(self, events: int) -> None:
        """So many more are done; with the last of them, print and end the process."""
        with self._lock:
            self.done += events
            self.batches += 1
            if self.warm and not self.before and self.warm <= self.done < self.count:
                self.before, self.batches = self.done, 0
                self._began = self._snapshot()
            if self.done >= self.count:
                tell(**self.figures())

    def figures(self) -> dict[str, Any]:
        """Rates and costs from the start until now."""
        assert self._began is not None
        wall, worker, broker, database = (
            now - then for now, then in zip(self._snapshot(), self._began, strict=True)
        )
        counted = self.done - self.before
        each = 1e6 / counted
        return {
            "events": counted,
            "batches": self.batches,
            "rate": round(counted / wall),
            "worker_us": round(worker * each, 2),
            "postgres_us": round(database * each, 2),
            "broker_us": round(broker * each, 2),
        }

    def _snapshot(self) -> tuple[float, ...]:
        own = os.times()
        return time.perf_counter(), own.user + own.system, spent(self._pids[0]), spent(self._pids[1])


def tell(**figures: Any) -> NoReturn:
    """The one line of a contender, and its end."""
    sys.stdout.write(json.dumps(figures) + "\n")
    sys.stdout.flush()
    os._exit(0)


def spent(pid: int) -> float:
    """Seconds of CPU of a process, of its children, and of those children that have ended."""
    if not pid:
        return 0.0
    process = psutil.Process(pid)
    own = process.cpu_times()
    found = float(own.user + own.system + own.children_user + own.children_system)
    for child in process.children():
        try:
            times = child.cpu_times()
        except psutil.NoSuchProcess:
            continue
        found += times.user + times.system
    return found
