"""PostgreSQL is put back from an earlier backup: Heed catches up by itself, and nothing takes effect twice.

The drill 'Backup and restore' of docs/operations.md. Positions are in the same backup as the rows, so what
was folded since is read again from the log; what was taken in since is read again from the doors, and is a
copy.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import confluent_kafka
import pytest
from confluent_kafka.admin import AdminClient

from deploy import postgres
from schemas import registry as told
from schemas import topics
from streams import telling
from tests import cluster as clusters
from tests import stack, traffic
from tests.laws import generator
from tests.oracle import broker
from tests.soak import final

DUE = 50  # contacts whose row runs out after the backup and before the restore
BEFORE, AFTER = 3_000, 3_000
KEY = "key:of-the-drill"
REVOKED = telling.Entry("key.revoked", KEY, told.KeyRevoked(), "a test")


@pytest.mark.slow
@pytest.mark.capability("LAW-1", "LAW-4")
def test_a_base_backup_under_living_workers(
    cluster: clusters.Cluster, mortal: stack.Servers, tmp_path: Path
) -> None:
    """The whole server is put back, while three workers that have folded further wait for it."""
    _before(cluster, 1)
    backup = tmp_path / "backup"
    _program(
        "pg_basebackup", "-d", mortal.postgres.admin_dsn, "-D", str(backup), "-X", "stream", "-c", "fast"
    )
    contacts = _go_on(cluster)
    fired = _fired(cluster, contacts)

    mortal.postgres.kill()
    owner = mortal.postgres.data.stat()
    shutil.rmtree(mortal.postgres.data)
    shutil.copytree(backup, mortal.postgres.data)
    for path in (mortal.postgres.data, *mortal.postgres.data.rglob("*")):
        shutil.chown(path, owner.st_uid, owner.st_gid)
    mortal.postgres.data.chmod(0o700)
    mortal.postgres.start()
    mortal.postgres.wait()

    _supervise(cluster)
    _check_caught_up(cluster, contacts, fired)


@pytest.mark.slow
@pytest.mark.capability("LAW-1", "LAW-4")
def test_a_dump_into_an_empty_database(
    workers: Callable[..., clusters.Cluster], mortal: stack.Servers, fresh: str, tmp_path: Path
) -> None:
    """The database alone is put back, by new workers' time, and a door has forgotten what was read since."""
    cluster = workers(*clusters.THREE)
    before = _before(cluster, 2)
    dump = tmp_path / "dump"
    _program("pg_dump", "-d", fresh, "-Fc", "-f", str(dump))
    contacts = _go_on(cluster)
    fired = _fired(cluster, contacts)

    for name in clusters.THREE:
        assert cluster.workers[name].terminate() == 0
    cluster.close()
    mortal.drop_database(fresh)
    name = fresh.rpartition("/")[2]
    _program("createdb", "--maintenance-db", mortal.postgres.admin_dsn, "-O", "heed", "-T", "template0", name)
    _program("pg_restore", "-d", mortal.postgres.dsn("postgres", name), str(dump))
    lost = _expire(cluster.bootstrap, topics.EMAIL_ACTIVITY)

    ended = cluster.add("worker-1")
    assert ended.exit(60) == 3
    assert "Lost" in ended.last_line
    given_up = cluster.launch.heed(
        "topics", "accept-loss", topics.EMAIL_ACTIVITY,
        env={**stack.servers_env(cluster.bootstrap, fresh), **cluster.env},
    )  # fmt: skip
    assert given_up.exit(60) == 0, given_up.lines
    assert sum(map(int, re.findall(r": (\d+)", given_up.last_line))) == lost - before, given_up.lines
    cluster.start(*clusters.THREE)
    _check_caught_up(cluster, contacts, fired)


def _decide(cluster: clusters.Cluster, entry: telling.Entry) -> None:
    """A fact of the registry, until it is in force."""
    record = telling.record(entry)
    producer = traffic.plain_producer(cluster.bootstrap)
    traffic.send(producer, record.topic, record.value, partition=0, key=record.key)
    assert producer.flush(30) == 0
    stack.eventually(lambda: entry.type in _of_key(cluster), f"{entry.type} is folded", 60)


def _of_key(cluster: clusters.Cluster) -> list[str]:
    """What the registry's tables say of the key, in the order of time."""
    found = cluster.sql("select type from heed_data.registry where subject = %s order by time, id", KEY)
    return [one["type"] for one in found]


