"""Child processes that never outlive their keeper, and ports to give them.

A child started here gets its own session (so a Ctrl-C in the terminal reaches the keeper alone, which stops
things in order) and, on Linux, a death signal: when the keeper is killed with -9, the kernel asks the child
to stop. What is left all the same is found again by its `Mark` and stopped by `end_leftovers`.

Limits: the death signal belongs to the thread that starts the child, so start children from the main thread.
Elsewhere than on Linux only the marks work. Called by `deploy.kafka`, `deploy.postgres`, `deploy.supervisor`
and by the tests' fixtures.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import psutil

from schemas import errors

Pause = Callable[[float], None]
NoSuchProcess = psutil.NoSuchProcess

LOOPBACK = "127.0.0.1"
_RANGE = (18_000, 31_999)
_given: set[int] = set()
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


@dataclass(frozen=True, slots=True)
class Owner:
    """The system user a child runs as, where it must not run as root."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Mark:
    """What tells a process from another one that got the same pid later."""

    pid: int
    created: float
    command: str

    @classmethod
    def of(cls, pid: int) -> Mark:
        """Of a process that is alive; raises psutil.Error otherwise."""
        process = psutil.Process(pid)
        return cls(pid, process.create_time(), " ".join(process.cmdline()))

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> Mark:
        return cls(int(raw["pid"]), float(raw["created"]), str(raw["command"]))

    def write(self) -> dict[str, Any]:
        return asdict(self)

    def find(self) -> psutil.Process | None:
        """The process itself, or None when it has ended (its pid may be somebody else's by now)."""
        try:
            process = psutil.Process(self.pid)
            same_time = abs(process.create_time() - self.created) < 2
            same = same_time and " ".join(process.cmdline()) == self.command
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.Error:
            return None


def spawn(
    command: Sequence[str | Path],
    *,
    env: Mapping[str, str],
    cwd: Path,
    stdout: int | IO[bytes] | None,
    stderr: int | IO[bytes] | None,
    death_signal: signal.Signals = signal.SIGTERM,
    owner: Owner | None = None,
) -> subprocess.Popen[bytes]:
    """Starts a child that ends with this process. Raises OSError when it cannot be started."""
    return subprocess.Popen(
        [str(part) for part in command],
        env=dict(env),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        start_new_session=True,
        user=owner.uid if owner else None,
        group=owner.gid if owner else None,
        extra_groups=[] if owner else None,
        # runs after setuid, which would clear the death signal
        preexec_fn=_die_with(os.getpid(), death_signal),  # noqa: PLW1509
    )


class Command:
    """A child that runs to its end, with what it said."""

    def __init__(
        self, command: Sequence[str | Path], *, cwd: Path, env: Mapping[str, str], owner: Owner | None = None
    ) -> None:
        """Starts it. Raises OSError when it cannot be started."""
        self._output = tempfile.TemporaryFile()  # noqa: SIM115
        self._child = spawn(
            command,
            env=env,
            cwd=cwd,
            stdout=self._output,
            stderr=self._output,
            death_signal=signal.SIGKILL,
            owner=owner,
        )

    def finish(self, pause: Pause = time.sleep) -> tuple[int, str]:
        """Waits for its end; gives its exit code and its output. Kills it when `pause` raises."""
        with self._output:
            try:
                while self._child.poll() is None:
                    pause(0.02)
            finally:
                self.kill()
            self._output.seek(0)
            return self._child.returncode, self._output.read().decode("utf-8", "replace")

    def kill(self) -> None:
        stop(self._child, signal.SIGKILL, 5)


def _die_with(parent: int, death_signal: signal.Signals) -> Callable[[], None] | None:
    libc = _libc
    if libc is None:
        return None

    def prepare() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        if os.getppid() != parent:  # the parent died before the signal was set
            os.kill(os.getpid(), signal.SIGKILL)

    return prepare


