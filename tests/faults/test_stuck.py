"""A worker whose connections are dropped in silence stands still; the watchdog ends it. Servers that are away
are waited for, however long.
"""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import psycopg
import pytest

from streams import broker, watchdog
from tests import cluster as clusters
from tests import stack, traffic
from tests.faults import proxy

SECONDS = 6
SLEEPS = "select 1, 1.0 from pg_sleep(3) where 1 <> all(%s::int[])"
ASLEEP = "select 1 from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'"


def test_a_watchdog_whose_own_session_is_dropped_in_silence_looks_again(
    servers: stack.Servers, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last resort would end a worker that works."""
    standings = [watchdog.Standing("fold-0", 0)]
    with proxy.Proxy(servers.postgres.port) as between:
        dsn = database.replace(f":{servers.postgres.port}/", f":{between.port}/")
        eyes = watchdog.Eyes(broker.Broker(servers.bootstrap), dsn, "worker-1")
        assert eyes.with_work(standings, SECONDS) == {"fold-0"}
        with monkeypatch.context() as slow:
            slow.setattr(watchdog, "SESSIONS", SLEEPS)
            slow.setattr(watchdog, "ANSWER_SECONDS", 4.0)
            frozen = threading.Thread(target=_freeze_asleep, args=(database, between))
            frozen.start()
            began = time.monotonic()
            assert eyes.with_work(standings, SECONDS) == set()
            assert time.monotonic() - began >= 4.0
            frozen.join()
        assert eyes.with_work(standings, SECONDS) == {"fold-0"}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_worker_that_stands_still_ends_as_stuck_and_a_successor_goes_on(
    mortal: stack.Servers, fresh: str, launch: stack.Launcher, tmp_path: Path
) -> None:
    with proxy.Proxy(mortal.postgres.port) as between:
        dsn = fresh.replace(f":{mortal.postgres.port}/", f":{between.port}/")
        cluster = clusters.Cluster(
            launch, mortal.bootstrap, dsn, tmp_path, HEED_WATCHDOG_SECONDS=str(SECONDS)
        )
        worker = cluster.start("worker-1").workers["worker-1"]
        traffic.send_all(mortal.bootstrap, [("email-activity", traffic.click("before"))])
        cluster.wait_row("before")
        cluster.close()
        _servers_that_are_away_are_waited_for(mortal, worker)
        traffic.send_all(mortal.bootstrap, [("email-activity", traffic.click("between"))])
        cluster.wait_row("between", timeout=clusters.patience(60))
        cluster.close()

        assert between.freeze() >= 4  # intake, two lanes, the relay
        began = time.monotonic()
        traffic.send_all(mortal.bootstrap, [("email-activity", traffic.click("after"))])
        assert worker.exit(clusters.patience(60)) == 3, worker.lines[-5:]
        took = time.monotonic() - began
        assert took >= SECONDS
        last = json.loads(worker.last_line)
        assert last["why"].startswith("Stuck: "), last
        assert "intake has work and has not got on for" in last["why"]
        (stands,) = [json.loads(line) for line in worker.lines if '"stands still"' in line]
        assert any("psycopg" in place for place in stands["where"]["intake"]), stands

        cluster.add("worker-1")
        cluster.wait_row("after", timeout=clusters.patience(60))
        cluster.settle()
        cluster.check()
        cluster.close()


def _freeze_asleep(dsn: str, between: proxy.Proxy) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        stack.eventually(lambda: connection.execute(ASLEEP).fetchone() is not None, "the look is asleep")
    between.freeze()


def _servers_that_are_away_are_waited_for(mortal: stack.Servers, worker: stack.Process) -> None:
    """Each away, or suspended, for longer than the watchdog waits."""
    for server in (mortal.kafka, mortal.postgres):
        server.kill()
        time.sleep(2.5 * SECONDS)
        assert worker.alive, worker.last_line
        server.start()
        server.wait()
