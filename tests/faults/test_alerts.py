"""Each alert, fired for real: a stack as `heed up` runs it, a Prometheus on its `targets.json`, and trouble.

Promises: rules and expressions are the shipped ones, looked at every second; only `for` is left out. An alert
does not fire before its cause, and fires after it. To add one: cause it in a test that says so in `@fires`.
Each test has a Prometheus that knows nothing of the one before, since windows of minutes remember.
Limits: one stack, taken down by the last test; the slow tests run in the order of this file.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shutil import rmtree
from typing import Any, TypeVar

import psycopg
import pytest
from psycopg.rows import dict_row

from deploy import dashboards, panels
from schemas import topics
from tests import broken, prometheus, stack, traffic
from tests import cluster as clusters

Test = TypeVar("Test", bound=Callable[..., None])
FIRED: set[str] = set()
READ = "/v1/contacts/ada/engagement"


def fires(*names: str) -> Callable[[Test], Test]:
    """The alerts that a test fires; each is quiet before."""
    assert FIRED.isdisjoint(names), f"{FIRED & set(names)}: one test each"
    FIRED.update(names)
    return pytest.mark.fires(*names)


@dataclass
class Watched:
    """A stack of its own with a Prometheus over it."""

    home: Path
    asked: prometheus.Prometheus

    @property
    def told(self) -> dict[str, Any]:
        return dict(json.loads((self.home / "stack.json").read_bytes()))

    def pids(self, role: str, number: int | None = None) -> list[int]:
        """Processes of a role; of a worker's number the one on its port."""
        ports = self.told["metrics"]
        return [
            one["pid"]
            for one in self.told["processes"]
            if one["role"] == role and (number is None or f":{one['port']}/" in ports[number - 1])
        ]

    def request(self, method: str, path: str, body: Any = None) -> int:
        """A request to the API; gives the status it answers with, 0 when it does not."""
        told = self.told
        headers = {"Content-Type": "application/json"}
        if told["key"]:
            headers["Authorization"] = f"Bearer {told['key']}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(told["url"] + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code
        except OSError:
            return 0

    def tell(self, *raw: bytes) -> None:
        traffic.send_all(self.told["bootstrap"], [(topics.EMAIL_ACTIVITY, one) for one in raw])

    def sql(self, statement: str, *values: object) -> list[dict[str, Any]]:
        with psycopg.connect(self.told["dsn"], autocommit=True, row_factory=dict_row) as connection:
            cursor = connection.execute(statement.encode(), values or None)
            return cursor.fetchall() if cursor.description is not None else []

    def wait_row(self, contact: str) -> None:
        found = "select from heed_data.engagement where contact_id = %s"
        stack.eventually(
            lambda: bool(self.sql(found, contact)), f"{contact} has a row", clusters.patience(30)
        )

    def wait_ready(self) -> None:
        stack.eventually(
            lambda: self.request("GET", "/health/ready") == 200, "all is there", clusters.patience(90), 0.2
        )

    @contextmanager
    def away(self, role: str) -> Iterator[None]:
        """All processes of a role are killed, and kept from being started again."""
        hold = self.home / "hold" / role
        hold.parent.mkdir(exist_ok=True)
        hold.touch()
        try:
            for pid in self.pids(role):
                os.kill(pid, signal.SIGKILL)
            yield
        finally:
            hold.unlink()
            stack.eventually(lambda: bool(self.pids(role)), f"{role} is back", 60)

    def fires(self, name: str, within: float = 30) -> None:
        """The alert comes to fire, and says what it is about."""
        stack.eventually(
            lambda: name in self.asked.firing(), f"{name} fires; now {sorted(self.asked.firing())}",
            clusters.patience(within), 0.2,
        )  # fmt: skip
        said = self.asked.firing()[name]
        assert said["summary"] and "<" not in said["summary"] + said["description"], said


@contextmanager
def doing(what: Callable[[], object], every: float = 0.3) -> Iterator[None]:
    """Something is done over and over meanwhile."""
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(every):
            what()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A stack of its own, up; its HEED_HOME."""
    place = Path(tempfile.mkdtemp(prefix="heed-alerts-"))
    try:
        _heed(place / "home", "up", "--detach", "--no-demo")
        yield place / "home"
    finally:
        _heed(place / "home", "down")
        rmtree(place, ignore_errors=True)


def _heed(home: Path, *arguments: str) -> None:
    done = subprocess.run(
        [stack.HEED, *arguments],
        env=stack.clean_env({"HEED_HOME": str(home)}),
        cwd=stack.ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def watched(home: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Watched]:
    """The stack, ready, a new Prometheus over it, and none of the test's alerts firing."""
    (marker,) = request.node.iter_markers("fires")
    with prometheus.running(tmp_path / "prometheus", home / "prometheus" / "targets.json") as asked:
        made = Watched(home, asked)
        made.wait_ready()
        stack.eventually(lambda: len(asked.targets_up()) == 4, "every process is scraped")
        stack.eventually(
            lambda: asked.firing().keys().isdisjoint(marker.args), f"quiet before the cause: {marker.args}"
        )
        yield made


