"""Keeps the processes of a local stack alive, and stops them in order.

Promises: a process that dies is shown with its last line and started again, after a moment that doubles while
it keeps dying; one that stops on doubt five times within a minute is left stopped, because a sixth time would
say the same. `stack.json` and Prometheus's targets follow every change. While `hold/<role>` or `hold/<name>`
exists in the home, that process is not started again: for tests that need a server to be away. A signal is
heeded within a tenth of a second, wherever the supervisor waits.

Limits: one thread, no network of its own. Called by `deploy.local`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Final

from deploy import processes
from deploy.home import STOP_SIGNALS, Home
from deploy.jars import Say
from schemas import errors

FIRST_PAUSE: Final = 0.2
LONGEST_PAUSE: Final = 5.0
STEADY_SECONDS: Final = 20.0
DOUBTS: Final = 5
DOUBT_SECONDS: Final = 60.0
SCRAPED: Final = ("worker", "api")


class Stopped(BaseException):
    """Somebody asked the stack to stop."""


@dataclass(slots=True)
class Child:
    """One process that is kept alive."""

    role: str
    name: str
    port: int | None
    log: Path
    launch: Callable[[], subprocess.Popen[bytes]]
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    due: float = 0.0
    pause: float = FIRST_PAUSE
    doubts: deque[float] = field(default_factory=lambda: deque(maxlen=DOUBTS))
    given_up: bool = False
    held: bool = False

    @property
    def runs(self) -> bool:
        return self.process is not None


class Supervisor:
    """The children of one home, in the order they were started."""

    def __init__(self, home: Home, say: Say) -> None:
        self._home = home
        self._print = say
        self._children: list[Child] = []
        self._facts: dict[str, Any] = {}
        self._signals = 0

    @property
    def gave_up(self) -> list[str]:
        """Names of the children that are left stopped."""
        return [child.name for child in self._children if child.given_up]

    def listen(self) -> None:
        """From now on SIGINT, SIGTERM and SIGHUP stop the stack; a second one does so at once."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)

    def _on_signal(self, _: int, __: FrameType | None) -> None:
        self._signals += 1
        if self._signals > 1:
            for child in self._children:
                if child.process is not None:
                    child.process.kill()

    def say(self, line: str) -> None:
        """Prints; raises Stopped when the stack was asked to stop."""
        self._print(line)
        self._heed_signals()

    def pause(self, seconds: float) -> None:
        """Waits; raises Stopped when the stack was asked to stop."""
        until = time.monotonic() + seconds
        while True:
            self._heed_signals()
            left = until - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, 0.1))

    def _heed_signals(self) -> None:
        if self._signals:
            raise Stopped

    def tell(self, facts: Mapping[str, Any]) -> None:
        """What `stack.json` says beside the processes; from now on it is written at every change."""
        self._facts = dict(facts)
        self._note()

    def start(self, child: Child) -> None:
        """Starts a child and keeps it alive from now on. Raises errors.Away when it cannot be started."""
        self._children.append(child)
        self._launch(child)

    def watch(self, seconds: float) -> None:
        """Looks after the children for a while. Raises Stopped when the stack was asked to stop."""
        until = time.monotonic() + seconds
        while True:
            for child in self._children:
                self._look_after(child)
            left = until - time.monotonic()
            if left <= 0:
                return
            self.pause(min(left, 0.1))

    def _look_after(self, child: Child) -> None:
        if child.process is not None:
            code = child.process.poll()
            if code is not None:
                self._bury(child, code)
        elif not child.given_up and time.monotonic() >= child.due:
            held = self._home.is_held(child.role, child.name)
            if held and not child.held:
                self._print(f"{child.name} is held back: it starts when {self._home.path / 'hold'} lets it")
            child.held = held
            if not held:
                self._launch_again(child)

    def _launch(self, child: Child) -> None:
        child.process = child.launch()
        child.started = time.monotonic()
        self._note()

    def _launch_again(self, child: Child) -> None:
        try:
            self._launch(child)
        except (errors.Away, OSError) as error:
            self._postpone(child)
            self._print(f"{child.name} cannot be started: {error}")

    def _bury(self, child: Child, code: int) -> None:
        now = time.monotonic()
        last = processes.last_line(child.log, besides=("HINT:", "DETAIL:"))
        child.process = None
        self._note()
        if code == errors.Doubt.exit_code:
            child.doubts.append(now)
        if len(child.doubts) == DOUBTS and now - child.doubts[0] < DOUBT_SECONDS:
            child.given_up = True
            self._print(
                f"{child.name} stopped on doubt {DOUBTS} times within a minute and stays stopped: {last}"
            )
            return
        if now - child.started > STEADY_SECONDS:
            child.pause = FIRST_PAUSE
        self._postpone(child)
        self._print(f"{child.name} {_how(code)}, starting it again. Its last line: {last}")

    def _postpone(self, child: Child) -> None:
        child.due = time.monotonic() + child.pause
        child.pause = min(child.pause * 2, LONGEST_PAUSE)

    def _targets(self) -> list[dict[str, Any]]:
        """Every child that shows metrics, also one that is away just now: its silence shall be seen."""
        return [
            {
                "targets": [f"{processes.LOOPBACK}:{child.port}"],
                "labels": {"role": child.role, "name": child.name},
            }
            for child in self._children
            if child.role in SCRAPED
        ]

    def _note(self) -> None:
        self._home.write_targets(self._targets())
        running = [child for child in self._children if child.runs]
        self._home.write_running([(child.role, _pid(child)) for child in running])
        if self._facts:
            rows = [{"role": child.role, "pid": _pid(child), "port": child.port} for child in running]
            keeper = {"role": "supervisor", "pid": os.getpid(), "port": None}
            self._home.write_stack({**self._facts, "processes": [*rows, keeper]})

    def stop(self, groups: Sequence[Sequence[str]], timeout: float = 20) -> None:
        """Stops the children, one group of roles after the other, each group all at once."""
        for roles in groups:
            going = [child for child in self._children if child.role in roles and child.process]
            for child in going:
                processes.ask(_process(child), STOP_SIGNALS.get(child.role, signal.SIGTERM))
            until = time.monotonic() + timeout
            for child in going:
                processes.reap(_process(child), until - time.monotonic())
                child.process = None
        self._children.clear()


def _process(child: Child) -> subprocess.Popen[bytes]:
    assert child.process is not None
    return child.process


def _pid(child: Child) -> int:
    return _process(child).pid


def _how(code: int) -> str:
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"
