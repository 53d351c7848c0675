"""Settings that change while Heed runs, the queue that a change makes, and schedules: three real workers."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.processes import free_ports
from schemas.topics import all_topics
from tests import cluster as clusters
from tests import stack, traffic

OLD = datetime.now(UTC) - timedelta(days=250)
CONTACTS = 3_000
NAME = "engagement_period_months"


@pytest.fixture(scope="module")
def cluster(
    servers: stack.Servers, module_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[clusters.Cluster]:
    """Three workers that leave the queue alone, with a schedule of every second, and contacts with facts."""
    stack.recreate_topics(servers.bootstrap, all_topics(stack.HOMES))
    home: Path = tmp_path_factory.mktemp("home")
    env = {"HEED_RECALCULATE": "manual", "HEED_SCHEDULE_REFRESH_EXPIRED": "* * * * * *"}
    with stack.Launcher() as launch:
        made = clusters.Cluster(launch, servers.bootstrap, module_database, home, **env)
        made.start(*clusters.THREE)
        told = [("email-activity", traffic.click(f"c{n}", time=OLD)) for n in range(CONTACTS)]
        traffic.send_all(servers.bootstrap, told)
        made.settle()
        yield made
        made.tell()
        made.close()


@pytest.fixture(scope="module")
def url(cluster: clusters.Cluster) -> str:
    [port] = free_ports(1)
    cluster.launch.api(cluster.bootstrap, cluster.dsn, port, **cluster.env).wait_for(
        "listening", clusters.patience(30)
    )
    return f"http://127.0.0.1:{port}"


def put(url: str, value: object, name: str = NAME) -> httpx.Response:
    return httpx.put(f"{url}/v1/settings/{name}", json={"value": value}, timeout=30)


def heed(cluster: clusters.Cluster, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = stack.clean_env(stack.servers_env(cluster.bootstrap, cluster.dsn) | cluster.env)
    command = [str(stack.HEED), *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)


def waiting(cluster: clusters.Cluster) -> int:
    return int(cluster.sql("select count(*) as n from heed_data.recalculation")[0]["n"])


def periods(cluster: clusters.Cluster) -> set[int]:
    return {row["period_months"] for row in cluster.sql("select period_months from heed_data.engagement")}


def wait_queued(cluster: clusters.Cluster) -> None:
    def filled() -> bool:
        filling = cluster.sql("select count(*) as n from heed_data.recalculation_cause where not finished")[
            0
        ]["n"]
        return not filling and waiting(cluster) == CONTACTS

    stack.eventually(filled, "everyone is queued", clusters.patience(30))


@pytest.mark.capability("CEE-7")
def test_the_first_values_come_from_the_environment_once(cluster: clusters.Cluster, url: str) -> None:
    found = httpx.get(f"{url}/v1/settings/{NAME}").json()
    assert found["value"] == 12
    assert (found["since"], found["actor"]) == ("1970-01-01T00:00:00.000Z", "environment")
    facts = cluster.sql("select subject from heed_data.registry order by 1")
    assert [one["subject"] for one in facts] == [
        f"setting:{name}" for name in ("engagement_period_months", "keep_row_without_clicks", "zone")
    ]


@pytest.mark.capability("CEE-7")
@pytest.mark.parametrize("value", [0, -1, 1.5, "1Y", "", None, 1201, True, [], {}, "١٢"])
def test_what_no_period_is(cluster: clusters.Cluster, url: str, value: object) -> None:
    before = cluster.sql("select count(*) as n from heed_data.registry")
    answer = put(url, value)
    assert answer.status_code == 400, answer.text
    assert "a whole number from 1 to 1200" in answer.json()["detail"] or value is None
    assert cluster.sql("select count(*) as n from heed_data.registry") == before
    assert put(url, "Mars/Base", "zone").status_code == 400
    assert put(url, 1, "homes").status_code == 404


@pytest.mark.capability("CEE-7", "CEE-9")
def test_a_change_queues_everyone_and_the_queue_is_worked_off_by_hand(
    cluster: clusters.Cluster, url: str
) -> None:
    answer = put(url, 6)
    assert answer.status_code == 200, answer.text
    assert (answer.json()["value"], answer.json()["actor"]) == (
        6,
        f"local:{pwd.getpwuid(os.getuid()).pw_name}",
    )
    wait_queued(cluster)
    progress = httpx.get(f"{url}/v1/settings/{NAME}").json()["progress"]
    assert progress == {"done": False, "waiting": CONTACTS, "failed": 0, "filling": False}
    assert periods(cluster) == {12}  # each row says the period it was computed with

    killed = cluster.launch.heed(
        "engagement", "run-queue", "--json",
        env=stack.servers_env(cluster.bootstrap, cluster.dsn) | cluster.env,
    )  # fmt: skip
    stack.eventually(lambda: 0 < waiting(cluster) < CONTACTS, "some are done", clusters.patience(30), 0.002)
    killed.kill()

    ran = httpx.post(f"{url}/v1/engagement/run-queue", json={"max_seconds": 60}, timeout=90).json()
    assert ran["failed"] == ran["remaining"] == 0
    assert 0 < ran["done"] < CONTACTS
    assert {one["status"] for one in ran["outcomes"]} == {"done"}
    assert waiting(cluster) == 0
    assert cluster.sql("select count(*) as n from heed_data.engagement")[0]["n"] == 0
    assert httpx.get(f"{url}/v1/settings/{NAME}").json()["progress"]["done"]
    cluster.replay_check()


@pytest.mark.capability("CEE-9")
def test_a_run_ends_within_a_second_of_its_limit(cluster: clusters.Cluster, url: str) -> None:
    assert heed(cluster, "settings", "set", NAME, "24").returncode == 0
    wait_queued(cluster)
    began = time.monotonic()
    ran = httpx.post(f"{url}/v1/engagement/run-queue", json={"max_seconds": 0}, timeout=30).json()
    assert time.monotonic() - began < clusters.patience(1)
    assert ran["remaining"] == CONTACTS
    assert httpx.post(f"{url}/v1/engagement/run-queue", json={"seconds": 1}).status_code == 400
    done = json.loads(heed(cluster, "engagement", "run-queue", "--json").stdout)
    assert (done["done"], done["remaining"]) == (CONTACTS, 0)
    assert periods(cluster) == {24}


def test_recompute_mends_what_somebody_changed(cluster: clusters.Cluster) -> None:
    cluster.sql("update heed_data.engagement set frequency = 9 where contact_id in ('c1', 'c2')")
    one = heed(cluster, "recompute", "engagement", "--contact", "c1", "--json")
    assert (one.returncode, json.loads(one.stdout)["frequency"]) == (0, 1), one.stderr
    every: dict[str, Any] = json.loads(heed(cluster, "recompute", "engagement", "--json").stdout)
    assert (every["contacts"], every["failed"]) == (CONTACTS, 0)
    assert {row["frequency"] for row in cluster.sql("select frequency from heed_data.engagement")} == {1}
    assert heed(cluster, "recompute", "engagement", "--contact", "a b").returncode == 2


@pytest.mark.capability("CEE-13")
def test_each_slot_fires_once_however_many_workers_run(cluster: clusters.Cluster, url: str) -> None:
    def fired() -> float:
        return cluster.metric("heed_scheduled_total", schedule="refresh-expired")

    def slot() -> datetime:
        [row] = cluster.sql("select slot from heed_ops.schedule where name = 'refresh-expired'")
        moment: datetime = row["slot"]
        return moment

    first, count = slot(), fired()
    while slot() == first:
        time.sleep(0.01)
    first, count = slot(), fired()
    time.sleep(4)
    slots = (slot() - first).total_seconds()
    assert 0 < fired() - count <= slots + 1
    shown = httpx.get(f"{url}/v1/schedules").json()["items"]
    assert [one["name"] for one in shown] == ["refresh-expired", "run-queue"]
    assert shown[0]["next_slot"] > shown[0]["last_slot"]
    assert shown[1]["next_slot"] is None
    told = json.loads(heed(cluster, "schedules", "--json").stdout)
    assert [one["name"] for one in told["items"]] == ["refresh-expired", "run-queue"]


def test_the_environment_only_warns_later(cluster: clusters.Cluster) -> None:
    cluster.workers["worker-3"].terminate()
    cluster.env["HEED_ENGAGEMENT_PERIOD_MONTHS"] = "5"
    try:
        for name in ("worker-1", "worker-2"):
            cluster.workers[name].terminate()
        cluster.start(*clusters.THREE)
        [owner] = [name for (topic, _), name in cluster.owners().items() if topic == "registry"]
        cluster.workers[owner].wait_for("the environment differs from the setting in force")
    finally:
        del cluster.env["HEED_ENGAGEMENT_PERIOD_MONTHS"]
    assert cluster.sql("select period_months from heed_data.rule") == [{"period_months": 24}]
