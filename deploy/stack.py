"""One local stack: which processes it has, in which order they start, and when it is ready.

Promises: a start goes on with the data, and where they are free with the ports, of the one before; what an
earlier run left behind is stopped first; `start` returns when the API says it is ready. Raises errors.Away,
errors.Doubt or errors.Usage with the sentence to show, and `Stopped` when a signal came. Called by
`deploy.local`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from deploy import local_key, processes
from deploy.home import Home
from deploy.kafka import Kafka
from deploy.postgres import DASHBOARD_ROLE, Postgres
from deploy.supervisor import Child, Supervisor
from schemas import errors
from schemas.settings import MASTER_KEYS, Settings

ROOT: Final = Path(__file__).resolve().parent.parent
HEED: Final = Path(sys.executable).with_name("heed")
WORKERS: Final = 3
READY_SECONDS: Final = 90.0
PATIENCE_SECONDS: Final = 20.0
STOP_ORDER: Final = (("demo",), ("api",), ("worker",), ("kafka", "postgres"))


@dataclass(frozen=True, slots=True)
class Asked:
    """What `up` was asked to do; the demo's numbers are None where its own defaults are meant."""

    demo: bool = True
    exit_after_demo: bool = False
    json: bool = False
    contacts: int | None = None
    mailings: int | None = None
    months: int | None = None
    seed: int | None = None

    def demo_argument(self) -> str:
        names = ("contacts", "mailings", "months", "seed")
        return json.dumps({name: getattr(self, name) for name in names})


