"""The runs of a bench: which contenders stand on which rung, and how one of them is run.

Promises: contenders of a repeat run in an order that is drawn anew each time, each in a process of its
own, on tables that were just reset; a contender that fails ends the bench with what it said, and so does one
whose counters are not those of its neighbours.
Limits: slow contenders get fewer events, as their rate does not depend on how many.
Called by `tests.bench.__main__`.
"""

from __future__ import annotations

import dataclasses
import json
import random
import subprocess
import sys
import tempfile
from typing import Any

from tests import stack
from tests.bench import servers
from tests.bench.peers import build

TIMEOUT = 900


@dataclasses.dataclass(frozen=True, slots=True)
class Contender:
    """One way to do what a rung asks for."""

    rung: str
    name: str
    kind: str
    mode: str = ""
    sink: str = ""
    share: float = 1.0  # of the events that the fast ones get
    table: str = "none"
    warm: bool = False  # the first half of the events is not counted


CONTENDERS = (
    Contender("decode", "json", "decode", "json", share=0.25),
    Contender("decode", "orjson", "decode", "orjson", share=0.25),
    Contender("decode", "msgspec", "decode", "msgspec", share=0.25),
    Contender("decode", "records.decode", "decode", "records", share=0.25),
    Contender("noop", "ours", "ours", "noop"),
    Contender("noop", "stock each", "stock", "each", share=0.1),
    Contender("noop", "stock take", "stock", "take", share=0.1),
    Contender("counter", "ours", "ours", "counter", "counter", table="counter"),
    Contender("counter", "stock each", "stock", "each", "counter", 0.02, "counter"),
    Contender("counter", "stock take", "stock", "take", "counter", 0.1, "counter"),
    Contender("counter", "by hand", "handwritten", "", "counter", table="counter"),
    Contender("counter", "Quix, its sink", "quix", "shipped", "counter", table="counter"),
    Contender("counter", "Quix, our SQL", "quix", "ours", "counter", table="counter"),
    Contender("counter", "Kafka Streams", "streams", "", "counter", table="counter"),
    Contender("warm", "ours", "ours", "counter", "counter", table="counter", warm=True),
    Contender("warm", "by hand", "handwritten", "", "counter", table="counter", warm=True),
    Contender("warm", "Kafka Streams", "streams", "", "counter", table="counter", warm=True),
    Contender("engagement", "ours", "ours", "worker", table="engagement"),
    Contender("engagement", "stock each", "stock", "each", "engagement", 0.01, "engagement"),
    Contender("engagement", "stock take", "stock", "take", "engagement", 0.1, "engagement"),
    Contender("engagement", "by hand", "handwritten", "", "engagement", table="engagement"),
)


@dataclasses.dataclass(slots=True)
class Figure:
    """What one run of a contender gave."""

    rung: str
    name: str
    traffic: str
    repeat: int
    figures: dict[str, Any]


def repeat(
    up: servers.Servers, chosen: list[Contender], traffic: str, count: int, number: int, seed: int
) -> list[Figure]:
    """Every contender once, in an order of its own."""
    order = list(chosen)
    random.Random(seed * 1000 + number).shuffle(order)
    made = []
    counted: dict[str, str] = {}
    for one in order:
        if one.table != "none" or one.rung == "noop":
            up.reset(one.table)
        figures = run(up, one, traffic, max(1000, int(count * one.share)))
        if one.table == "counter" and one.share == 1.0:
            counted[one.name] = up.counted()
        made.append(Figure(one.rung, one.name, traffic, number, figures))
        cost = f"worker {figures['worker_us']} µs, postgres {figures['postgres_us']} µs"
        sys.stderr.write(
            f"  {number} {traffic:8} {one.rung:10} {one.name:14} {figures['rate']:>9,}/s  {cost}\n"
        )
    if len(set(counted.values())) > 1:
        raise RuntimeError(f"the contenders do not agree on the rows: {counted}")
    return made


def run(up: servers.Servers, one: Contender, traffic: str, count: int, dsn: str = "") -> dict[str, Any]:
    """One contender in its own process, on a database of its own if one is named.

    Raises RuntimeError with its last words when it fails.
    """
    with tempfile.TemporaryDirectory(prefix="heed-bench-") as folder:
        process = spawn(up, one, traffic, count, folder, dsn=dsn)
        try:
            told, errors = process.communicate(timeout=TIMEOUT)
        finally:
            process.kill()
    if process.returncode != 0 or not told.strip():
        raise RuntimeError(f"{one.rung} {one.name} ended with {process.returncode}: {errors[-3000:]}")
    found: dict[str, Any] = json.loads(told.strip().splitlines()[-1])
    return found


def spawn(
    up: servers.Servers,
    one: Contender,
    traffic: str,
    count: int,
    folder: str,
    errors: int = subprocess.PIPE,
    dsn: str = "",
) -> subprocess.Popen[str]:
    """The process of a contender, with pipes for what it is told and tells."""
    spec = {
        "kind": one.kind, "mode": one.mode, "sink": one.sink, "count": count, "traffic": traffic,
        "kafka": up.bootstrap, "dsn": dsn or up.dsn, "homes": servers.HOMES, "pids": up.pids(),
        "folder": folder, "warm": count // 2 if one.warm else 0,
    }  # fmt: skip
    command, added = [sys.executable, "-m", "tests.bench.contender", json.dumps(spec)], dict[str, str]()
    if one.kind in build.KINDS:
        command, added = build.command(spec)
    return subprocess.Popen(
        command, cwd=stack.ROOT, env=env() | added, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=errors, text=True,
    )  # fmt: skip


def env() -> dict[str, str]:
    """The environment of every process of a bench: this one's without Heed's settings."""
    return stack.clean_env({}) | {"PYTHONPATH": str(stack.ROOT)}
