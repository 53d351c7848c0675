"""Homes that change hands: how long each stands still in a deploy, when a worker goes, dies or comes.

Promises: three workers as processes; a steady stream by a door reaches every home in turn; positions are
looked at every 20 ms, so a stand-still is the longest time in which nothing of a home was committed. It is
told apart for the homes of the worker concerned (*its own*) and for all others (*the others*). A deploy is
a rolling restart: SIGTERM, and started again at once, one worker after the other. A crash is kill -9 with
no supervisor.
Limits: what a home does between two events of the stream is not seen: at 20 a second, 50 ms. Everything
shares the machine.
Called by `tests.bench.__main__`.
"""

from __future__ import annotations

import functools
import itertools
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
from confluent_kafka import Producer

from schemas import topics
from tests import cluster as clusters
from tests import stack
from tests.bench import runs, servers, traffic

DATABASE = "handover"
DEPLOY, CRASH, JOIN, LEAVE = "deploy", "kill -9, no supervisor", "a worker comes", "a worker goes"
PAUSE = 0.02
SETTLE = 3.0  # seconds of quiet before and after
PATIENCE = 90.0
NAMES_OF_A_HOME = 50

POSITIONS = """
select part, next_offset, owner from heed_data.position where reader = 'fold' and topic = %s
"""


class Watch:
    """When each home's position moved, and whose the home was; a thread that looks all the time."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self.moved: dict[int, list[float]] = {home: [] for home in range(servers.HOMES)}
        self.owners: dict[int, str] = {}
        self._at: dict[int, int] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            while not self._stopping.wait(PAUSE):
                found = connection.execute(POSITIONS, (topics.FACTS,)).fetchall()
                now = time.monotonic()
                for home, offset, owner in found:
                    self.owners[home] = owner
                    if self._at.get(home) != offset:
                        self._at[home] = offset
                        self.moved[home].append(now)

    def homes_of(self, name: str) -> list[int]:
        return [home for home, owner in self.owners.items() if owner == name]

    def all_move_after(self, moment: float) -> bool:
        return all(moved and moved[-1] > moment for moved in self.moved.values())

    def longest(self, homes: list[int], since: float, until: float) -> tuple[float, float]:
        """The longest stand-still of any of these homes in this time, and when it ended."""
        found = [(0.0, since)]
        for home in homes:
            moves = [since, *(at for at in self.moved[home] if since < at < until), until]
            found += [(later - earlier, later) for earlier, later in itertools.pairwise(moves)]
        return max(found)


def run(up: servers.Servers, repeat: int, rate: int) -> list[runs.Figure]:
    """A deploy, a crash, a worker that comes and one that goes; `rate` events a second for each home."""
    dsn = up.database(DATABASE)
    up.empty_topics()
    found: list[runs.Figure] = []
    with tempfile.TemporaryDirectory(prefix="heed-bench-") as folder, stack.Launcher() as launch:
        cluster = clusters.Cluster(launch, up.bootstrap, dsn, Path(folder))
        try:
            cluster.start(*clusters.THREE)
            with _stream(up.bootstrap, rate), Watch(dsn) as watch:
                time.sleep(SETTLE)
                for name, steps in _steps(cluster).items():
                    each = [_one(watch, worker, step) for worker, step in steps]
                    figures = {key: max(one[key] for one in each) for key in each[0]}
                    sys.stderr.write(f"  {repeat} handover {name}: {figures}\n")
                    found.append(runs.Figure("handover", name, "steady", repeat, figures))
        finally:
            cluster.close()
    return found


def _steps(cluster: clusters.Cluster) -> dict[str, list[tuple[str, Callable[[], None]]]]:
    """The worker concerned, and what is done to it until all homes have owners again."""

    def restart(name: str) -> None:
        cluster.workers[name].terminate()
        cluster.add(name)
        stack.eventually(
            lambda: bool(cluster.homes_of(name)) and cluster.owns_live(name), f"{name} is back", PATIENCE
        )

    def crash() -> None:
        cluster.workers["worker-3"].kill()
        cluster.wait_shared("worker-1", "worker-2", timeout=PATIENCE)

    def join() -> None:
        cluster.add("worker-3")
        cluster.wait_shared(*clusters.THREE, timeout=PATIENCE)

    def leave() -> None:
        cluster.workers["worker-2"].terminate()
        cluster.wait_shared("worker-1", "worker-3", timeout=PATIENCE)

    return {
        DEPLOY: [(name, functools.partial(restart, name)) for name in clusters.THREE],
        CRASH: [("worker-3", crash)],
        JOIN: [("worker-3", join)],
        LEAVE: [("worker-2", leave)],
    }


def _one(watch: Watch, worker: str, step: Callable[[], None]) -> dict[str, Any]:
    before = dict(watch.owners)
    began = time.monotonic()
    step()
    _well(watch, time.monotonic())
    time.sleep(SETTLE)
    until = time.monotonic()
    own = [home for home, owner in before.items() if owner == worker]
    others = [home for home in before if home not in own]
    stood, ended = watch.longest(own, began - 1, until)
    return {
        "others": round(watch.longest(others, began - 1, until)[0], 2),
        "own": round(stood, 2),
        "first_fold": round(max(0.0, ended - began), 2),
    }


def _well(watch: Watch, moment: float) -> None:
    stack.eventually(lambda: watch.all_move_after(moment), "every home goes on", PATIENCE)


@contextmanager
def _stream(bootstrap: str, rate: int) -> Iterator[None]:
    """Events for every home in turn, `rate` a second for each."""
    stopping = threading.Event()
    thread = threading.Thread(target=_send, args=(bootstrap, rate, stopping), name="stream", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()


def _send(bootstrap: str, rate: int, stopping: threading.Event) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "log_level": 2, **traffic.SETTINGS, "linger.ms": 5})
    of_home: list[list[int]] = [[] for _ in range(servers.HOMES)]
    for number in itertools.count():
        home = topics.home(f"contact:c{number:07}", servers.HOMES)
        if len(of_home[home]) < NAMES_OF_A_HOME:
            of_home[home].append(number)
        if all(len(one) == NAMES_OF_A_HOME for one in of_home):
            break
    draw = random.Random(rate)
    began = time.monotonic()
    for sent in itertools.count():
        due = began + sent / (rate * servers.HOMES)
        if stopping.wait(max(0.0, due - time.monotonic())):
            break
        number = draw.choice(of_home[sent % servers.HOMES])
        subject, raw = traffic.event(draw, number, datetime.now(UTC))
        producer.produce(topics.EMAIL_ACTIVITY, raw, subject)
        producer.poll(0)
    producer.flush(10)