def _fill(cluster: clusters.Cluster, count: int, seed: int) -> None:
    """Events with copies, contradictions and rubbish, until they are in the rows."""
    sent = generator.seeded(
        seed, count, 300, datetime.now(UTC).replace(microsecond=0), name=f"backup-{seed}-"
    ).sent
    traffic.send_all(cluster.bootstrap, [(one.door, one.raw) for one in sent])
    cluster.settle()


def _before(cluster: clusters.Cluster, seed: int) -> int:
    """What stands there when the backup is made; gives how many records the door of mail has."""
    created = told.KeyCreated(hash="0" * 64, name="of the drill", scopes="ingest")
    _decide(cluster, telling.Entry("key.created", KEY, created, "a test"))
    _fill(cluster, BEFORE, seed)
    return sum(broker.ends(cluster.bootstrap, topics.EMAIL_ACTIVITY).values())


def _go_on(cluster: clusters.Cluster) -> list[str]:
    """What happens between backup and restore: a key is revoked, more events, rows that run out; gives
    whose."""
    _decide(cluster, REVOKED)
    ends = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=clusters.patience(4))
    contacts = [f"due-{number}" for number in range(DUE)]
    clicks = [(topics.EMAIL_ACTIVITY, traffic.click(one, time=_a_year_before(ends))) for one in contacts]
    traffic.send_all(cluster.bootstrap, clicks)
    _fill(cluster, AFTER, 3)
    stack.eventually(lambda: datetime.now(UTC) > ends, "they are due", 60)
    for contact in contacts:
        cluster.wait_row(contact, 0)
    stack.eventually(lambda: not cluster.sql("select 1 from heed_ops.outbox"), "the outbox is empty", 60)
    return contacts


def _a_year_before(moment: datetime) -> datetime:
    day = timedelta(days=1 if (moment.month, moment.day) == (2, 29) else 0)
    return (moment - day).replace(year=moment.year - 1)


def _fired(cluster: clusters.Cluster, contacts: list[str]) -> Counter[tuple[str, int]]:
    """How many commands tell of each of these contacts' rows."""
    commands = final.commands(cluster.bootstrap)
    return Counter((contact, due) for contact, due, _ in commands if contact in set(contacts))


def _supervise(cluster: clusters.Cluster) -> None:
    """Start again who ended in doubt, as a supervisor would, until all homes are shared."""

    def shared() -> bool:
        for name, process in list(cluster.workers.items()):
            if not process.alive:
                assert process.exit() == 3, process.last_line
                cluster.add(name)
        return cluster.shared_by(clusters.THREE) and all(map(cluster.owns_live, clusters.THREE))

    stack.eventually(shared, "three workers share all homes of the restored database", 120, 0.2)


def _check_caught_up(cluster: clusters.Cluster, contacts: list[str], fired: Counter[tuple[str, int]]) -> None:
    cluster.settle(120)
    assert cluster.check() > 300
    cluster.replay_check()
    assert not [one for one in contacts if cluster.row(one)], "a row that ran out is back"
    stack.eventually(lambda: not cluster.sql("select 1 from heed_ops.outbox"), "the outbox is empty", 60)
    again = _fired(cluster, contacts)
    assert set(fired) <= set(again), "a command is gone"
    assert {one for one, _ in fired} == set(contacts), "every row that ran out was told of before"
    assert _of_key(cluster) == ["key.created", "key.revoked"], "a revoked key is back"
    parked = cluster.sql("select topic, part, off, count(*) from heed_ops.parked group by 1, 2, 3")
    assert all(one["count"] == 1 for one in parked)


def _expire(bootstrap: str, topic: str) -> int:
    """A door forgets all it holds, as after its retention; gives how many records those are."""
    ends = broker.ends(bootstrap, topic)
    cut = [confluent_kafka.TopicPartition(topic, part, end) for part, end in ends.items()]
    admin = AdminClient({"bootstrap.servers": bootstrap})  # kept: its answers end with it
    for done in admin.delete_records(cut).values():
        done.result()
    return sum(ends.values())


def _program(name: str, *arguments: str) -> None:
    """One of PostgreSQL's own programs, as an operator runs it."""
    told = subprocess.run(
        [str(postgres.find_programs() / name), *arguments], capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stderr
