"""A worker whose connections are dropped in silence stands still; the watchdog ends it. Servers that are away
are waited for, however long.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests import cluster as clusters
from tests import stack, traffic
from tests.faults import proxy

SECONDS = 6


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


def _servers_that_are_away_are_waited_for(mortal: stack.Servers, worker: stack.Process) -> None:
    """Each away, or suspended, for longer than the watchdog waits."""
    for server in (mortal.kafka, mortal.postgres):
        server.kill()
        time.sleep(2.5 * SECONDS)
        assert worker.alive, worker.last_line
        server.start()
        server.wait()
