"""The servers a bench runs on: one real Kafka and one real PostgreSQL in a folder, and their tables made
ready.

Promises: `reset` brings the tables to the same state before every run: rows as prefilled, what a run
added taken out again, vacuumed, and a checkpoint written, so that every run pays for page images.
Autovacuum is off: its work would fall on one contender and not on its neighbour.
Limits: call from the main thread. A folder that is given is kept, and its prefilled tables are used
again.
Called by `tests.bench.__main__`.
"""

from __future__ import annotations

from pathlib import Path

import psycopg

from deploy import processes
from deploy.kafka import Kafka
from deploy.postgres import Postgres
from projections.migrations import apply
from schemas import topics
from tests import stack
from tests.bench import prefill, traffic

HOMES = 8
POSTGRES = {
    "autovacuum": "off",
    "checkpoint_timeout": "1h",
    "maintenance_work_mem": "1GB",
    "max_wal_size": "16GB",
    "min_wal_size": "6GB",
    "shared_buffers": "4GB",
}


class Servers:
    """One broker and one database, for all runs of a bench."""

    def __init__(self, home: Path, facts: int) -> None:
        broker, controller, database = processes.free_ports(3)
        self.facts = facts
        self.contacts = prefill.contacts(facts)
        self.kafka = Kafka(home / "kafka", broker, controller, heap_mb=1024)
        self.postgres = Postgres(home / "postgres", database, settings=POSTGRES)

    @property
    def bootstrap(self) -> str:
        return self.kafka.bootstrap

    @property
    def dsn(self) -> str:
        return self.postgres.dsn()

    def start(self) -> None:
        self.kafka.start()
        self.postgres.start()
        self.kafka.wait()
        self.postgres.wait()
        apply.upgrade(self.dsn)

    def stop(self) -> None:
        self.postgres.stop()
        self.kafka.stop()

    def pids(self) -> tuple[int, int]:
        """Process ids of the broker and of the postmaster."""
        assert self.kafka.process is not None
        assert self.postgres.process is not None
        return self.kafka.process.pid, self.postgres.process.pid

    def fill_tables(self) -> None:
        """The facts and rows of the past, and a counter row for every contact; once in a folder."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            prefill.fill(connection, self.facts, HOMES)

    def fill_log(self, records: list[traffic.Keyed]) -> None:
        """Topics anew, and these records on the log."""
        stack.recreate_topics(self.bootstrap, topics.all_topics(HOMES))
        traffic.append(self.bootstrap, topics.FACTS, records)

    def empty_topics(self) -> None:
        stack.recreate_topics(self.bootstrap, topics.all_topics(HOMES))

    def database(self, name: str) -> str:
        """A new database of this name beside the one of the folds, migrated, as a DSN."""
        with psycopg.connect(self.postgres.admin_dsn, autocommit=True) as connection:
            connection.execute(f"drop database if exists {name} with (force)".encode())
            connection.execute(f"create database {name} owner heed template template0".encode())
        dsn = self.postgres.dsn(database=name)
        apply.upgrade(dsn)
        return dsn

    def counted(self) -> str:
        """What the counters hold, as one text: the same for whoever counted the same events."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            return prefill.counted(connection)

    def reset(self, table: str) -> None:
        """Tables as they were before any run; `table` says which of them the next run writes."""
        with psycopg.connect(self.postgres.dsn("postgres"), autocommit=True) as connection:
            prefill.reset(connection, table)
