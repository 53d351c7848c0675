"""An upgrade under load: tables are migrated while workers fold, and two versions run side by side.

The other version is this tree with a change of each kind (`next_version`): facts of a type in a version
that the older workers cannot read, and a revision of the tables.
"""

from __future__ import annotations

import itertools
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from deploy.processes import free_ports
from schemas import topics
from tests import cluster as clusters
from tests import stack, traffic
from tests.faults import next_version
from tests.laws import generator

RATE = 600
LONGEST_WAIT = 1.0
HOLD_SECONDS = 6.0
# Sessions of Heed's that wait for a lock, and since when; what `heed migrate` itself waits is its own affair.
WAITING = """
select a.application_name, extract(epoch from clock_timestamp() - l.waitstart)::float8
from pg_locks l join pg_stat_activity a on a.pid = l.pid
where not l.granted and l.waitstart is not null and a.application_name like 'worker-%'
"""


@pytest.fixture
def following(tmp_path: Path) -> next_version.NextVersion:
    return next_version.NextVersion(tmp_path / "next")


@pytest.mark.slow
@pytest.mark.capability("LAW-4")
def test_tables_are_migrated_while_three_workers_fold(
    cluster: clusters.Cluster, following: next_version.NextVersion
) -> None:
    """Behind a dashboard's transaction, which holds the tables that the migration changes."""
    sent = _events(60 * RATE, "migrate")
    with traffic.Traffic(cluster.bootstrap, sent, RATE) as load, _Waits(cluster.dsn) as waits:
        cluster.wait_row_count(50)
        with _dashboard(cluster.dsn) as held:
            migrating = _migrate(cluster, following)
            time.sleep(HOLD_SECONDS)
            assert migrating.poll() is None, "it did not wait for the dashboard"
            held()
            told, _ = migrating.communicate(timeout=60)
        assert migrating.returncode == 0, told
        assert load.count < len(sent), "the load has to last longer than the migration"
        load.finish()
    assert waits.looks > 100
    assert waits.longest < clusters.patience(LONGEST_WAIT), f"{waits.worst} waited {waits.longest:.2f} s"
    cluster.settle()
    cluster.assert_alive(*clusters.THREE)
    assert cluster.metric("heed_contact_errors") == 0
    assert cluster.sql("select count(*) as n from heed_read.next_version")[0]["n"] > 0
    assert not [line for name in clusters.THREE for line in _errors(cluster, name)]
    assert cluster.check() > 500


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.capability("LAW-1", "LAW-4", "LAW-7")
def test_two_versions_side_by_side_through_a_rolling_restart(
    cluster: clusters.Cluster, following: next_version.NextVersion
) -> None:
    """One worker after the other becomes the next version; what is too new for some is folded by others."""
    with traffic.Traffic(cluster.bootstrap, _without_end("rolling"), RATE) as load:
        cluster.wait_row_count(50)
        with _migrate(cluster, following) as migrating:
            told, _ = migrating.communicate(timeout=120)
        assert migrating.returncode == 0, told
        for name in clusters.THREE:
            assert cluster.workers[name].terminate() == 0, cluster.workers[name].last_line
            _add_next(cluster, following, name)
            cluster.wait_shared(*clusters.THREE, timeout=90)
            _wait_for(cluster, name)
        aside = cluster.sql("select count(*) as n from heed_ops.parked where topic = %s", topics.FACTS)
        load.stop(240)
    cluster.settle(180)
    cluster.assert_alive(*clusters.THREE)
    of_next = cluster.sql(
        "select count(*) as n from heed_data.fact where type = 'mail.clicked' and version = 2"
    )
    assert of_next[0]["n"] > 1_000, "the newer workers took little in: the test shows nothing"
    print(f"{aside[0]['n']} facts were set aside when the last older worker had gone")
    stack.eventually(lambda: not _left(cluster), "what was too new has been folded", 60, 0.2)
    cluster.settle(60)
    assert cluster.check() > 500


def _left(cluster: clusters.Cluster) -> list[dict[str, Any]]:
    """Facts of the log that are still set aside because a worker could not read them."""
    return cluster.sql(
        "select off from heed_ops.parked where topic = %s and reason in ('newer_version', 'unknown_type')",
        topics.FACTS,
    )


def _without_end(name: str) -> Iterator[generator.Sent]:
    for number in itertools.count():
        yield from _events(5_000, f"{name}-{number}")


def _events(count: int, name: str) -> list[generator.Sent]:
    now = datetime.now(UTC).replace(microsecond=0)
    sent = generator.seeded(len(name), count, 1_000, now, name=f"{name}-").sent
    # what is parked as too new or unknown at a door would be told from what the upgrade sets aside by nothing
    return [one for one in sent if one.reason not in ("newer_version", "unknown_type")]


def _migrate(cluster: clusters.Cluster, following: next_version.NextVersion) -> subprocess.Popen[str]:
    """`heed migrate` of the next version."""
    env = stack.clean_env(
        {**stack.servers_env(cluster.bootstrap, cluster.dsn), **cluster.env, **following.env}
    )
    return subprocess.Popen(
        [*map(str, following.heed), "migrate"], env=env, cwd=following.folder, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def _add_next(cluster: clusters.Cluster, following: next_version.NextVersion, name: str) -> None:
    """A worker of the next version under the name of one that has gone."""
    cluster.ports[name] = free_ports(1)[0]
    env = {
        **stack.servers_env(cluster.bootstrap, cluster.dsn), **cluster.env, **following.env,
        "HEED_WORKER_NAME": name, "HEED_METRICS_PORT": str(cluster.ports[name]),
    }  # fmt: skip
    cluster.workers[name] = cluster.launch.run([*following.heed, "worker"], env=env, name=name)


def _wait_for(cluster: clusters.Cluster, name: str) -> None:
    """Wait until the worker owns homes by itself and has taken something in at a door."""
    stack.eventually(lambda: cluster.owns_live(name), f"{name} owns homes", 60, 0.1)
    before = cluster.metric("heed_admitted_total")
    stack.eventually(lambda: cluster.metric("heed_admitted_total") > before + RATE, "events come in", 60, 0.2)


def _errors(cluster: clusters.Cluster, name: str) -> list[str]:
    return [
        line for line in cluster.workers[name].lines if '"level": "error"' in line and '"library"' not in line
    ]


@contextmanager
def _dashboard(dsn: str) -> Iterator[Any]:
    """A transaction that has read the rows and stays open until it is told otherwise."""
    with psycopg.connect(dsn.replace("//heed@", "//heed_dashboard@")) as connection:
        connection.execute("select count(*) from heed_read.contact_engagement")
        yield connection.rollback


class _Waits:
    """Looks all the time who waits for a lock, and how long."""

    def __init__(self, dsn: str) -> None:
        self.longest, self.worst, self.looks = 0.0, "", 0
        self._dsn = dsn
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="waits")

    def __enter__(self) -> _Waits:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            while not self._stopping.wait(0.02):
                self.looks += 1
                for name, seconds in connection.execute(WAITING):
                    if seconds > self.longest:
                        self.longest, self.worst = seconds, name
