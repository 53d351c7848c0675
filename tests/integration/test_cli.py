"""The command line beside real workers: replay --check, parked, engagement, settings, and its exit codes."""

from __future__ import annotations

import json
import signal
import subprocess
import uuid
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from schemas import topics
from tests import cluster as clusters
from tests import stack, traffic
from tests.laws import generator


def heed(cluster: clusters.Cluster, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, as an operator would."""
    return subprocess.run(
        [stack.HEED, *arguments],
        env=_env(cluster, **env),
        capture_output=True,
        text=True,
        timeout=clusters.patience(120),
        check=False,
    )


def _env(cluster: clusters.Cluster, **env: str) -> dict[str, str]:
    given = stack.servers_env(cluster.bootstrap, cluster.dsn) | cluster.env | {"COLUMNS": "200"} | env
    return stack.clean_env(given)


def shadows(cluster: clusters.Cluster) -> list[str]:
    found = cluster.sql("select nspname from pg_namespace where nspname like '%shadow%'")
    return [row["nspname"] for row in found]


def tell_history(cluster: clusters.Cluster, seed: int, count: int) -> None:
    """Some hundred events with duplicates, conflicts, deletions and rubbish, folded to the end."""
    sent = generator.seeded(seed, count, now=datetime.now(UTC), name=f"cli-{seed}-").sent
    with traffic.Traffic(cluster.bootstrap, sent, rate=1e9) as told:
        told.finish()
    cluster.settle()


@pytest.mark.capability("LAW-2")
def test_a_replay_equals_live_and_names_exactly_what_was_broken(cluster: clusters.Cluster) -> None:
    tell_history(cluster, 7, 3000)
    clean = heed(cluster, "replay", "--check")
    assert clean.returncode == 0, clean.stdout + clean.stderr
    assert "0 of " in clean.stdout
    assert " rows differ" in clean.stdout

    at_rest = cluster.sql(
        "select contact_id from heed_data.engagement where valid_until > now() + interval '1 day' "
        "order by contact_id limit 3"
    )
    changed, gone, copied = (row["contact_id"] for row in at_rest)
    added = f"added-{uuid.uuid4().hex[:6]}"
    with psycopg.connect(cluster.dsn, autocommit=True) as sql:
        sql.execute("update heed_data.engagement set volume = volume + 1 where contact_id = %s", (changed,))
        sql.execute("delete from heed_data.engagement where contact_id = %s", (gone,))
        sql.execute(
            "insert into heed_data.engagement select %s, home, date_first_click, date_last_click, frequency, "
            "volume, volume_last_30, period_months, valid_until from heed_data.engagement "
            "where contact_id = %s",
            (added, copied),
        )
    broken = heed(cluster, "replay", "--check", "--json")
    assert broken.returncode == 1, broken.stderr
    found = json.loads(broken.stdout)
    assert {one["name"] for one in found["differences"]} == {changed, gone, added}
    assert found["differing"] == 3
    (named,) = [one for one in found["differences"] if one["name"] == changed]
    assert set(named["columns"]) == {"volume"}
    assert shadows(cluster) == []
    # Nudges let the owners mend what the test broke, so that the next test finds true rows.
    with psycopg.connect(cluster.dsn, autocommit=True) as sql:
        for contact in (changed, gone, added):
            sql.execute(
                "insert into heed_data.nudge (home, subject, reason) values (%s, %s, 'test')",
                (topics.home(f"contact:{contact}", stack.HOMES), f"contact:{contact}"),
            )
    cluster.settle()
    assert heed(cluster, "replay", "--check").returncode == 0


@pytest.mark.slow
@pytest.mark.capability("LAW-2")
def test_a_replay_runs_beside_traffic(cluster: clusters.Cluster) -> None:
    sent = generator.seeded(11, 3000, now=datetime.now(UTC), name="beside-").sent
    with traffic.Traffic(cluster.bootstrap, sent, rate=300) as told:
        for _ in range(2):
            found = heed(cluster, "replay", "--check")
            assert found.returncode == 0, found.stdout + found.stderr
        told.finish()
    cluster.settle()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_replay_leaves_nothing_behind(
    cluster: clusters.Cluster, number: signal.Signals
) -> None:
    tell_history(cluster, 13, 2000)
    running = subprocess.Popen(
        [stack.HEED, "replay", "--check"],
        env=_env(cluster),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        stack.eventually(lambda: bool(shadows(cluster)), "the shadow is being built", clusters.patience(30))
        running.send_signal(number)
        said, _ = running.communicate(timeout=clusters.patience(30))
    finally:
        running.kill()
        running.wait()
    assert shadows(cluster) == [], said.decode()
    assert running.returncode in (0, 2), said.decode()


def test_a_replay_that_was_killed_is_cleared_up_by_the_next(cluster: clusters.Cluster) -> None:
    tell_history(cluster, 17, 1000)
    running = subprocess.Popen(
        [stack.HEED, "replay", "--check"],
        env=_env(cluster),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        stack.eventually(lambda: bool(shadows(cluster)), "the shadow is being built", clusters.patience(30))
    finally:
        running.kill()
        running.wait()
    again = heed(cluster, "replay", "--check")
    assert again.returncode == 0, again.stdout + again.stderr
    assert shadows(cluster) == []


@pytest.mark.capability("LAW-7")
def test_what_is_parked_is_listed_and_a_future_event_is_driven_again_at_its_time(
    cluster: clusters.Cluster,
) -> None:
    contact = f"ahead-{uuid.uuid4().hex[:6]}"
    ahead = datetime.now(UTC) + timedelta(seconds=308)
    traffic.send_all(cluster.bootstrap, [(topics.EMAIL_ACTIVITY, traffic.click(contact, time=ahead))])
    cluster.settle()
    assert cluster.row(contact) is None
    listed = heed(cluster, "parked", "list", "--reason", "future", "--json")
    assert listed.returncode == 0, listed.stderr
    (newest, *_) = json.loads(listed.stdout)["items"]
    assert (newest["reason"], newest["door"], newest["type"]) == (
        "future",
        topics.EMAIL_ACTIVITY,
        "mail.clicked",
    )
    assert "bytes" not in newest
    assert heed(cluster, "parked", "list").returncode == 0

    def driven() -> bool:
        told = heed(cluster, "parked", "redrive", "--reason", "future", "--json")
        counts = json.loads(told.stdout)
        assert told.returncode == (1 if counts["parked"] else 0), told.stderr
        return bool(counts["driven"])

    stack.eventually(driven, "the event's time has come near enough", clusters.patience(30), pause=1.0)
    cluster.wait_row(contact)
    still = json.loads(heed(cluster, "parked", "list", "--reason", "future", "--json").stdout)["items"]
    assert newest["id"] not in {one["id"] for one in still}


def test_engagement_is_shown_calculated_and_refreshed(cluster: clusters.Cluster) -> None:
    contact = f"shown-{uuid.uuid4().hex[:6]}"
    traffic.send_all(cluster.bootstrap, [(topics.EMAIL_ACTIVITY, traffic.click(contact))])
    cluster.wait_row(contact)
    shown = json.loads(heed(cluster, "engagement", "show", contact, "--json").stdout)
    assert (shown["contact_id"], shown["frequency"], shown["recency"]) == (contact, 1, 0)
    calculated = heed(cluster, "engagement", "calculate", contact, "--json")
    assert (calculated.returncode, json.loads(calculated.stdout)["differs"]) == (0, False)
    refreshed = heed(cluster, "engagement", "refresh-expired", "--json")
    assert json.loads(refreshed.stdout) == {"refreshed": 0}
    refused = heed(cluster, "engagement", "show", "not an id")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "A contact id has 1 to 64" in refused.stderr


def test_settings_are_shown_without_passwords(cluster: clusters.Cluster) -> None:
    dsn = "postgresql://heed:secret@127.0.0.1:1/heed"
    shown = json.loads(heed(cluster, "settings", "show", "--json", HEED_POSTGRES=dsn).stdout)
    assert shown["HEED_POSTGRES"] == "postgresql://heed:***@127.0.0.1:1/heed"
    assert shown["HEED_ENGAGEMENT_PERIOD_MONTHS"] == "12"


def test_servers_that_are_away_exit_69_and_wrong_settings_2(cluster: clusters.Cluster) -> None:
    away = heed(cluster, "parked", "list", HEED_POSTGRES="postgresql://heed@127.0.0.1:1/heed")
    assert away.returncode == 69
    assert away.stderr.startswith("heed: PostgreSQL does not answer"), away.stderr
    no_kafka = heed(cluster, "topics", "check", HEED_KAFKA="127.0.0.1:1")
    assert no_kafka.returncode == 69
    wrong = heed(cluster, "settings", "show", HEED_ENGAGEMENT_PERIOD_MONTHS="1Y")
    assert wrong.returncode == 2
    assert "HEED_ENGAGEMENT_PERIOD_MONTHS takes a whole number from 1 to 1200." in wrong.stderr


def test_nothing_is_given_up_where_nothing_was_lost(cluster: clusters.Cluster) -> None:
    told = heed(cluster, "topics", "accept-loss", topics.EMAIL_ACTIVITY, "--json")
    assert (told.returncode, json.loads(told.stdout)) == (0, {"lost": {}})
    assert heed(cluster, "topics", "accept-loss", "other").returncode == 2


def test_a_worker_that_still_waits_for_kafka_stops_when_asked(cluster: clusters.Cluster) -> None:
    with stack.Launcher() as launch:
        waiting = launch.worker("127.0.0.1:1", cluster.dsn, "waiting", HEED_HOME=str(cluster.home))
        waiting.wait_for("waiting for a server", clusters.patience(30))
        assert waiting.terminate(clusters.patience(5)) == 0
        assert "stopped while starting" in waiting.last_line
