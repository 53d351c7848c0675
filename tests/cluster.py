"""A cluster as a test sees it from outside: workers on one broker and one database.

Promises: what is waited for is asked of PostgreSQL, Kafka or /metrics, never slept for; `check` compares
every row with the oracle and every door record with the log. The launcher ends the processes.
Limits: call from the main thread (processes end with the thread that started them).
Called by the integration tests and the fault tests.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import time
import urllib.request
import uuid
from collections import Counter
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

import psycopg
from prometheus_client.parser import text_string_to_metric_families as families
from psycopg.rows import dict_row

from deploy.processes import free_ports
from schemas import topics
from tests import keyring, stack, traffic
from tests.oracle import audit, broker, doors, keys
from tests.oracle import database as oracle_database

THREE = ("worker-1", "worker-2", "worker-3")
OWNED = """
select 'fold' as reader, topic, part, owner, epoch, backend from heed_data.position where reader = 'fold'
union all select reader, topic, part, owner, epoch, backend from heed_ops.position
"""


class Cluster:
    """Workers of one consumer group, on one database."""

    def __init__(self, launch: stack.Launcher, bootstrap: str, dsn: str, home: Path, **env: str) -> None:
        self.launch = launch
        self.bootstrap = bootstrap
        self.dsn = dsn
        self.home = home
        self.env = {"HEED_GROUP": f"test-{uuid.uuid4().hex[:8]}", "HEED_HOME": str(home), **env}
        self.workers: dict[str, stack.Process] = {}
        self.ports: dict[str, int] = {}
        self._connection: psycopg.Connection[dict[str, Any]] | None = None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def tell(self) -> None:
        """Print the last words of each worker, for a test that has failed."""
        for name, process in self.workers.items():
            print(f"--- {name}: {process.popen.poll()}")
            print(*process.lines[-12:], sep="\n")

    # Workers.

    def start(self, *names: str) -> Self:
        """Start workers of these names (a dead one again), and wait until they share all homes."""
        for name in names:
            self.add(name)
        self.wait_shared()
        return self

    def add(self, name: str) -> stack.Process:
        """Start one worker; a supervisor would do the same with one that died."""
        self.ports[name] = free_ports(1)[0]
        env = {**self.env, "HEED_METRICS_PORT": str(self.ports[name])}
        process = self.launch.worker(self.bootstrap, self.dsn, name, **env)
        self.workers[name] = process
        return process

    @property
    def alive(self) -> list[str]:
        return sorted(name for name, process in self.workers.items() if process.alive)

    def assert_alive(self, *names: str) -> None:
        for name in names or tuple(self.workers):
            process = self.workers[name]
            assert process.alive, f"{name} ended with {process.popen.returncode}: {process.last_line}"

    def owners(self) -> dict[tuple[str, int], str]:
        """The owner of each partition of each topic."""
        return {(row["topic"], row["part"]): row["owner"] for row in self.sql(OWNED)}

    def homes_of(self, name: str) -> list[int]:
        return sorted(
            part for (topic, part), owner in self.owners().items() if topic == topics.FACTS and owner == name
        )

    def owns_live(self, name: str) -> bool:
        """Whether what the worker owns is owned by this very process: its sessions hold the claims."""
        backends = {row["backend"] for row in self.sql(OWNED) if row["owner"] == name}
        sessions = self.sql("select pid from pg_stat_activity where application_name like %s", f"{name} %")
        return bool(backends) and backends <= {row["pid"] for row in sessions}

    def shared_by(self, names: Iterable[str]) -> bool:
        """Whether exactly these workers own all partitions, each home with all its topics, evenly."""
        owners = self.owners()
        if len(owners) != sum(topic.partitions for topic in topics.all_topics(stack.HOMES)):
            return False
        owners = {
            name: owner for name, owner in owners.items() if name[0] not in (topics.REGISTRY, topics.KEYS)
        }
        of_home: dict[int, set[str]] = {}
        for (_, part), owner in owners.items():
            of_home.setdefault(part, set()).add(owner)
        if any(len(found) != 1 for found in of_home.values()):
            return False
        counts = Counter(next(iter(found)) for found in of_home.values())
        return set(counts) == set(names) and max(counts.values()) - min(counts.values()) <= 1

    def wait_shared(self, *names: str, timeout: float = 60) -> float:
        """Wait until these workers (else all that are alive) share all homes; gives the seconds it took."""

        def shared() -> bool:
            self.assert_alive(*names)
            return self.shared_by(names or self.alive)

        return stack.eventually(shared, f"{names or self.alive} share all homes", timeout, 0.05)

    # The database.

    def sql(self, statement: str, *values: object) -> list[dict[str, Any]]:
        """Rows of a statement, on a connection that is made anew when the server was killed meanwhile."""
        try:
            return self._ask(statement, values)
        except psycopg.OperationalError:
            return self._ask(statement, values)

    def _ask(self, statement: str, values: tuple[object, ...]) -> list[dict[str, Any]]:
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(self.dsn, autocommit=True, row_factory=dict_row)
        try:
            cursor = self._connection.execute(statement.encode(), values or None)
            return cursor.fetchall() if cursor.description is not None else []
        except psycopg.OperationalError:
            self._connection.close()
            raise

    def row(self, contact: str) -> dict[str, Any] | None:
        """The stored row of a contact."""
        found = self.sql("select * from heed_data.engagement where contact_id = %s", contact)
        return found[0] if found else None

    def wait_row(self, contact: str, frequency: int = 1, timeout: float = 30) -> float:
        """Wait until a contact's row has this frequency (0: there is no row); gives the seconds it took."""

        def there() -> bool:
            row = self.row(contact)
            return (row["frequency"] if row else 0) == frequency

        return stack.eventually(there, f"{contact} has frequency {frequency}", timeout, 0.005)

    def good_event_after(self, topic: str, part: int, producer: Any = None) -> float:
        """Seconds until a good event is in its row: on the same partition, behind commands on the log."""
        contact = traffic.contact_of(part)
        behind = topics.FACTS if topic == topics.COMMANDS else topic
        producer = producer or traffic.plain_producer(self.bootstrap)
        raw = traffic.as_on(behind, contact)
        traffic.send(producer, behind, raw, partition=part, key=f"contact:{contact}")
        assert producer.flush(30) == 0
        return self.wait_row(contact)

    def wait_row_count(self, least: int, timeout: float = 60) -> None:
        """Wait until so many contacts have a row."""

        def enough() -> bool:
            found = self.sql("select count(*) as n from heed_data.engagement")
            return bool(found[0]["n"] >= least)

        stack.eventually(enough, f"{least} contacts have rows", timeout)

    def wait_beats(self, count: int) -> None:
        """Wait until every home has been brought to a later instant, so many times."""
        for _ in range(count):
            last = self.sql("select max(as_of) as t from heed_data.position")[0]["t"]
            stack.eventually(
                lambda last=last: self.sql("select min(as_of) > %s as past from heed_data.position", last)[0][
                    "past"
                ],  # type: ignore[misc]
                "every home proves that it is alive",
            )

    def parked(self, topic: str | None = None) -> list[dict[str, Any]]:
        return self.sql(
            "select * from heed_ops.parked where %s::text is null or topic = %s order by id", topic, topic
        )

    # Kafka.

    def settle(self, timeout: float = 60, *, doors_too: bool = True) -> None:
        """Wait until what stands on the doors is in the log, and the log in the rows, and no nudge waits."""
        deadline = time.monotonic() + timeout
        for names in (topics.DOORS if doors_too else (), (topics.FACTS, topics.REGISTRY), (topics.COMMANDS,)):
            ends = {
                (name, part): end for name in names for part, end in broker.ends(self.bootstrap, name).items()
            }
            assert oracle_database.wait_past(self.dsn, ends, deadline), (
                f"not read to the end: {self._behind(ends)}"
            )
        assert oracle_database.wait_for_nudges(self.dsn, deadline), "nudges are left"

    def _behind(self, ends: dict[tuple[str, int], int]) -> dict[tuple[str, int], tuple[int, int]]:
        seen = oracle_database.snapshot(self.dsn).positions
        return {name: (seen.get(name, 0), end) for name, end in ends.items() if seen.get(name, 0) < end}

    def check(self) -> int:
        """Compare every row with the oracle, every door record with the log; gives the number of contacts."""
        seen = oracle_database.snapshot(self.dsn)
        held = keys.Keys(lambda: broker.records(self.bootstrap, topics.KEYS), [keyring.MASTER_BYTES])
        log = audit.read_log(broker.log(self.bootstrap), seen.positions, held)
        told = itertools.chain.from_iterable(broker.records(self.bootstrap, door) for door in doors.DOORS)
        _, waiting, unaccounted = audit.account(told, seen, log, timedelta(seconds=300))
        report = audit.compare(seen, log)
        assert not log.wrong, log.wrong[:5]
        assert not unaccounted, unaccounted[:5]
        assert not report.rows, report.rows[:5]
        assert (waiting, log.ahead, report.skipped) == (0, 0, 0)
        self._check_once(log)
        return report.contacts

    def replay_check(self) -> None:
        """`heed replay --check`, as an operator runs it: no row differs (LAW-2)."""
        env = stack.clean_env(stack.servers_env(self.bootstrap, self.dsn) | self.env)
        found = subprocess.run(
            [stack.HEED, "replay", "--check"],
            env=env,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert found.returncode == 0, found.stdout + found.stderr

    def _check_once(self, log: audit.Log) -> None:
        distinct = len({(fact.subject, fact.source, fact.id) for fact in log.facts})
        assert self.sql("select count(*) as n from heed_data.fact")[0]["n"] == distinct, "facts lost or twice"

    # Metrics.

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a sample over all workers that are alive."""
        return sum(sample[2] for sample in self._samples(name, labels))

    def quantile(self, name: str, share: float, before: dict[float, float] | None = None) -> float:
        """The upper bound of the histogram's bucket in which this share of all observations lies."""
        buckets = self.buckets(name)
        buckets = {le: count - (before or {}).get(le, 0) for le, count in buckets.items()}
        whole = max(buckets.values(), default=0)
        assert whole, f"nothing was observed by {name}"
        return next(le for le, count in sorted(buckets.items()) if count >= share * whole)

    def buckets(self, name: str) -> dict[float, float]:
        found: dict[float, float] = {}
        for _, labels, value in self._samples(f"{name}_bucket", {}):
            found[float(labels["le"])] = found.get(float(labels["le"]), 0) + value
        return found

    def _samples(self, name: str, labels: dict[str, str]) -> list[tuple[str, dict[str, str], float]]:
        found = []
        for worker in self.alive:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.ports[worker]}/metrics", timeout=5
            ) as answer:
                text = answer.read().decode()
            for family in families(text):
                found += [
                    (sample.name, dict(sample.labels), sample.value)
                    for sample in family.samples
                    if sample.name == name and labels.items() <= sample.labels.items()
                ]
        return found


def patience(seconds: float) -> float:
    """A limit of time as it is on an idle machine, stretched by what else runs on this one."""
    return seconds * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