def test_every_alert_is_fired_by_a_test() -> None:
    assert set(prometheus.alerts()) == FIRED


@pytest.mark.slow
@fires("HeedRowsDiffer")
def test_a_row_is_changed_by_hand(watched: Watched) -> None:
    watched.tell(traffic.click("ada"))
    watched.wait_row("ada")
    watched.sql("update heed_data.engagement set frequency = 99 where contact_id = 'ada'")
    assert watched.request("POST", f"{READ}/calculate") in (200, 201)
    watched.fires("HeedRowsDiffer")


@pytest.mark.slow
@fires("HeedContactErrors")
def test_a_contact_cannot_be_computed(watched: Watched) -> None:
    watched.sql(broken.BREAK)
    try:
        watched.tell(traffic.click(broken.BAD))
        watched.fires("HeedContactErrors")
    finally:
        watched.sql(broken.MEND)
        watched.sql("update heed_data.nudge set retry_at = clock_timestamp()")
    watched.wait_row(broken.BAD)


@pytest.mark.slow
@fires("HeedApiRefuses")
def test_a_sender_sends_rubbish(watched: Watched) -> None:
    rubbish = [dict(json.loads(traffic.click("not an id"))) for _ in range(150)]
    assert watched.request("POST", "/v1/events", rubbish) == 400
    watched.fires("HeedApiRefuses")


@pytest.mark.slow
@fires("HeedConflicts")
def test_ids_are_used_twice(watched: Watched) -> None:
    for mailing in ("one", "another"):
        watched.tell(*(traffic.click(f"c{n}", f"id-{n}", mailing=mailing) for n in range(200)))
    watched.fires("HeedConflicts")


@pytest.mark.slow
@fires("HeedRowsLate", "HeedTimersLate", "HeedApiSlow", "HeedNudgesGrow")
def test_somebody_holds_a_lock_on_the_rows(watched: Watched) -> None:
    ends = datetime.now(UTC) + timedelta(seconds=clusters.patience(4))
    watched.tell(traffic.click("leaving", time=traffic.dated_to_leave(ends)))
    watched.wait_row("leaving")
    assert watched.request("GET", READ) == 200  # a series that begins with its first slow request has no rate
    number = iter(range(1_000_000))

    def nudge() -> None:
        watched.sql(
            "insert into heed_data.nudge (home, subject, reason)"
            " select n %% 8, 'contact:n' || n || '-' || %s::text, 'test' from generate_series(1, 500) n",
            next(number),
        )

    with psycopg.connect(watched.told["dsn"]) as locking:
        locking.execute("lock table heed_data.engagement in access exclusive mode")
        watched.tell(traffic.click("grace"))
        with doing(nudge, 0.5), doing(lambda: watched.request("GET", READ)):
            watched.fires("HeedNudgesGrow", 60)
            late = ends + timedelta(seconds=3)
            stack.eventually(lambda: datetime.now(UTC) > late, "it is overdue", clusters.patience(20))
    watched.fires("HeedApiSlow")
    watched.fires("HeedRowsLate", 60)
    watched.fires("HeedTimersLate", 60)
    stack.eventually(lambda: watched.asked.value("heed:nudges:sum") == 0, "all are looked at", 120)


@pytest.mark.slow
@pytest.mark.capability("LAW-7")
@fires("HeedParkedMuch")
def test_a_door_is_flooded_with_junk(watched: Watched) -> None:
    good = [traffic.click(f"f{n % 500}") for n in range(9_900)]
    watched.tell(*good, *(b"\xff" * 9 for _ in range(90)))
    stack.eventually(lambda: watched.asked.value("heed:came:increase5m") > 9_900, "they came", 60)
    assert "HeedParkedMuch" not in watched.asked.firing(), "1 % is not more than 1 %"
    watched.tell(*(b"\xff" * 9 for _ in range(300)))
    watched.fires("HeedParkedMuch")


@pytest.mark.slow
@fires("HeedLag")
def test_a_producer_leaves_a_transaction_open(watched: Watched) -> None:
    """Records behind it cannot be read until it ends."""
    producer = traffic.plain_producer(
        watched.told["bootstrap"], **{"transactional.id": "left-open", "transaction.timeout.ms": 300_000}
    )
    producer.init_transactions(30)
    producer.begin_transaction()
    for part in range(stack.HOMES):
        producer.produce(topics.EMAIL_ACTIVITY, traffic.click("open"), partition=part)
    producer.flush(30)
    watched.tell(*(traffic.click("behind") for _ in range(100)))
    watched.fires("HeedLag", 120)
    producer.abort_transaction(30)
    watched.wait_row("behind")


