"""The rig of a soak: servers with disks of their own, wires that can be cut, and Heed's supervisor over it
all.

Promises: each worker has a wire of its own to PostgreSQL and one to Kafka (a listener of the broker that
advertises the wire), so that one can be cut off while the others go on. Disks are files mounted in a mount
namespace of this process alone: whatever ends it, the kernel takes them away. Processes carry a death
signal, for the same reason.
Limits: disks need root on Linux; without, the servers live in a plain folder and nothing can be filled.
Start it from the main thread, and call `watch` there.
Called by: `tests.soak.__main__`.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import psycopg

from deploy import processes
from deploy.home import Home
from deploy.kafka import Kafka
from deploy.postgres import Postgres
from deploy.supervisor import Child, Supervisor
from projections.migrations import apply
from schemas.topics import all_topics
from tests import keyring, stack
from tests.faults import brakes
from tests.soak import plan, proxy

CLIENTS = (*plan.WORKERS, "api")
DISK_BYTES = 24 << 30  # of a sparse file: what is written is what is used
CLOCK = stack.ROOT / "tests" / "soak" / "clock"
NEW_NAMESPACE = 0x00020000
STOP_ORDER = (("api",), ("worker",), ("kafka", "postgres"))


class Rig:
    """Everything that runs during a soak."""

    def __init__(self, say: Callable[[str], None], *, disks: bool) -> None:
        self.say = say
        self.home = Path(tempfile.mkdtemp(prefix="heed-soak-"))
        self.disks = disks and _own_namespace()
        self._mounted: list[Path] = []
        self.supervisor = Supervisor(Home(self.home / "heed"), say)
        names = ["kafka", "controller", "postgres", "url", *CLIENTS]
        self.ports = dict(zip(names, processes.free_ports(len(names)), strict=True))
        listeners = processes.free_ports(3 * len(CLIENTS))
        self._listeners = dict(zip(CLIENTS, listeners, strict=False))
        self._kafka_wires = dict(zip(CLIENTS, listeners[len(CLIENTS) :], strict=False))
        self._postgres_wires = dict(zip(CLIENTS, listeners[2 * len(CLIENTS) :], strict=False))
        self.servers = stack.Servers(self.home)
        self.children: dict[str, Child] = {}
        self.wires: proxy.Wires | None = None
        self.stops: brakes.Brakes | None = None

    @property
    def dsn(self) -> str:
        return self.servers.postgres.dsn()

    @property
    def bootstrap(self) -> str:
        return self.servers.kafka.bootstrap

    @property
    def url(self) -> str:
        return f"http://{processes.LOOPBACK}:{self.ports['api']}"

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self) -> None:
        for name in ("kafka", "postgres"):
            self._mount(name)
        self._homely()
        self.servers.kafka = Kafka(
            self.home / "kafka", self.ports["kafka"], self.ports["controller"],
            settings=self._listening(), say=self.say,
        )  # fmt: skip
        self.servers.postgres = Postgres(self.home / "postgres", self.ports["postgres"])
        for name, server in (("kafka", self.servers.kafka), ("postgres", self.servers.postgres)):
            self._keep(name, name, server.log, _launcher(server))
        for server in (self.servers.postgres, self.servers.kafka):
            server.wait()
        stack.recreate_topics(self.bootstrap, all_topics(stack.HOMES))
        apply.upgrade(self.dsn)
        self.stops = brakes.Brakes(self.servers, self.dsn)
        self.wires = proxy.Wires(self._links())
        for name in CLIENTS:
            role = "api" if name == "api" else "worker"
            self._keep(role, name, self._log(name), self._heed(role, name))

    def _homely(self) -> None:
        (self.home / "heed" / "hold").mkdir(parents=True)
        (self.home / "clock").mkdir()

    def _listening(self) -> dict[str, str]:
        """Listeners of the broker, one more for each client, which advertises that client's wire."""
        host = processes.LOOPBACK
        plain = [("PLAINTEXT", self.ports["kafka"], self.ports["kafka"])]
        mine = [(_listener(name), self._listeners[name], self._kafka_wires[name]) for name in CLIENTS]
        bound = [f"{name}://{host}:{port}" for name, port, _ in (*plain, *mine)]
        told = [f"{name}://{host}:{wire}" for name, _, wire in (*plain, *mine)]
        kinds = [f"{name}:PLAINTEXT" for name in ("PLAINTEXT", "CONTROLLER", *map(_listener, CLIENTS))]
        return {
            "listeners": ",".join([*bound, f"CONTROLLER://{host}:{self.ports['controller']}"]),
            "advertised.listeners": ",".join(told),
            "listener.security.protocol.map": ",".join(kinds),
        }

    def _links(self) -> dict[str, tuple[int, int]]:
        kafka = {f"{name} kafka": (self._kafka_wires[name], self._listeners[name]) for name in CLIENTS}
        postgres = {
            f"{name} postgres": (self._postgres_wires[name], self.ports["postgres"]) for name in CLIENTS
        }
        return kafka | postgres

    def env(self, name: str) -> dict[str, str]:
        """The environment of one client: its own wires, its own clock."""
        host = processes.LOOPBACK
        return stack.clean_env(
            {
                "HEED_KAFKA": f"{host}:{self._kafka_wires[name]}",
                "HEED_POSTGRES": f"postgresql://heed@{host}:{self._postgres_wires[name]}/heed",
                "HEED_HOMES": str(stack.HOMES),
                "HEED_MASTER_KEY": keyring.MASTER_TEXT,
                "HEED_HOME": str(self.home / "heed"),
                "PYTHONPATH": str(CLOCK),
                "SOAK_CLOCK": str(self.home / "clock" / name),
            }
        )

    def _heed(self, role: str, name: str) -> Callable[[], subprocess.Popen[bytes]]:
        own = {"HEED_API_PORT": str(self.ports[name])}
        if role == "worker":
            own = {"HEED_WORKER_NAME": name, "HEED_METRICS_PORT": str(self.ports[name])}

        def launch() -> subprocess.Popen[bytes]:
            with processes.open_log(self._log(name)) as output:
                return processes.spawn(
                    [stack.HEED, role], env=self.env(name) | own, cwd=stack.ROOT, stdout=output,
                    stderr=output, death_signal=signal.SIGKILL,
                )  # fmt: skip

        return launch

    def _keep(self, role: str, name: str, log: Path, launch: Callable[[], subprocess.Popen[bytes]]) -> None:
        self.children[name] = Child(role, name, self.ports[name], log, launch)
        self.supervisor.start(self.children[name])

    def _log(self, name: str) -> Path:
        return self.home / "log" / f"{name}.log"

    # While it runs.

    def watch(self, seconds: float) -> None:
        """Look after the processes for a while: who died is started again, as `heed up` does."""
        self.supervisor.watch(seconds)
        assert not self.supervisor.gave_up, f"given up: {self.supervisor.gave_up}"

    def wait(self, check: Callable[[], bool], what: str, seconds: float) -> float:
        """Look after the processes until the check holds; gives the seconds it took."""
        began = time.monotonic()
        while not check():
            assert time.monotonic() - began < seconds, f"not within {seconds:.0f} s: {what}"
            self.watch(0.1)
        return time.monotonic() - began

    def process(self, name: str) -> subprocess.Popen[bytes] | None:
        """The process of this name, if it runs now."""
        found = self.children[name].process
        return found if found is not None and found.poll() is None else None

    def hold(self, name: str) -> None:
        """Not to be started again until it is let go."""
        (self.home / "heed" / "hold" / name).touch()

    def let_go(self, name: str) -> None:
        (self.home / "heed" / "hold" / name).unlink(missing_ok=True)

    def set_clock(self, name: str, seconds: float) -> None:
        """Step a client's clock; it notices within a fifth of a second."""
        fresh = self.home / "clock" / f".{name}"
        fresh.write_text(str(seconds))
        fresh.replace(self.home / "clock" / name)

    def fill_disk(self, name: str) -> None:
        """Leave no block free on a server's disk."""
        filler = self.home / name / "filler"
        with filler.open("wb") as file:
            for step in (64 << 20, 1 << 20, 4096):
                try:
                    while True:
                        os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), step)
                except OSError:
                    continue

    def free_disk(self, name: str) -> None:
        (self.home / name / "filler").unlink(missing_ok=True)

    def free_bytes(self, name: str) -> int:
        found = os.statvfs(self.home / name)
        return found.f_bfree * found.f_frsize

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.dsn, autocommit=True, connect_timeout=5) as connection:
            return connection.execute(statement.encode()).fetchall()

    def heed(self, *arguments: str) -> processes.Command:
        """A command of Heed's, as an operator runs it: straight to the servers."""
        env = stack.clean_env({**stack.servers_env(self.bootstrap, self.dsn),
                               "HEED_HOME": str(self.home / "heed")})  # fmt: skip
        return processes.Command([stack.HEED, *arguments], cwd=stack.ROOT, env=env)

    # Disks.

    def _mount(self, name: str) -> None:
        folder = self.home / name
        folder.mkdir()
        if not self.disks:
            return
        image = self.home / f"{name}.disk"
        with image.open("wb") as file:
            file.truncate(DISK_BYTES)
        _run("mkfs.ext4", "-q", "-F", "-m", "0", "-E", "lazy_itable_init=1", str(image))
        _run("mount", "-o", "loop", str(image), str(folder))
        self._mounted.append(folder)

    def close(self) -> None:
        """End every process, unmount every disk, remove every file."""
        for name in self.children:
            process = self.process(name)
            if process is not None:
                process.send_signal(signal.SIGCONT)
        self.supervisor.stop(STOP_ORDER)
        if self.wires is not None:
            self.wires.close()
        for folder in self._mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=False, capture_output=True)
        shutil.rmtree(self.home, ignore_errors=True)


def _listener(name: str) -> str:
    return name.replace("-", "").upper()


def _launcher(server: Kafka | Postgres) -> Callable[[], subprocess.Popen[bytes]]:
    def launch() -> subprocess.Popen[bytes]:
        server.start()
        assert server.process is not None
        return server.process

    return launch


def _own_namespace() -> bool:
    """Mounts of this process and its children are theirs alone from now on; False where not allowed."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return False
    if ctypes.CDLL(None, use_errno=True).unshare(NEW_NAMESPACE) != 0:
        return False
    return subprocess.run(["mount", "--make-rprivate", "/"], check=False, capture_output=True).returncode == 0


def _run(*command: str) -> None:
    found = subprocess.run(command, check=False, capture_output=True, text=True)
    assert found.returncode == 0, f"{' '.join(command)}: {found.stderr}"
