"""Real servers and real processes for tests: one Kafka and one PostgreSQL a session, workers as asked.

Promises: every test database is fresh and migrated, every set of topics is new; what a test starts is stopped
when its fixture ends, and nothing else is. Limits: topics have fixed names, so tests that use them share one
broker by turns. With TESTS_POSTGRES=15 the database is the oldest that Heed runs on. Called by
`tests.conftest` and by tests that kill and restart servers themselves.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree
from types import TracebackType
from typing import Self

import psycopg
from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from deploy.kafka import Kafka
from deploy.postgres import Postgres
from deploy.processes import free_ports, spawn
from schemas import topics
from tests import keyring, postgres15

ROOT = Path(__file__).resolve().parent.parent
HEED = Path(sys.executable).with_name("heed")
HOMES = 8


class Servers:
    """A Kafka and a PostgreSQL of a folder of their own, to be stopped, killed and started at will."""

    def __init__(self, home: Path) -> None:
        broker, controller, database = free_ports(3)
        self.home = home
        self.kafka = Kafka(home / "kafka", broker, controller, say=_quiet)
        oldest = os.environ.get("TESTS_POSTGRES") == "15"
        make = postgres15.server if oldest else Postgres
        self.postgres = make(home / "postgres", database)
        self._template: str | None = None

    @property
    def bootstrap(self) -> str:
        return self.kafka.bootstrap

    def start(self) -> None:
        self.kafka.start()
        self.postgres.start()
        self.kafka.wait()
        self.postgres.wait()

    def stop(self) -> None:
        self.postgres.stop()
        self.kafka.stop()

    def make_database(self) -> str:
        """A migrated database of its own, as a DSN: a copy of one that was migrated once."""
        if self._template is None:
            template = self._create("template0")
            from projections.migrations import apply

            apply.upgrade(self.postgres.dsn(database=template))
            self._template = template
        return self.postgres.dsn(database=self._create(self._template))

    def make_empty_database(self) -> str:
        """A database without any migration, as a DSN."""
        return self.postgres.dsn(database=self._create("template0"))

    def drop_database(self, dsn: str) -> None:
        with psycopg.connect(self.postgres.admin_dsn, autocommit=True) as connection:
            connection.execute(f"drop database if exists {dsn.rpartition('/')[2]} with (force)".encode())

    def _create(self, template: str) -> str:
        name = f"t_{uuid.uuid4().hex[:12]}"
        with psycopg.connect(self.postgres.admin_dsn, autocommit=True) as connection:
            connection.execute(f"create database {name} owner heed template {template}".encode())
        return name


@contextmanager
def running_servers() -> Iterator[Servers]:
    """Servers in a temporary folder (not pytest's, which closes its folders to the database's user)."""
    home = Path(tempfile.mkdtemp(prefix="heed-tests-"))
    servers = Servers(home)
    try:
        servers.start()
        yield servers
    finally:
        servers.stop()
        rmtree(home, ignore_errors=True)


def recreate_topics(
    bootstrap: str, wanted: tuple[topics.Topic, ...], timeout: float = 30, *, seeded: bool = True
) -> None:
    """Deletes these topics and makes them anew, empty; waits until every partition has a leader.

    In `keys` then stands the secret of tests, so that digests can be foretold, unless not `seeded`.
    """
    delete_topics(bootstrap, wanted, timeout)
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 2})
    until = time.monotonic() + timeout
    for topic in wanted:
        new = NewTopic(topic.name, topic.partitions, 1, config=topic.config)
        while not _created(admin, new):
            assert time.monotonic() < until, f"topic {topic.name} could not be made anew"
            time.sleep(0.1)
    while not all(_led(admin, topic) for topic in wanted):
        assert time.monotonic() < until, f"topics {wanted} got no leaders"
        time.sleep(0.05)
    if seeded and any(topic.name == topics.KEYS for topic in wanted):
        key, value = keyring.secret_record()
        producer = Producer({"bootstrap.servers": bootstrap, "log_level": 2})
        producer.produce(topics.KEYS, value, key)
        assert producer.flush(timeout) == 0


def delete_topics(bootstrap: str, unwanted: tuple[topics.Topic, ...], timeout: float = 30) -> None:
    """Deletes those of these topics that are there."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 2})
    there = admin.list_topics(timeout=timeout).topics
    existing = [topic.name for topic in unwanted if topic.name in there]
    if existing:
        for deleted in admin.delete_topics(existing, operation_timeout=timeout).values():
            deleted.result()


def _created(admin: AdminClient, new: NewTopic) -> bool:
    try:
        admin.create_topics([new])[new.topic].result()
    except KafkaException as error:
        if error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS:  # its deletion is still under way
            return False
        raise
    return True


