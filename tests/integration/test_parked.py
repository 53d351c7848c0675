"""Parked records and three real workers: at their time, driven again by hand, discarded, after an upgrade.

Every fact counts once, whatever is killed meanwhile (LAW-4, LAW-7). Workers here take nothing that is dated
ahead, so that "ahead of its time" is seconds.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from deploy.processes import free_ports
from projections import parked
from schemas import topics
from streams import parked_loop
from tests import bombs, stack, traffic
from tests import cluster as clusters

AHEAD = {"HEED_AHEAD_SECONDS": "0"}
KEEP = """
insert into heed_ops.parked (reason, detail, door, topic, part, off, bytes, event_time)
values (%s, 'told', 'email-activity', 'email-activity', %s, %s, %s, %s) returning id
"""
# A session that lets a parked row go stands still while a test holds the lock.
BRAKE = """
create or replace function heed_ops.brake() returns trigger language plpgsql as $$ begin
    if current_setting('application_name') like '{who}' then
        perform pg_advisory_xact_lock(4711);
    end if;
    return old;
end $$;
create or replace trigger brake before delete on heed_ops.parked
    for each row execute function heed_ops.brake()
"""
STANDING = """
select application_name from pg_stat_activity
where datname = current_database() and wait_event_type = 'Lock' and wait_event = 'advisory'
"""


@pytest.fixture(scope="module")
def cluster(
    servers: stack.Servers, module_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[clusters.Cluster]:
    stack.recreate_topics(servers.bootstrap, topics.all_topics(stack.HOMES))
    home: Path = tmp_path_factory.mktemp("home")
    with stack.Launcher() as launch:
        made = clusters.Cluster(launch, servers.bootstrap, module_database, home, **AHEAD)
        yield made.start(*clusters.THREE)
        made.tell()
        made.close()


@pytest.fixture(autouse=True)
def three(cluster: clusters.Cluster) -> Iterator[None]:
    """Each test begins with three workers, and an empty list."""
    for name in clusters.THREE:
        if name not in cluster.alive:
            cluster.add(name)
    cluster.wait_shared(*clusters.THREE)
    cluster.sql("drop trigger if exists brake on heed_ops.parked")
    cluster.sql("delete from heed_ops.parked")
    yield
    cluster.sql("drop trigger if exists brake on heed_ops.parked")


def heed(cluster: clusters.Cluster, *arguments: str, **env: str) -> tuple[int, Any]:
    """A command with --json, as an operator runs it: its exit code and its answer."""
    ran = run(cluster, *arguments, **env)
    out, _ = ran.communicate(timeout=120)
    return ran.returncode, json.loads(out) if out else None


def run(cluster: clusters.Cluster, *arguments: str, **env: str) -> subprocess.Popen[bytes]:
    whole = stack.clean_env(stack.servers_env(cluster.bootstrap, cluster.dsn) | cluster.env | env)
    return subprocess.Popen(
        [stack.HEED, *arguments, "--json"], env=whole, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def contacts(number: int) -> list[str]:
    return [f"p-{uuid.uuid4().hex[:10]}" for _ in range(number)]


def keep(cluster: clusters.Cluster, who: Sequence[str], reason: str = "undefined_event") -> list[int]:
    """Clicks of these contacts, parked as if at a door; gives their ids."""
    with psycopg.connect(cluster.dsn, autocommit=True) as connection:
        (first,) = connection.execute("select coalesce(max(off), 10^9) from heed_ops.parked").fetchone() or (
            0,
        )
        found = []
        for number, one in enumerate(who, 1):
            values = (reason, number % stack.HOMES, int(first) + number, traffic.click(one), None)
            (id_,) = connection.execute(KEEP, values).fetchone() or (0,)
            found.append(id_)
        return found


def facts_of(cluster: clusters.Cluster, who: Sequence[str]) -> int:
    found = cluster.sql(
        "select count(*) as n from heed_data.fact where subject = any(%s)",
        [f"contact:{one}" for one in who],
    )
    return int(found[0]["n"])


@pytest.mark.capability("LAW-7", "LAW-4")
def test_what_is_ahead_is_driven_again_at_its_own_time_by_itself(cluster: clusters.Cluster) -> None:
    who = contacts(40)
    before = cluster.metric("heed_timer_lateness_seconds_count", kind="parked.future")
    now = datetime.now(UTC)
    ahead = [now + timedelta(seconds=3 + index / 20) for index in range(len(who))]
    told = [
        (topics.EMAIL_ACTIVITY, traffic.click(one, time=time)) for one, time in zip(who, ahead, strict=True)
    ]
    traffic.send_all(cluster.bootstrap, told)
    cluster.settle()
    waiting = cluster.parked(topics.EMAIL_ACTIVITY)
    assert {row["reason"] for row in waiting} == {"future"}
    assert len(waiting) == len(who)
    for one in who:
        cluster.wait_row(one)
    lateness = [
        row["late"].total_seconds()
        for row in cluster.sql(
            "select accepted - time as late from heed_data.fact where subject = any(%s)",
            [f"contact:{one}" for one in who],
        )
    ]
    assert len(lateness) == len(who), "each once"
    assert min(lateness) >= 0, "driven again before its own time"
    assert max(lateness) < clusters.patience(1.0)
    assert cluster.parked() == []
    counted = cluster.metric("heed_timer_lateness_seconds_count", kind="parked.future") - before
    assert counted == len(who)
    cluster.check()


@pytest.mark.capability("LAW-4", "LAW-7")
def test_killed_between_the_log_and_the_list_nothing_is_lost_or_doubled(cluster: clusters.Cluster) -> None:
    """The worker that drives a record again is killed when its fact stands on the log and its row still."""
    who = contacts(24)
    cluster.sql(BRAKE.format(who="worker-1 parked"))
    with psycopg.connect(cluster.dsn, autocommit=True) as holder:
        holder.execute("select pg_advisory_lock(4711)")
        due = datetime.now(UTC) + timedelta(seconds=2)
        traffic.send_all(
            cluster.bootstrap, [(topics.EMAIL_ACTIVITY, traffic.click(one, time=due)) for one in who]
        )
        stack.eventually(lambda: bool(cluster.sql(STANDING)), "worker-1 stands still", clusters.patience(30))
        assert {row["application_name"] for row in cluster.sql(STANDING)} == {"worker-1 parked"}
        cluster.workers["worker-1"].kill()
    cluster.add("worker-1")
    for one in who:
        cluster.wait_row(one, timeout=clusters.patience(60))
    stack.eventually(lambda: not cluster.parked(), "the list is empty", clusters.patience(30))
    cluster.wait_shared(*clusters.THREE)
    cluster.settle()
    assert facts_of(cluster, who) == len(who)
    cluster.check()


@pytest.mark.capability("LAW-7")
def test_driven_again_by_two_at_the_same_time(cluster: clusters.Cluster) -> None:
    who = contacts(1500)
    keep(cluster, who)
    pair = [run(cluster, "parked", "redrive", "--reason", "undefined_event") for _ in range(2)]
    told = [json.loads(one.communicate(timeout=120)[0]) for one in pair]
    assert cluster.parked() == []
    assert sum(one["driven"] for one in told) == len(who), "each by one of them"
    stack.eventually(lambda: facts_of(cluster, who) == len(who), "all are folded", clusters.patience(60))
    cluster.settle()
    code, again = heed(cluster, "parked", "redrive", "--reason", "undefined_event")
    assert (code, again) == (0, {"driven": 0, "parked": 0, "gone": 0, "next": None, "outcomes": []})
    code, shown = heed(cluster, "parked", "overview")
    assert (code, shown["total"]) == (0, 0)


@pytest.mark.capability("LAW-4", "LAW-7")
def test_a_discard_is_recorded_and_a_crash_in_between_is_harmless(cluster: clusters.Cluster) -> None:
    """Killed when the fact stands in the registry and the row still: done again, it is one fact."""
    (id_, other) = keep(cluster, contacts(2))
    row = next(one for one in cluster.parked() if one["id"] == id_)
    subject = f"parked:email-activity/{row['part']}@{row['off']}"
    said = "select actor, data from heed_data.registry where subject = %s and type = 'parked.discarded'"
    cluster.sql(BRAKE.format(who="heed parked"))
    with psycopg.connect(cluster.dsn, autocommit=True) as holder:
        holder.execute("select pg_advisory_lock(4711)")
        killed = run(cluster, "parked", "discard", str(id_))
        stack.eventually(lambda: bool(cluster.sql(STANDING)), "it stands still", clusters.patience(30))
        stack.eventually(lambda: bool(cluster.sql(said, subject)), "it is recorded", clusters.patience(30))
        killed.kill()
        killed.communicate()
    cluster.sql("drop trigger brake on heed_ops.parked")
    stack.eventually(lambda: not cluster.sql(STANDING), "its session ends", clusters.patience(30))
    assert {one["id"] for one in cluster.parked()} >= {other}
    code, told = heed(cluster, "parked", "discard", "--reason", "undefined_event")
    assert (code, told["parked"]) == (0, 0)
    assert cluster.parked() == []
    cluster.settle(doors_too=False)
    stack.eventually(
        lambda: len(cluster.sql("select 1 from heed_data.registry where type = 'parked.discarded'")) == 2,
        "both are recorded, once each",
        clusters.patience(30),
    )
    (fact,) = cluster.sql(said, subject)
    assert fact["actor"].startswith("cli:")
    assert fact["data"] == {
        "offset": row["off"], "part": row["part"], "reason": "undefined_event", "topic": "email-activity",
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.capability("LAW-7")
def test_what_an_older_worker_could_not_read_is_folded_by_a_newer_one(cluster: clusters.Cluster) -> None:
    """Three older workers set aside what came by a door and on the log; after the upgrade it is in the rows,
    beside the rest, with nobody asking.
    """
    for name in clusters.THREE:
        cluster.workers[name].terminate()
        cluster.ports[name] = free_ports(1)[0]
        own = {"HEED_WORKER_NAME": name, "HEED_METRICS_PORT": str(cluster.ports[name])}
        env = stack.servers_env(cluster.bootstrap, cluster.dsn) | cluster.env | own
        command: list[str | Path] = [sys.executable, "-m", "tests.older", "mail.clicked"]
        cluster.workers[name] = cluster.launch.run(command, env=env, name=name)
    cluster.wait_shared(*clusters.THREE)
    doors, logged = contacts(30), contacts(30)
    traffic.send_all(cluster.bootstrap, [(topics.EMAIL_ACTIVITY, traffic.click(one)) for one in doors])
    producer = traffic.plain_producer(cluster.bootstrap)
    for one in logged:
        traffic.send(
            producer, topics.FACTS, traffic.as_on(topics.FACTS, one),
            partition=topics.home(f"contact:{one}", stack.HOMES), key=f"contact:{one}",
        )  # fmt: skip
    assert producer.flush(30) == 0
    cluster.settle()
    aside = [(row["topic"], row["reason"], row["type"]) for row in cluster.parked()]
    assert sorted(aside) == sorted(
        [(topics.EMAIL_ACTIVITY, "unknown_type", "mail.clicked")] * 30
        + [(topics.FACTS, "unknown_type", "mail.clicked")] * 30
    )
    code, told = heed(cluster, "parked", "redrive", "--topic", "facts")
    assert (code, told["parked"]) == (1, 30), "an older owner cannot read them either"
    for name in clusters.THREE:  # one after another, beside each other
        cluster.workers[name].terminate()
        cluster.add(name)
        cluster.wait_shared(*clusters.THREE)
    for one in (*doors, *logged):
        cluster.wait_row(one, timeout=clusters.patience(30))
    stack.eventually(lambda: not cluster.parked(), "the list is empty", clusters.patience(30))
    cluster.settle()
    assert facts_of(cluster, [*doors, *logged]) == 60
    cluster.check()
    cluster.replay_check()


@pytest.mark.capability("LAW-7")
def test_a_record_of_the_log_is_folded_again_by_its_owner_when_asked(cluster: clusters.Cluster) -> None:
    """Set aside as unstorable by a database that would not keep it; mended, it is asked for and folded."""
    (who,) = contacts(1)
    home = topics.home(f"contact:{who}", stack.HOMES)
    cluster.sql(
        f"alter table heed_data.fact add constraint picky check (subject <> 'contact:{who}') not valid"
    )
    producer = traffic.plain_producer(cluster.bootstrap)
    traffic.send(producer, topics.FACTS, traffic.as_on(topics.FACTS, who), partition=home, key=who)
    assert producer.flush(30) == 0
    stack.eventually(lambda: len(cluster.parked()) == 1, "it is set aside", clusters.patience(30))
    code, told = heed(cluster, "parked", "redrive", "--topic", "facts")
    assert (code, told["driven"], told["parked"]) == (1, 0, 1), "it cannot be kept yet"
    assert told["outcomes"][0]["reason"] == "unstorable"
    cluster.sql("alter table heed_data.fact drop constraint picky")
    code, told = heed(cluster, "parked", "redrive", "--topic", "facts")
    assert (code, told["driven"]) == (0, 1), told
    cluster.wait_row(who)
    assert cluster.parked() == []
    assert facts_of(cluster, [who]) == 1


@pytest.mark.capability("LAW-6", "LAW-7")
def test_what_was_kept_long_enough_expires(cluster: clusters.Cluster) -> None:
    """But never what waits for its time, nor what stands on the log."""
    ids = keep(cluster, contacts(6))
    old, young, waits, on_log, asked, elsewhere = ids
    cluster.sql("update heed_ops.parked set parked_at = now() - interval '31 days' where id <> %s", young)
    cluster.sql("update heed_ops.parked set part = 1")
    far = datetime.now(UTC) + timedelta(days=40)
    cluster.sql("update heed_ops.parked set reason = 'future', event_time = %s where id = %s", far, waits)
    cluster.sql("update heed_ops.parked set topic = 'facts', door = null where id = %s", on_log)
    cluster.sql("update heed_ops.parked set asked = true where id = %s", asked)
    cluster.sql("update heed_ops.parked set part = 2 where id = %s", elsewhere)
    with psycopg.connect(cluster.dsn, autocommit=True, options="-c search_path=heed_ops") as connection:
        places = {(topic, 1) for topic in parked_loop.EXPIRES}
        assert parked.expire(connection, places, 32) == []
        assert parked.expire(connection, places, 30) == ["undefined_event"]
        assert parked.expire(connection, places, 30) == []
    left = {row["id"] for row in cluster.parked()}
    assert left == {young, waits, on_log, asked, elsewhere} - {old}


@pytest.mark.capability("LAW-7")
def test_an_outcome_for_each_by_todays_rules(cluster: clusters.Cluster) -> None:
    """The last one: no plain client reads past the batch that it leaves at the door."""
    (ada, eve) = contacts(2)
    later = datetime.now(UTC) + timedelta(seconds=250)
    sent = [traffic.click(ada, time=later), traffic.click(eve, time=later + timedelta(days=1)), b"{}"]
    traffic.send_all(cluster.bootstrap, [(topics.EMAIL_ACTIVITY, raw) for raw in sent])
    asyncio.run(bombs.send(cluster.bootstrap, topics.EMAIL_ACTIVITY, 5, bombs.gzip_bomb(10)))
    cluster.settle()
    ids = {row["reason"]: row["id"] for row in cluster.parked()}
    assert set(ids) == {"future", "invalid", "undecodable"}
    code, told = heed(cluster, "parked", "redrive", "--all", HEED_AHEAD_SECONDS="300")
    assert (code, told["driven"], told["parked"], told["gone"]) == (1, 1, 3, 0)
    stays = {one["reason"]: one for one in told["outcomes"] if one["status"] == "parked"}
    assert set(stays) == {"future", "invalid", "undecodable"}
    assert "Send its events again, with the same ids" in stays["undecodable"]["detail"]
    cluster.wait_row(ada)
    assert cluster.row(eve) is None
    code, shown = heed(cluster, "parked", "show", str(stays["undecodable"]["id"]))
    assert (code, shown["batch"], shown["text"]) == (0, True, None)
    assert heed(cluster, "parked", "show", "999999999")[0] == 2
