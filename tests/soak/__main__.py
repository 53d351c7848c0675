"""`python -m tests.soak --minutes 30 --seed 7`: break everything, under load, and check the history.

Promises: prints its seed; ends with the report, exit 0 when no violation was found, else 1. The history, the
report and the processes' logs stay in `--out`; everything else is taken away, however it ends. The same seed
gives the same plan of faults and, with the same beginning and rate, the same events.
Limits: which batch a fault hits is the machine's affair, and so is what a watcher happens to look at.
Called by: `make soak`, `tests/faults/test_soak.py`.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from schemas import topics
from tests import stack
from tests.oracle import broker, database
from tests.soak import checker, final, history, inflict, load, plan, report, rig, steps, watch

BURST: Final = 20_000  # events whose way to the rows shows the capacity
SETTLE_SECONDS: Final = 300.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a soak as asked for; gives the exit code."""
    parser = argparse.ArgumentParser(prog="soak", description="Break everything, under load, and check.")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=None, help="of the faults and of the load")
    parser.add_argument("--most", type=float, default=2_000.0, help="events a second, if half is more")
    parser.add_argument("--only", default="", help="kinds of faults, with commas")
    parser.add_argument("--out", type=Path, default=Path(".heed/soak"), help="where history and report stay")
    parser.add_argument("--no-disks", action="store_true", help="leave out what needs root: full disks")
    asked = parser.parse_args(arguments)
    seed = random.randrange(1_000_000) if asked.seed is None else asked.seed
    only = [name for name in asked.only.split(",") if name]
    unknown = set(only) - {kind.name for kind in plan.KINDS}
    if unknown:
        parser.error(f"no such fault: {', '.join(sorted(unknown))}")
    out = asked.out / str(seed)
    out.mkdir(parents=True, exist_ok=True)
    say(f"seed {seed}")
    found = Soak(seed, asked.minutes, asked.most, only, out, disks=not asked.no_disks).run()
    (out / "report.json").write_text(json.dumps(found, indent=2, default=str))
    sys.stdout.write(report.text(found) + "\n")
    return 1 if any(found["violations"].values()) else 0


def say(line: str) -> None:
    sys.stderr.write(f"{datetime.now(UTC):%H:%M:%S} {line}\n")
    sys.stderr.flush()