def stop(process: subprocess.Popen[bytes], sig: signal.Signals, timeout: float) -> int:
    """Asks a child to stop and waits; kills it after `timeout` seconds. Returns its exit code."""
    ask(process, sig)
    return reap(process, timeout)


def ask(process: subprocess.Popen[bytes], sig: signal.Signals) -> None:
    """Sends the signal; wakes a frozen child, which would never see it."""
    if process.poll() is None:
        process.send_signal(sig)
        process.send_signal(signal.SIGCONT)


def reap(process: subprocess.Popen[bytes], timeout: float) -> int:
    """Waits for a child's end; kills it after `timeout` seconds. Returns its exit code."""
    try:
        return process.wait(max(timeout, 0))
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def end_leftovers(leftovers: Sequence[tuple[Mark, signal.Signals]], timeout: float) -> list[int]:
    """Stops processes that an earlier keeper left behind, all at once. Returns the pids it found alive."""
    found = [(process, sig) for mark, sig in leftovers if (process := mark.find())]
    for process, sig in found:
        _signal(process, sig)
        _signal(process, signal.SIGCONT)
    _, alive = psutil.wait_procs([process for process, _ in found], timeout)
    for process in alive:
        _signal(process, signal.SIGKILL)
    psutil.wait_procs(alive, 5)
    return [process.pid for process, _ in found]


def _signal(process: psutil.Process, sig: signal.Signals) -> None:
    try:
        process.send_signal(sig)
    except psutil.NoSuchProcess:
        return


def free_ports(count: int, wanted: Sequence[int | None] = ()) -> list[int]:
    """Loopback ports nobody listens on: the wanted ones where they are free, others else.

    Others come from below the system's ephemeral range: a client that keeps dialling a dead server's port
    could otherwise be given that very port as its own, and keep the restarted server from binding it. None of
    them is given twice by one process: who was given it may not have come to listen on it yet.
    """
    held: list[socket.socket] = []
    try:
        for index in range(count):
            want = wanted[index] if index < len(wanted) else None
            others = (port for _ in range(1000) if (port := random.randint(*_RANGE)) not in _given)
            candidates = itertools.chain([want] if want else [], others)
            held.append(next(each for port in candidates if (each := _hold(port))))
        ports = [int(each.getsockname()[1]) for each in held]
    finally:
        for each in held:
            each.close()
    _given.update(ports)
    return ports


def need_port(port: int, what: str, timeout: float = 3) -> None:
    """Raises errors.Away when another program keeps listening on the port that `what` is to have."""
    until = time.monotonic() + timeout
    while (held := _hold(port)) is None:
        if time.monotonic() > until:
            raise errors.Away(
                f"{what} cannot have port {port}: another program listens there; end that program, "
                "or run the command again with another HEED_HOME."
            )
        time.sleep(0.1)
    held.close()


def _hold(port: int) -> socket.socket | None:
    held = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    # as servers do: a port in TIME_WAIT is free, a port that is listened on is not
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        held.bind((LOOPBACK, port))
        held.listen(1)
    except OSError:
        held.close()
        return None
    return held


def last_line(log: Path, besides: Sequence[str] = (), limit: int = 4096) -> str:
    """The last line of a log that says something, or an empty string; lines with `besides` are left out."""
    try:
        with log.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - limit))
            return telling_line(file.read().decode("utf-8", "replace"), besides)
    except OSError:
        return ""


def telling_line(output: str, besides: Sequence[str] = ()) -> str:
    """The last line of an output that says something, or an empty string."""
    lines = (line.strip() for line in reversed(output.splitlines()))
    return next((line for line in lines if line and not any(word in line for word in besides)), "")


def open_log(path: Path, keep_bytes: int = 16 << 20) -> IO[bytes]:
    """Opens a child's log for appending; an old one past `keep_bytes` moves to `<name>.1` first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > keep_bytes:
        path.replace(path.with_name(path.name + ".1"))
    return path.open("ab")
