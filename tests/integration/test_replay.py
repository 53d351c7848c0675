"""`heed replay` beside real workers and a dashboard that polls: swapped in, back, resumed, cancelled."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import psutil
import psycopg
import pytest

from schemas import topics
from tests import cluster as clusters
from tests import stack, traffic
from tests.integration import test_cli
from tests.laws import generator

heed = test_cli.heed
# Both views in one statement: rows of one version, and positions of the same.
POLLED = """
select (select count(*) from heed_read.contact_engagement),
    (select count(*) from heed_read.freshness where projection = 'engagement')
"""


def pairs(cluster: clusters.Cluster) -> set[str]:
    found = cluster.sql("select nspname from pg_namespace where nspname like 'heed\\_%%'")
    return {row["nspname"] for row in found} - {"heed_data", "heed_read", "heed_ops"}


class Dashboard:
    """Polls all the time, in autocommit; what it saw, how long it waited, and what went wrong."""

    def __init__(self, dsn: str) -> None:
        self.seen: list[tuple[int, int]] = []
        self.longest = 0.0
        self.errors: list[BaseException] = []
        self._dsn = dsn.replace("//heed@", "//heed_dashboard@")
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Dashboard:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            with psycopg.connect(self._dsn, autocommit=True) as connection:
                while not self._stopping.is_set():
                    began = time.monotonic()
                    self.seen += connection.execute(POLLED).fetchall()
                    self.longest = max(self.longest, time.monotonic() - began)
                    self._stopping.wait(0.02)
        except psycopg.Error as error:
            self.errors.append(error)


@contextmanager
def load(cluster: clusters.Cluster, seed: int, count: int, rate: float) -> Iterator[traffic.Traffic]:
    sent = generator.seeded(seed, count, contacts=400, now=datetime.now(UTC), name=f"replay-{seed}-").sent
    with traffic.Traffic(cluster.bootstrap, sent, rate=rate) as told:
        yield told
        told.finish()


def parked(cluster: clusters.Cluster) -> list[tuple[object, ...]]:
    return [tuple(row.values()) for row in cluster.sql("select * from heed_ops.parked order by id")]


@pytest.mark.capability("LAW-2")
def test_a_replay_is_swapped_in_beside_traffic_and_a_dashboard(cluster: clusters.Cluster) -> None:
    """And back, and there again: nobody sees an error, no worker ends, every row is right."""
    test_cli.tell_history(cluster, 23, 3000)
    before = cluster.sql("select 'heed_data.fact'::regclass::oid as oid")
    aside = parked(cluster)
    assert aside
    with Dashboard(cluster.dsn) as shown:
        with load(cluster, 29, 2500, rate=250):
            done = heed(cluster, "replay", "--json")
            assert done.returncode == 0, done.stdout + done.stderr
        cluster.settle()
        assert parked(cluster)[: len(aside)] == aside
        assert pairs(cluster) == {"heed_data_old", "heed_read_old"}
        assert cluster.sql("select 'heed_data.fact'::regclass::oid as oid") != before
        cluster.replay_check()
        again = heed(cluster, "replay")
        assert (again.returncode, again.stdout) == (2, "")
        assert "The old tables are still there" in again.stderr
        with load(cluster, 31, 500, rate=250):
            back = heed(cluster, "replay", "--back", "--json")
            assert back.returncode == 0, back.stdout + back.stderr
        assert json.loads(back.stdout)["records"] > 0, "what came since the swap"
        cluster.settle()
        assert cluster.sql("select 'heed_data.fact'::regclass::oid as oid") == before
        cluster.replay_check()
        dropped = heed(cluster, "replay", "--drop-old")
        assert dropped.returncode == 0, dropped.stderr
    told = json.loads(done.stdout)
    print("paused", told["pause_seconds"], "back", json.loads(back.stdout)["pause_seconds"], shown.longest)
    assert told["facts"] > 1000 and told["pause_seconds"] < clusters.patience(5)
    assert pairs(cluster) == set()
    assert not shown.errors
    assert len(shown.seen) > 50
    assert {partitions for _, partitions in shown.seen} == {2 * stack.HOMES}
    assert min(rows for rows, _ in shown.seen) >= shown.seen[0][0] * 0.9, "never half a table"
    assert shown.longest < clusters.patience(3)
    cluster.assert_alive()
    assert cluster.check() > 40


def start(cluster: clusters.Cluster, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [stack.HEED, "replay", *arguments],
        env=test_cli._env(cluster),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def test_a_stopped_replay_is_gone_on_with_and_a_cancelled_one_leaves_nothing(
    cluster: clusters.Cluster,
) -> None:
    test_cli.tell_history(cluster, 37, 1000)
    held = psycopg.connect(cluster.dsn)
    held.execute("lock table heed_data.position in share mode")  # no swap, and no fold, meanwhile
    running = start(cluster)
    try:
        stack.eventually(lambda: _phase(cluster) == "follow", "it waits to be swapped in", 60)
        second = heed(cluster, "replay")
        assert second.returncode == 2 and "Another replay is running" in second.stderr
        running.send_signal(signal.SIGTERM)
        said, _ = running.communicate(timeout=clusters.patience(30))
        assert running.returncode == 2 and b"goes on with it" in said, said.decode()
        assert pairs(cluster) == {"heed_data_next", "heed_read_next"}
        running = start(cluster)
        stack.eventually(lambda: _waits(cluster), "it is there again", 60)
        running.send_signal(signal.SIGINT)
        said, _ = running.communicate(timeout=clusters.patience(30))
        assert running.returncode == 2 and b"nothing of it is left" in said, said.decode()
        assert pairs(cluster) == set()
        running = start(cluster)
        stack.eventually(lambda: _phase(cluster) == "follow", "it waits to be swapped in", 60)
        cancelled = heed(cluster, "replay", "--cancel")
        assert cancelled.returncode == 0, cancelled.stderr
        running.communicate(timeout=clusters.patience(30))
        assert running.returncode == 69
        assert pairs(cluster) == set()
    finally:
        running.kill()
        running.wait()
        held.close()
    cluster.settle()


@pytest.mark.slow
def test_a_return_that_is_ended_early_leaves_both_pairs_and_is_gone_on_with(
    cluster: clusters.Cluster,
) -> None:
    """Refused while Kafka is away; asked to stop, and killed, while it waits for the swap; then done."""
    test_cli.tell_history(cluster, 47, 300)
    before = cluster.sql("select 'heed_data.fact'::regclass::oid as oid")
    assert heed(cluster, "replay").returncode == 0
    live = cluster.sql("select 'heed_data.fact'::regclass::oid as oid")
    test_cli.tell_history(cluster, 53, 300)
    away = heed(cluster, "replay", "--back", HEED_KAFKA="127.0.0.1:1")
    assert away.returncode == 69 and "Kafka cannot be reached" in away.stderr, away.stderr
    held = psycopg.connect(cluster.dsn)
    held.execute("lock table heed_data.position in share mode")  # no swap, and no fold, meanwhile
    running = start(cluster, "--back")
    try:
        stack.eventually(lambda: _waits(cluster), "it waits to be swapped in", 60)
        second = heed(cluster, "replay", "--back")
        assert second.returncode == 2 and "Another replay is running" in second.stderr
        running.send_signal(signal.SIGTERM)
        said, _ = running.communicate(timeout=clusters.patience(30))
        assert running.returncode == 2 and b"--back` goes on with it" in said, said.decode()
        running = start(cluster, "--back")
        stack.eventually(lambda: _waits(cluster), "it is there again", 60)
    finally:
        running.kill()
        running.communicate()
        held.close()
    assert cluster.sql("select 'heed_data.fact'::regclass::oid as oid") == live
    assert pairs(cluster) == {"heed_data_old", "heed_read_old"}
    stack.eventually(lambda: not _waits(cluster), "the server has noticed", 60)
    make_up(cluster, 1)
    fewer = heed(cluster, "replay", "--back")
    cluster.sql("delete from heed_data.fact where source = 's'")
    assert fewer.returncode == 3, fewer.stderr
    assert "the old table `fact` holds" in fewer.stderr and "Nothing was swapped" in fewer.stderr
    done = heed(cluster, "replay", "--back", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["records"] == 0, "they were read before"
    assert cluster.sql("select 'heed_data.fact'::regclass::oid as oid") == before
    cluster.replay_check()
    assert heed(cluster, "replay", "--drop-old").returncode == 0


@pytest.mark.slow
@pytest.mark.capability("LAW-4")
def test_processes_that_load_are_killed_or_lose_their_maker(cluster: clusters.Cluster) -> None:
    """One of the crew is killed: the replay says so and goes on later; its maker is killed: they end too."""
    test_cli.tell_history(cluster, 43, 300)
    running, crew = _with_its_crew_held(cluster)
    try:
        crew[-1].kill()
        said, _ = running.communicate(timeout=clusters.patience(30))
        assert running.returncode == 69 and b"a process of the replay was killed" in said, said.decode()
        assert not any(one.is_running() for one in crew)
        running, crew = _with_its_crew_held(cluster)
        running.kill()
        running.wait()
        for one in crew:
            one.resume()
        running.communicate()  # what they print to is closed with them
        _, alive = psutil.wait_procs(crew, clusters.patience(30))
        assert not alive, "it outlived its maker"
    finally:
        for one in crew:
            if one.is_running():
                one.kill()
    done = heed(cluster, "replay", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["resumed"]
    cluster.replay_check()
    assert heed(cluster, "replay", "--drop-old").returncode == 0


def _with_its_crew_held(cluster: clusters.Cluster) -> tuple[subprocess.Popen[bytes], list[psutil.Process]]:
    """A replay in its first phase, with the processes that load stopped before they do."""
    running = start(cluster)
    process = psutil.Process(running.pid)
    stack.eventually(lambda: bool(process.children()), "it has a crew", clusters.patience(30), 0.002)
    for one in process.children():
        one.suspend()
    stack.eventually(lambda: _phase(cluster) == "facts", "it loads", clusters.patience(60))
    for one in process.children():  # the last of them may have come meanwhile
        one.suspend()
    assert _phase(cluster) == "facts"
    return running, process.children()


def _phase(cluster: clusters.Cluster) -> str | None:
    if not cluster.sql("select to_regclass('heed_data_next.replay') as there")[0]["there"]:
        return None
    found = cluster.sql("select phase from heed_data_next.replay")
    return found[0]["phase"] if found else None


def _waits(cluster: clusters.Cluster) -> bool:
    asked = "select 1 as one from pg_stat_activity where application_name = 'heed replay swap' "
    return bool(cluster.sql(asked + "and wait_event_type = 'Lock'"))


def make_up(cluster: clusters.Cluster, count: int) -> None:
    """So many facts in the live tables that no log has, of the source `s`."""
    cluster.sql(
        "insert into heed_data.fact select 'contact:made-up', gen_random_uuid(), 's', i::text, 'mail.sent', "
        "now(), 1, gen_random_uuid(), now(), false, 0, -1, null, null, '{}' from generate_series(1, %s) i",
        count,
    )


def test_what_cannot_come_to_a_good_end_is_refused_with_the_figure(cluster: clusters.Cluster) -> None:
    test_cli.tell_history(cluster, 41, 300)
    small = heed(cluster, "replay", HEED_REPLAY_FREE_GB="0")
    assert small.returncode == 2
    assert "The replay needs 0." in small.stderr and "0.0 GB are free" in small.stderr
    [position] = cluster.sql(
        "select sum(next_offset)::int as n from heed_data.position where topic = %s and reader = 'fold'",
        topics.FACTS,
    )
    make_up(cluster, position["n"] + 7)
    try:
        fewer = heed(cluster, "replay")
        assert fewer.returncode == 3
        assert "of them are not in the log. Nothing was swapped" in fewer.stderr
        cluster.sql("delete from heed_data.fact where source = 's' and id::int > 5")
        later = heed(cluster, "replay")  # the log has enough records, but not these facts
        assert later.returncode == 3, later.stderr
        assert "5 of them are not in the log. Nothing was swapped" in later.stderr
        cluster.sql("delete from heed_data.fact where source = 's'")
        cluster.sql(
            "insert into heed_data.registry (subject, key, source, id, type, time, version, digest, "
            "accepted, off, data) select 'key:made-up', gen_random_uuid(), 's', 'r', 'key.revoked', now(), "
            "1, gen_random_uuid(), now(), 99, '{}'"
        )
        revived = heed(cluster, "replay")  # the key would be taken again
        assert revived.returncode == 3, revived.stderr
        assert "1 of them are not in the log. Nothing was swapped. Restore `registry`" in revived.stderr
    finally:
        cluster.sql("delete from heed_data.registry where source = 's'")
        cluster.sql("delete from heed_data.fact where source = 's'")
        heed(cluster, "replay", "--cancel")
    nothing = heed(cluster, "replay", "--back")
    assert nothing.returncode == 2 and "There are no old tables to return to." in nothing.stderr