@pytest.mark.slow
@fires("HeedKafkaAway", "HeedApiErrors", "HeedOutboxStuck")
def test_kafka_is_away(watched: Watched) -> None:
    ends = datetime.now(UTC) + timedelta(seconds=clusters.patience(6))
    watched.tell(traffic.click("unheard", time=traffic.dated_to_leave(ends)))
    watched.wait_row("unheard")
    event = dict(json.loads(traffic.click("nobody")))
    with watched.away("kafka"), doing(lambda: watched.request("POST", "/v1/events", event)):
        watched.fires("HeedKafkaAway", 60)
        watched.fires("HeedApiErrors", 60)
        watched.fires("HeedOutboxStuck", 200)
    watched.wait_ready()
    stack.eventually(lambda: watched.asked.value("heed:outbox_backlog:sum") == 0, "it is told", 120)


@pytest.mark.slow
@fires("HeedPostgresAway")
def test_postgres_is_away(watched: Watched) -> None:
    with watched.away("postgres"):
        watched.fires("HeedPostgresAway", 60)


@pytest.mark.slow
@fires("HeedProcessDown", "HeedHomesSilent")
def test_no_worker_runs(watched: Watched) -> None:
    with watched.away("worker"):
        watched.fires("HeedProcessDown")
        watched.fires("HeedHomesSilent", 60)


@pytest.mark.slow
@fires("HeedFenced")
def test_a_worker_stands_still_again_and_again(watched: Watched) -> None:
    for _ in range(2):
        _stand_still(watched)
    watched.fires("HeedFenced")


def _stand_still(watched: Watched) -> None:
    """A worker is frozen until others own what it held; when it goes on it is fenced, and started again.

    Kafka is suspended as it wakes: else the group may tell it first, and it lets go without a fence.
    """
    (pid,), (broker,) = watched.pids("worker", 2), watched.pids("kafka")
    os.kill(pid, signal.SIGSTOP)
    try:
        _wait_owners(watched, {"worker-1", "worker-3"})
        os.kill(broker, signal.SIGSTOP)
        os.kill(pid, signal.SIGCONT)
        stack.eventually(lambda: watched.pids("worker", 2) not in ([pid], []), "it was fenced", 60)
    finally:
        os.kill(broker, signal.SIGCONT)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    ended = [line for line in (watched.home / "up.log").read_text().splitlines() if " ended with " in line]
    assert "Fenced" in ended[-1], ended[-1]
    _wait_owners(watched, {"worker-1", "worker-2", "worker-3"})
    stack.eventually(lambda: len(watched.asked.targets_up()) == 4, "it is scraped again")


def _wait_owners(watched: Watched, names: set[str]) -> None:
    asked = "select distinct owner from heed_data.position where topic = 'facts'"
    stack.eventually(
        lambda: {row["owner"] for row in watched.sql(asked)} == names,
        f"{names} own all",
        clusters.patience(90),
        0.2,
    )


@pytest.mark.slow
@fires("HeedProcessRestarting")
def test_a_worker_dies_again_and_again(watched: Watched) -> None:
    for _ in range(3):
        _die(watched)
    watched.fires("HeedProcessRestarting")


def _die(watched: Watched) -> None:
    started = 'process_start_time_seconds{name="worker-3"}'
    before = watched.asked.value(started)
    (pid,) = watched.pids("worker", 3)
    os.kill(pid, signal.SIGKILL)
    stack.eventually(lambda: watched.asked.value(started) > before, "it is back", 60)


@pytest.mark.slow
@fires()
def test_every_rule_and_every_panel_has_an_answer(watched: Watched) -> None:
    """After all that: an expression without one asks for what is never there."""
    expressions = [
        target["expr"].replace("$__rate_interval", "1m")
        for board in panels.ALL
        for panel in dashboards.dashboard(board)["panels"]
        for target in panel["targets"]
        if "expr" in target
    ]
    assert watched.request("GET", READ) == 200
    # That of the last 10,000 has no answer until so many came: the flood has shown it.
    asked = [one for one in [*expressions, *prometheus.recorded()] if one != "heed:parked:share10000"]
    stack.eventually(
        lambda: not [one for one in asked if not watched.asked.query(one)], "all have an answer", 60, 0.5
    )


@pytest.mark.slow
@fires("HeedNothingScraped")
def test_the_stack_is_taken_down(watched: Watched) -> None:
    _heed(watched.home, "down")
    watched.fires("HeedNothingScraped")