class Soak:
    """One run, from the servers' start to the report."""

    def __init__(
        self, seed: int, minutes: float, most: float, only: Sequence[str], out: Path, *, disks: bool
    ) -> None:
        self.seed, self.minutes, self.most, self.only, self.out = seed, minutes, most, only, out
        self._disks = disks

    def run(self) -> dict[str, Any]:
        """Everything; raises AssertionError when the run itself cannot go on."""
        path = self.out / "history.jsonl"
        with history.Writer(path) as write, rig.Rig(say, disks=self._disks) as stand:
            stand.supervisor.listen()
            try:
                state, told = self._drill(stand, write)
            finally:
                shutil.copytree(stand.home / "log", self.out / "log", dirs_exist_ok=True)
        say("checking the history")
        lines = list(history.read(path))
        violations = checker.check(lines, state, load.TIMERS)
        return report.figures(lines, violations, {**told, "facts": len(state.log)})

    def _drill(self, stand: rig.Rig, write: history.Writer) -> tuple[checker.State, dict[str, Any]]:
        stand.wait(lambda: _ready(stand), "Heed is ready", 120)
        half = self._capacity(stand, write)
        rate = min(half, self.most)
        say(f"half of the capacity is {half:.0f} events/s, the load {rate:.0f}")
        told = load.Told(self.seed, load.began_now(), rate)
        teller = load.Load(told, stand.bootstrap, stand.url, write)
        first = BURST
        teller.start(first)
        chooser = _Chooser(told, first)
        watchers = (
            watch.Rows("rows", stand.dsn, write, chooser, self.seed),
            watch.Asks("asks", stand.url, write, chooser, self.seed),
            watch.Positions("positions", stand.dsn, write),
        )
        with watch.Watching(*watchers):
            self._break(stand, write)
            say("no more faults; the load ends")
            _tend(stand, lambda: teller.stop(SETTLE_SECONDS))
            self._settle(stand)
            while watchers[2].slowest() < time.time() - 5:
                stand.watch(0.1)
        self._last_check(stand, write)
        facts = {
            "seed": self.seed,
            "minutes": self.minutes,
            "half": round(half),
            "rate": round(rate),
            "began": told.began.isoformat(),
            "events_told": teller.count,
            "disks": stand.disks,
        }
        return final.state(stand.bootstrap, stand.dsn), facts

    def _break(self, stand: rig.Rig, write: history.Writer) -> None:
        """Inflict the plan, with the operator's steps in between."""
        seconds = self.minutes * 60
        faults = plan.plan(self.seed, seconds, disk=stand.disks, only=self.only)
        tasks = steps.Operator(stand, write, seconds)
        breaker = inflict.Breaker(stand, faults, write)
        until = time.monotonic() + seconds
        try:
            while time.monotonic() < until or tasks.busy:
                stand.watch(0.05)
                breaker.step()
                tasks.step()
                assert time.monotonic() < until + SETTLE_SECONDS, "the operator's last command does not end"
        finally:
            tasks.close()
            breaker.close()

    def _capacity(self, stand: rig.Rig, write: history.Writer) -> float:
        """Half of what these workers carry from the doors to the rows, in events a second."""
        told = load.Told(self.seed, load.began_now(), 1_000)
        began = time.monotonic()
        load.Load(told, stand.bootstrap, stand.url, write).burst(range(BURST))
        self._settle(stand)
        return BURST / (time.monotonic() - began) / 2

    def _settle(self, stand: rig.Rig) -> None:
        """Wait until what stands at the doors is in the log, the log in the rows, and the outbox is empty."""
        for names in (topics.DOORS, (topics.FACTS,), (topics.COMMANDS,)):
            ends = {(name, part): end for name in names for part, end in _ends(stand, name).items()}
            stand.wait(lambda ends=ends: _past(stand, ends), f"{names} are read", SETTLE_SECONDS)  # type: ignore[misc]
        stand.wait(lambda: not stand.sql("select 1 from heed_ops.outbox limit 1"), "the outbox is empty", 60)

    def _last_check(self, stand: rig.Rig, write: history.Writer) -> None:
        tasks = steps.Operator(stand, write, 0.0, [(0.0, "last check", ("replay", "--check"))])
        try:
            tasks.step()
            while tasks.busy:
                stand.watch(0.1)
                tasks.step()
        finally:
            tasks.close()


class _Chooser:
    """Contacts for watchers: often one that was just told of, sometimes a timer's, sometimes any."""

    def __init__(self, told: load.Told, first: int) -> None:
        self._told, self._first = told, first
        self._began = time.monotonic()

    def __call__(self, dice: random.Random) -> str:
        if dice.random() < 0.6:
            return self._told.contact(dice)
        latest = self._first + int((time.monotonic() - self._began) * self._told.rate)
        number = latest - dice.randrange(int(130 * self._told.rate) + 1)
        return f"{load.TIMERS}{max(0, number) // 200 * 200 + 7}"


def _ready(stand: rig.Rig) -> bool:
    owned = stand.sql("select count(distinct part) from heed_data.position where topic = 'facts'")
    return bool(owned[0][0] == stack.HOMES)


def _ends(stand: rig.Rig, topic: str) -> dict[int, int]:
    return broker.ends(stand.bootstrap, topic)


def _past(stand: rig.Rig, ends: dict[tuple[str, int], int]) -> bool:
    return database.wait_past(stand.dsn, ends, time.monotonic())


def _tend(stand: rig.Rig, work: Any) -> None:
    """Do something that blocks, while the processes are looked after by turns."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    while thread.is_alive():
        stand.watch(0.1)
    if failed:
        raise failed[0]


if __name__ == "__main__":
    sys.exit(main())