class Stack:
    """One local stack from its start to its stop."""

    def __init__(self, settings: Settings, home: Home, asked: Asked, supervisor: Supervisor) -> None:
        self._settings = settings
        self._home = home
        self._asked = asked
        self._supervisor = supervisor
        self._ports: dict[str, int] = {}
        self._bootstrap = settings.kafka
        self._dsn = settings.postgres
        self.key: str | None = None

    def start(self) -> None:
        """Servers, topics, tables, workers, API, key; returns when the API says it is ready."""
        began = time.monotonic()
        left = self._home.end_leftovers()
        if left:
            self._supervisor.say(f"stopped {len(left)} processes that an earlier run had left")
        self._choose_ports()
        self._start_servers()
        for number in range(1, WORKERS + 1):
            self._start_heed("worker", f"worker-{number}", {"HEED_WORKER_NAME": f"worker-{number}"})
        self._start_heed("api", "api", {})
        self._wait_until_ready()
        if not (self._settings.kafka or self._settings.postgres):
            self.key = local_key.hold(self._home, self.url, self._make_key, self._supervisor.watch)
        self._supervisor.tell(self.facts())
        self._supervisor.say(
            f"{WORKERS} workers and the API are ready after {time.monotonic() - began:.1f} s"
        )

    def facts(self) -> dict[str, Any]:
        """What `stack.json` says beside the processes."""
        workers = [self._ports[f"worker-{number}"] for number in range(1, WORKERS + 1)]
        return {
            "url": self.url,
            "key": self.key,
            "dsn": self._dsn,
            "dashboard_dsn": dashboard_dsn(self._dsn),
            "bootstrap": self._bootstrap,
            "group": self._settings.group,
            "metrics": [
                f"http://{processes.LOOPBACK}:{port}/metrics" for port in (*workers, self._ports["api"])
            ],
        }

    @property
    def url(self) -> str:
        return f"http://{processes.LOOPBACK}:{self._ports['api']}"

    def play(self) -> int:
        """Plays the demo in a process of its own and watches all the while; gives its exit code."""
        for attempt in range(1, 6):
            code = self._play_once()
            if code != errors.Away.exit_code or attempt == 5:
                return code
            self._supervisor.watch(attempt)
        raise AssertionError("unreachable")

    def _play_once(self) -> int:
        demo = processes.spawn(
            [sys.executable, "-m", "deploy.demo_run", self._asked.demo_argument()],
            env=self._env({}),
            cwd=ROOT,
            stdout=sys.stderr.buffer if self._asked.json else None,
            stderr=None,
        )
        try:
            while demo.poll() is None:
                self._supervisor.watch(0.1)
                if len([name for name in self._supervisor.gave_up if name.startswith("worker")]) == WORKERS:
                    raise errors.Doubt("no worker is left: each stopped on doubt, and its last line says why")
        finally:
            processes.stop(demo, signal.SIGTERM, 10)
        return demo.returncode

    def _choose_ports(self) -> None:
        names = ["kafka", "controller", "postgres", "api", *(f"worker-{n}" for n in range(1, WORKERS + 1))]
        wanted: Mapping[str, int] = self._home.ports()
        if "HEED_API_PORT" in os.environ:
            wanted = {**wanted, "api": self._settings.api_port}
            if self._settings.api_port:
                processes.need_port(self._settings.api_port, "the API", timeout=0)
        chosen = processes.free_ports(len(names), [wanted.get(name) for name in names])
        self._ports = dict(zip(names, chosen, strict=True))
        self._home.write_ports(self._ports)

    def _start_servers(self) -> None:
        """Both at once, since a broker takes seconds; the tables are made while it still starts."""
        keep, folder, ports = self._supervisor, self._home.path, self._ports
        kafka = postgres = None
        if not self._settings.kafka:
            kafka = Kafka(
                folder / "kafka", ports["kafka"], ports["controller"], say=keep.say, pause=keep.pause
            )
            keep.start(Child("kafka", "kafka", kafka.port, kafka.log, _launcher(kafka)))
            self._bootstrap = kafka.bootstrap
        if not self._settings.postgres:
            postgres = Postgres(folder / "postgres", ports["postgres"], pause=keep.pause)
            keep.start(Child("postgres", "postgres", postgres.port, postgres.log, _launcher(postgres)))
            self._dsn = postgres.dsn()
        self._wait(postgres, f"PostgreSQL on {processes.LOOPBACK}:{ports['postgres']}")
        migrate = self._command("migrate")
        try:
            self._wait(kafka, f"Kafka on {self._bootstrap}")
            self._finish(self._command("topics", "create"), "topics", "create")
            self._finish(migrate, "migrate")
        finally:
            migrate.kill()

    def _wait(self, server: Kafka | Postgres | None, what: str) -> None:
        if server is not None:
            server.wait()
            self._supervisor.say(f"{what} is ready")

    def _make_key(self) -> dict[str, Any]:
        output = self._finish(self._command(*local_key.MAKE), *local_key.MAKE)
        made: dict[str, Any] = json.loads(next(line for line in output.splitlines() if '"key"' in line))
        return made

    def _command(self, *arguments: str) -> processes.Command:
        return processes.Command([HEED, *arguments], cwd=ROOT, env=self._env({}))

    def _finish(self, command: processes.Command, *arguments: str) -> str:
        """Waits for a command, and again for a while when a server is still starting; gives its output."""
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            code, output = command.finish(self._supervisor.pause)
            if code == 0:
                return output
            if code != errors.Away.exit_code or time.monotonic() > until:
                break
            self._supervisor.pause(1)
            command = self._command(*arguments)
        told = processes.telling_line(output) or f"exit code {code}"
        raise _error_of(code)(f"`heed {' '.join(arguments)}` failed: {told.removeprefix('heed: ')}")

    def _start_heed(self, role: str, name: str, env: Mapping[str, str]) -> None:
        port = self._ports[name]
        log = self._home.path / "log" / f"{name}.log"
        own = {"HEED_METRICS_PORT": str(port)} if role == "worker" else {"HEED_API_PORT": str(port)}

        def launch() -> subprocess.Popen[bytes]:
            with processes.open_log(log) as output:
                return processes.spawn(
                    [HEED, role],
                    env=self._env({**own, **env}),
                    cwd=ROOT,
                    stdout=output,
                    stderr=output,
                    # made to be killed, and a polite stop would wait for servers that are going as well
                    death_signal=signal.SIGKILL,
                )

        self._supervisor.start(Child(role, name, port, log, launch))

    def _env(self, own: Mapping[str, str]) -> dict[str, str]:
        held = any(getattr(self._settings, name) for name in MASTER_KEYS)
        return {
            **os.environ,
            **({} if held else {"HEED_MASTER_KEY_FILE": str(self._home.master_key())}),
            "HEED_KAFKA": self._bootstrap,
            "HEED_POSTGRES": self._dsn,
            "HEED_HOME": str(self._home.path),
            "PYTHONSAFEPATH": "1",
            "PYTHONUNBUFFERED": "1",
            **own,
        }

    def _wait_until_ready(self) -> None:
        until = time.monotonic() + READY_SECONDS
        while (trouble := _not_ready(self.url)) is not None:
            if self._supervisor.gave_up:
                raise errors.Doubt(f"{self._supervisor.gave_up[0]} does not start (its last line is above)")
            if time.monotonic() > until:
                logs = self._home.path / "log"
                raise errors.Away(f"Heed was not ready within {READY_SECONDS:.0f} s: {trouble} (see {logs})")
            self._supervisor.watch(0.1)


def _launcher(server: Kafka | Postgres) -> Callable[[], subprocess.Popen[bytes]]:
    def launch() -> subprocess.Popen[bytes]:
        server.start()
        assert server.process is not None
        return server.process

    return launch


def _not_ready(url: str) -> str | None:
    """None when the API is ready, else what it says."""
    try:
        with urllib.request.urlopen(f"{url}/health/ready", timeout=5) as answer:  # noqa: S310
            answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return f"{url}/health/ready says {error.code}: {error.read(500).decode('utf-8', 'replace')}"
    except OSError as error:
        return f"{url}/health/ready: {error}"
    return None


def dashboard_dsn(dsn: str) -> str:
    """The read-only role's way into the same database; it has no password of its own."""
    if "://" not in dsn:
        kept = [part for part in dsn.split() if not part.startswith(("user=", "password="))]
        return " ".join([*kept, f"user={DASHBOARD_ROLE}"])
    parts = urlsplit(dsn)
    place = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{DASHBOARD_ROLE}@{place}"))


def _error_of(code: int) -> type[errors.HeedError]:
    kinds = (errors.Usage, errors.Doubt, errors.Away)
    return next((kind for kind in kinds if kind.exit_code == code), errors.Away)
