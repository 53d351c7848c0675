"""A server that is away for over a minute does not flood the logs, of whichever library they are."""

from __future__ import annotations

import json
import time

import pytest

from deploy.processes import free_ports
from tests import cluster as clusters
from tests import stack

SECONDS = 70
MOST = 60  # lines of a process in that time; a retry each 100 ms would be 700 of one library


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("away", ["kafka", "postgres"])
def test_a_server_that_is_away_is_told_in_few_lines(
    away: str, cluster: clusters.Cluster, mortal: stack.Servers, fresh: str, launch: stack.Launcher
) -> None:
    (port,) = free_ports(1)
    api = launch.api(mortal.bootstrap, fresh, port, HEED_HOME=str(cluster.home))
    api.wait_for("listening", clusters.patience(30))
    processes = [*cluster.workers.values(), api]
    before = [len(process.lines) for process in processes]
    server = mortal.kafka if away == "kafka" else mortal.postgres
    server.kill()
    time.sleep(SECONDS)
    said = [process.lines[known:] for process, known in zip(processes, before, strict=True)]
    cluster.assert_alive()
    for process, lines in zip(processes, said, strict=True):
        assert len(lines) <= MOST, (process.name, len(lines), lines[:20])
        assert all(json.loads(line) for line in lines), "every line is JSON"
    assert any(away in line.lower() or "server" in line for lines in said for line in lines)
    server.start()
    server.wait()