def _led(admin: AdminClient, topic: topics.Topic) -> bool:
    seen = admin.list_topics(topic.name, timeout=10).topics[topic.name]
    return len(seen.partitions) == topic.partitions and all(p.leader >= 0 for p in seen.partitions.values())


class Process:
    """A child of the test, with every line it printed; ends with the test."""

    def __init__(self, name: str, popen: subprocess.Popen[bytes]) -> None:
        self.name = name
        self.popen = popen
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, name=f"read-{name}", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.popen.stdout is not None
        with self.popen.stdout as output:
            for line in output:
                self.lines.append(line.decode("utf-8", "replace").rstrip())

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def last_line(self) -> str:
        return next((line for line in reversed(self.lines) if line), "")

    @property
    def alive(self) -> bool:
        return self.popen.poll() is None

    def wait_for(self, told: Callable[[str], bool] | str, timeout: float = 30) -> str:
        """The first line that contains the text, or of which the function is true."""
        test = told if callable(told) else lambda line: told in line
        until = time.monotonic() + timeout
        while True:
            found = next((line for line in list(self.lines) if test(line)), None)
            if found is not None:
                return found
            assert self.alive, f"{self.name} ended with {self.popen.returncode}: {self.last_line}"
            assert time.monotonic() < until, f"{self.name} never told {told}; last: {self.last_line}"
            time.sleep(0.02)

    def exit(self, timeout: float = 30) -> int:
        """Waits for its end and gives its exit code."""
        code = self.popen.wait(timeout)
        self._reader.join(5)
        return code

    def freeze(self) -> None:
        self.popen.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.popen.send_signal(signal.SIGCONT)

    def terminate(self, timeout: float = 30) -> int:
        """SIGTERM, and waits for its end."""
        self.popen.terminate()
        return self.exit(timeout)

    def kill(self) -> int:
        """kill -9."""
        self.popen.kill()
        return self.exit()

    def end(self) -> None:
        """Leaves nothing behind, whatever state it is in."""
        if self.alive:
            self.popen.kill()
        self.exit()


class Launcher:
    """Starts `heed` processes and ends all of them, and only them, when it is left."""

    def __init__(self) -> None:
        self.started: list[Process] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self.started:
            if process.alive:
                process.popen.kill()
        for process in self.started:
            process.end()

    def worker(self, bootstrap: str, dsn: str, name: str = "worker-1", **env: str) -> Process:
        """`heed worker`; further settings as keywords, as `HEED_GROUP="a-test"`."""
        port = free_ports(1)[0]
        settings = {"HEED_WORKER_NAME": name, "HEED_METRICS_PORT": str(port)}
        return self.heed("worker", name=name, env={**servers_env(bootstrap, dsn), **settings, **env})

    def api(self, bootstrap: str, dsn: str, port: int, name: str = "api", **env: str) -> Process:
        """`heed api` on a port of the loopback address."""
        settings = {"HEED_API_PORT": str(port)}
        return self.heed("api", name=name, env={**servers_env(bootstrap, dsn), **settings, **env})

    def heed(self, *arguments: str, env: Mapping[str, str], name: str = "") -> Process:
        """Any command of the CLI. Call from the main thread (see `deploy.processes`)."""
        return self.run([HEED, *arguments], env=env, name=name or arguments[0])

    def run(self, command: list[str | Path], *, env: Mapping[str, str], name: str) -> Process:
        popen = spawn(command, env=clean_env(env), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        process = Process(name, popen)
        self.started.append(process)
        return process


def servers_env(bootstrap: str, dsn: str) -> dict[str, str]:
    return {
        "HEED_KAFKA": bootstrap,
        "HEED_POSTGRES": dsn,
        "HEED_HOMES": str(HOMES),
        "HEED_MASTER_KEY": keyring.MASTER_TEXT,
    }


def clean_env(env: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without any setting of Heed's, and then the given ones."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HEED_")}
    cache = {"HEED_CACHE": os.environ["HEED_CACHE"]} if "HEED_CACHE" in os.environ else {}
    return {**inherited, **cache, "PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1", **env}


def eventually(check: Callable[[], bool], what: str, timeout: float = 30, pause: float = 0.02) -> float:
    """Waits until the check holds and gives the seconds it took; fails naming `what`."""
    began = time.monotonic()
    while not check():
        assert time.monotonic() - began < timeout, f"not within {timeout:.0f} s: {what}"
        time.sleep(pause)
    return time.monotonic() - began


def _quiet(_: str) -> None:
    return None
