"""From a door to the row: how many a second, and how long one takes from its acceptance to its committed row.

Promises: the delay of every event is taken when its transaction has committed, by the worker's clock, from
the moment that stands in the fact as `accepted`: when the API took it in, or when Kafka appended it at the
door (two hops). Half load is half of what the same way carried in the same repeat, measured first. The first
fifth of the events is not counted.
Limits: one worker, one API process and the producer share the machine with the servers. HTTP sends one event
a request at 1,000/s, a hundred a request at half load.
Called by `tests.bench.__main__`.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
from typing import Any

from deploy import processes
from schemas import topics
from tests import stack
from tests.bench import runs, servers, traffic

STEADY = 1000
MANY = 100  # events a request where many are sent
FULL_SECONDS = 10
HTTP_STEADY, HTTP_HALF = "by HTTP, 1,000/s", "by HTTP, half load"
DOOR_STEADY, DOOR_HALF = "by a door, 1,000/s", "by a door, half load"


def door(up: servers.Servers, count: int, repeat: int) -> runs.Figure:
    """Door to row: events that wait at the door, through intake and fold, by one worker."""
    up.empty_topics()
    up.reset("engagement")
    waiting = [
        (subject.encode(), topics.home(subject, servers.HOMES), raw)
        for subject, raw in traffic.events("distinct", count, 11 + repeat, up.contacts)
    ]
    traffic.append(up.bootstrap, topics.EMAIL_ACTIVITY, waiting)
    figures = runs.run(up, runs.Contender("door", "ours", "ours", "door"), "distinct", count)
    sys.stderr.write(f"  {repeat} distinct door       ours {figures['rate']:,}/s {figures}\n")
    return runs.Figure("door", "ours", "distinct", repeat, figures)


def all_ways(up: servers.Servers, repeat: int, seconds: int, door_rate: int) -> list[runs.Figure]:
    """By HTTP and by a door, at 1,000/s and at half load, in an order of its own."""
    http_rate = _one(up, "http", 0, MANY, FULL_SECONDS)["carried"]
    runs_ = [
        (HTTP_STEADY, "http", STEADY, 1), (HTTP_HALF, "http", http_rate // 2, MANY),
        (DOOR_STEADY, "door", STEADY, 1), (DOOR_HALF, "door", door_rate // 2, 1),
    ]  # fmt: skip
    random.Random(repeat).shuffle(runs_)
    found: list[runs.Figure] = []
    for name, way, load, each in runs_:
        figures = _one(up, way, load, each, seconds)
        sys.stderr.write(f"  {repeat} delay {name}: {figures}\n")
        found.append(runs.Figure("delay", name, "distinct", repeat, figures))
    return found


def _one(up: servers.Servers, way: str, load: int, each: int, seconds: int) -> dict[str, Any]:
    """Delays at a load; load 0 sends as fast as it is taken and tells what was carried."""
    up.empty_topics()
    up.reset("engagement")
    with tempfile.TemporaryDirectory(prefix="heed-bench-") as folder, stack.Launcher() as launch:
        [port] = processes.free_ports(1)
        if way == "http":
            launch.api(up.bootstrap, up.dsn, port).wait_for("listening", 60)
        worker = runs.spawn(up, runs.Contender("delay", "ours", "ours", "delay"), "distinct", 0, folder)
        try:
            assert worker.stdout is not None
            assert worker.stdin is not None
            worker.stdout.readline()  # it has claimed
            sent = send(
                {"way": way, "bootstrap": up.bootstrap, "port": port, "load": load, "each": each,
                 "seconds": seconds, "contacts": up.contacts}
            )  # fmt: skip
            worker.stdin.write(f"{sent['accepted']}\n")
            worker.stdin.close()
            last = worker.stdout.readlines()[-1:]
            if worker.wait(60) != 0 or not last:
                raise RuntimeError(f"the worker of the delay run ended with {worker.returncode}")
        finally:
            worker.kill()
            worker.wait()
    figures: dict[str, Any] = json.loads(last[0])
    return {**figures, "load": sent["load"]}


def send(spec: dict[str, Any]) -> dict[str, Any]:
    """Have `tests.bench.sender` send what `spec` asks for; tells how many were accepted, and their rate."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.sender", json.dumps(spec)],
        cwd=stack.ROOT, env=runs.env(), capture_output=True, text=True, timeout=spec["seconds"] + 120,
        check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise RuntimeError(f"the sender ended with {done.returncode}: {done.stderr[-2000:]}")
    told: dict[str, Any] = json.loads(done.stdout)
    return told
