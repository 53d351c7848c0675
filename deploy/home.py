"""HEED_HOME: who keeps it, which ports it had, which processes run for it, and `stack.json` for tools.

Promises: one keeper a home (a lock that dies with its holder); every file is replaced whole, and only its
owner can read it. `stack.json` has the shape of docs, `prometheus/targets.json` that of Prometheus; the other
files are ours alone. Called by `deploy.local`, `deploy.local_key`, `deploy.supervisor` and `deploy.watch`.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final

from deploy import processes
from schemas import errors, sealing

STOP_SIGNALS: Final[Mapping[str, signal.Signals]] = {"postgres": signal.SIGINT}


class Home:
    """The folder of one local stack."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.log = self.path / "up.log"
        self._lock: int | None = None

    def take(self) -> None:
        """Makes this process the keeper. Raises errors.Usage while there is another one."""
        self.path.mkdir(parents=True, exist_ok=True)
        lock = os.open(self.path / "keeper", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(lock)
            raise errors.Usage(
                f"A stack runs on {self.path} already: `heed down` stops it, "
                "another HEED_HOME starts one beside it."
            ) from error
        mark = json.dumps(processes.Mark.of(os.getpid()).write()).encode()
        os.ftruncate(lock, 0)
        os.pwrite(lock, mark, 0)
        self._lock = lock

    def leave(self) -> None:
        """Gives the home up after a clean stop: nothing runs for it any more."""
        for name in ("stack.json", "running.json"):
            (self.path / name).unlink(missing_ok=True)
        self.write_targets([])
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def keeper(self) -> processes.Mark | None:
        """The mark of the process that keeps this home, if one does."""
        raw = self._read("keeper")
        mark = processes.Mark.read(raw) if raw else None
        return mark if mark and mark.find() else None

    def ports(self) -> dict[str, int]:
        """The ports of the last start, to be had again where they are free."""
        return dict(self._read("ports.json") or {})

    def write_ports(self, ports: Mapping[str, int]) -> None:
        self._write("ports.json", dict(ports))

    def write_running(self, running: Sequence[tuple[str, int]]) -> None:
        """Notes who runs, so that the next start finds what a killed keeper left."""
        marks = []
        for role, pid in running:
            try:
                marks.append({"role": role, **processes.Mark.of(pid).write()})
            except processes.NoSuchProcess:  # it died just now; the keeper is about to see it
                continue
        self._write("running.json", marks)

    def end_leftovers(self, timeout: float = 25) -> list[int]:
        """Stops what an earlier keeper left behind; gives the pids it found alive."""
        marks = self._read("running.json") or []
        leftovers = [
            (processes.Mark.read(raw), STOP_SIGNALS.get(raw["role"], signal.SIGTERM)) for raw in marks
        ]
        return processes.end_leftovers(leftovers, timeout)

    def write_stack(self, stack: Mapping[str, Any]) -> None:
        self._write("stack.json", dict(stack))

    def stack(self) -> dict[str, Any] | None:
        """What `stack.json` says, if a stack was up."""
        told = self._read("stack.json")
        return dict(told) if told else None

    def key(self) -> dict[str, str] | None:
        """The key of the stack, `{"id", "key"}`, if one was made and its file is whole."""
        told = self._read("key.json")
        known = isinstance(told, dict) and all(isinstance(told.get(name), str) for name in ("id", "key"))
        return dict(told) if known else None

    def write_key(self, key: Mapping[str, str]) -> None:
        self._write("key.json", dict(key))

    def master_key(self) -> Path:
        """The file with this stack's master key, made at the first start; what is sealed is lost with it.

        Another line put before the first is the key to come (`heed master-key rotate`).
        """
        path = self.path / "master-key"
        if not path.exists():
            self._replace(path, base64.b64encode(os.urandom(sealing.KEY_BYTES)).decode() + "\n")
        return path

    def open_log(self) -> IO[bytes]:
        """What a detached `heed up` prints; the key stands in it, so it is its owner's alone."""
        self.path.mkdir(parents=True, exist_ok=True)
        log = self.log.open("ab")
        os.fchmod(log.fileno(), 0o600)
        return log

    def write_targets(self, targets: Sequence[Mapping[str, Any]]) -> None:
        """What Prometheus shall scrape, as its `file_sd` reads it; with the settings of its own beside it."""
        self._write("prometheus/targets.json", list(targets))

    def is_held(self, *names: str) -> bool:
        """Whether a file `hold/<role>` or `hold/<name>` keeps a process from being started again."""
        return any((self.path / "hold" / name).exists() for name in names)

    def _read(self, name: str) -> Any:
        try:
            return json.loads((self.path / name).read_bytes())
        except (OSError, ValueError):
            return None

    def _write(self, name: str, content: Any) -> None:
        self._replace(self.path / name, json.dumps(content, indent=2) + "\n")

    def _replace(self, path: Path, text: str) -> None:
        path.parent.mkdir(exist_ok=True)
        fresh = path.with_name(f".{path.name}.new")
        fresh.touch(mode=0o600)
        fresh.write_text(text)
        fresh.replace(path)
