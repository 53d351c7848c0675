"""`heed doctor` while things are down: each fault is named with what to do, within its time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta

import psutil
import psycopg
import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import AlterConfigOpType, ConfigEntry, ConfigResource
from confluent_kafka.admin._resource import ResourceType

from schemas import settings
from streams import doctor, doctors
from tests import cluster as clusters
from tests import stack

Doctor = Callable[..., tuple[int, dict[str, dict[str, str]]]]


@pytest.fixture
def ask(mortal: stack.Servers, fresh: str) -> Doctor:
    def run(dsn: str = fresh, **env: str) -> tuple[int, dict[str, dict[str, str]]]:
        """The exit code, and of every check the finding that is not ok, else the last."""
        given = stack.clean_env(stack.servers_env(mortal.bootstrap, dsn) | env)
        began = time.monotonic()
        done = subprocess.run(
            [stack.HEED, "doctor", "--json"],
            env=given, capture_output=True, text=True, timeout=clusters.patience(120), check=False,
        )  # fmt: skip
        took = time.monotonic() - began
        assert took < clusters.patience(2 * doctor.SECONDS + 4), took
        assert done.stderr == "", done.stderr
        found: dict[str, dict[str, str]] = {}
        for one in json.loads(done.stdout)["items"]:
            assert one["state"] == "ok" or one["do"], one
            if found.get(one["check"], {"state": "ok"})["state"] == "ok":
                found[one["check"]] = one
        return done.returncode, found

    return run


def wrong(found: dict[str, dict[str, str]]) -> set[str]:
    return {name for name, one in found.items() if one["state"] != "ok"}


@contextmanager
def suspended(top: int) -> Iterator[None]:
    """A process and its children, as they are when it stands still: then it makes no others."""
    os.kill(top, signal.SIGSTOP)
    pids = [top]
    try:
        for child in psutil.Process(top).children(recursive=True):
            pids.append(child.pid)
            with suppress(ProcessLookupError):  # it has just ended by itself
                os.kill(child.pid, signal.SIGSTOP)
        yield
    finally:
        for pid in reversed(pids):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


@pytest.mark.slow
def test_what_is_wrong_with_tables_topics_workers_settings_and_clocks(
    ask: Doctor, mortal: stack.Servers, fresh: str, workers: Callable[..., clusters.Cluster]
) -> None:
    code, found = ask(mortal.make_empty_database())
    assert code == 1
    assert "heed migrate" in found["tables"]["do"]
    assert {"tables", "homes"} <= wrong(found)

    code, found = ask()
    assert (code, wrong(found)) == (1, {"homes", "settings"})
    assert "no worker has ever run" in found["homes"]["says"]
    assert "heed worker" in found["homes"]["do"]

    cluster = workers("worker-1", "worker-2")
    cluster.settle()
    stack.eventually(lambda: not wrong(ask()[1]), "all is well", clusters.patience(60))
    code, found = ask()
    assert (code, wrong(found)) == (0, set()), [found[name] for name in wrong(found)]
    assert "worker-2" in found["homes"]["says"]
    assert "worker-2 0." in found["versions"]["says"]

    code, found = ask(HEED_ENGAGEMENT_PERIOD_MONTHS="24")
    assert (code, wrong(found)) == (1, {"settings"})

    with psycopg.connect(fresh, autocommit=True) as sql:
        sql.execute("update heed_ops.schema_version set version_num = '0000'")
        code, found = ask()
        sql.execute("update heed_ops.schema_version set version_num = '9999'")
        newer = ask()[1]
        sql.execute("update heed_ops.schema_version set version_num = '0001'")
    assert (code, wrong(found)) == (1, {"tables"})
    assert "heed migrate" in found["tables"]["do"]
    assert "newer than this Heed" in newer["tables"]["says"]

    _alter(mortal.bootstrap, "facts", "retention.ms", "1000000000")
    code, found = ask()
    _alter(mortal.bootstrap, "facts", "retention.ms", "-1")
    assert (code, wrong(found)) == (1, {"topics"})
    assert "kafka-configs.sh --alter" in found["topics"]["do"]
    assert "retention.ms=-1" in found["topics"]["do"]
    _clocks_off(mortal.bootstrap, fresh)

    cluster.workers["worker-2"].freeze()
    time.sleep(11)  # what silence is called so
    code, found = ask()
    assert wrong(found) <= {"homes", "lag", "contacts"}
    cluster.workers["worker-2"].thaw()


def _clocks_off(bootstrap: str, dsn: str) -> None:
    """This machine's clock five minutes ahead, so that both servers' are behind."""
    chosen = settings.Settings(kafka=bootstrap, postgres=dsn, homes=stack.HOMES)
    patient = doctor.Patient(chosen, clock=lambda: datetime.now(UTC) + timedelta(minutes=5))
    found = doctor.examine(patient, doctors.SERVERS, doctors.ALL)
    behind = {one.check for one in found if "behind this machine's" in one.says}
    assert behind == {"clock of Kafka", "clock of PostgreSQL"}


@pytest.mark.slow
def test_one_silent_worker_is_named(ask: Doctor, workers: Callable[..., clusters.Cluster]) -> None:
    cluster = workers("worker-1")
    cluster.settle()
    with suspended(cluster.workers["worker-1"].pid):
        time.sleep(12)
        code, found = ask()
    assert code == 1
    assert "worker-1 has said nothing for" in found["homes"]["says"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_servers_that_are_down_or_suspended(ask: Doctor, mortal: stack.Servers) -> None:
    needs_kafka = {"broker", "topics", "append", "lag", "disk of Kafka"}
    assert mortal.kafka.process is not None
    assert mortal.postgres.process is not None
    with suspended(mortal.kafka.process.pid):
        code, found = ask()
    assert code == 1
    assert needs_kafka <= wrong(found)
    with suspended(mortal.postgres.process.pid):
        code, found = ask()
    assert code == 1
    assert {"database", "tables", "homes", "lag", "parked"} <= wrong(found)
    assert "topics" not in wrong(found)
    mortal.kafka.kill()
    code, found = ask()
    assert code == 1
    assert needs_kafka <= wrong(found)
    assert "is it running" in found["broker"]["says"]
    mortal.postgres.kill()
    code, found = ask()
    assert code == 69
    assert all(one["state"] != "ok" for one in found.values())


def _alter(bootstrap: str, topic: str, name: str, value: str) -> None:
    entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 2})
    for altered in admin.incremental_alter_configs([resource]).values():
        altered.result()
