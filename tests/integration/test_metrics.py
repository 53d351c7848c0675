"""Every declared metric moves when what it tells of happens: on a real worker, and over several APIs.

Promises: a metric that is declared and that no test here moves fails the last test. To add one: cause what it
tells of, in a test of its own or beside another, name it in `@moves`, and say how it changes.
Limits: not every value of every label; tests/unit/test_metrics.py has those.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families as families

from deploy.processes import free_ports
from schemas import commands, metrics, topics
from schemas import registry as facts
from schemas.topics import all_topics
from streams import telling
from tests import broken, prometheus, stack, traffic
from tests import cluster as clusters

Test = TypeVar("Test", bound=Callable[..., None])
MOVED: set[str] = set()
EVENTS = {"route": "/v1/events", "method": "POST"}


def moves(*names: str) -> Callable[[Test], Test]:
    """The metrics that a test moves."""
    MOVED.update(names)
    return pytest.mark.moves(*names)


@dataclass
class Watched:
    """One worker and two APIs, and what their metrics say in sum."""

    cluster: clusters.Cluster
    apis: list[int]
    seen: set[str] = field(default_factory=set)

    def post(self, path: str, body: Any = None, api: int = 0) -> Any:
        """A request to one of the APIs; gives the answer, whatever its status."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.apis[api]}{path}",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
            method="POST",
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return json.load(error)

    def tell(self, *raw: bytes) -> None:
        """Records on the door of mail, by a plain client."""
        traffic.send_all(self.cluster.bootstrap, [(topics.EMAIL_ACTIVITY, one) for one in raw])

    def value(self, name: str, labels: dict[str, str]) -> float:
        """A metric summed over all processes; of a histogram how much it observed."""
        sample = f"{name}_count" if metrics.DECLARED[name].kind == "histogram" else name
        total = 0.0
        for port in (*self.cluster.ports.values(), *self.apis):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                    text = answer.read().decode()
            except OSError:
                continue  # a process that is away shows nothing
            total += sum(
                one.value
                for family in families(text)
                for one in family.samples
                if one.name == sample and labels.items() <= one.labels.items()
            )
        return total

    def mark(self, name: str, **labels: str) -> Mark:
        """How it stands before something is caused."""
        self.seen.add(name)
        return Mark(self, name, labels, self.value(name, labels))


@dataclass
class Mark:
    """A metric as it stood."""

    watched: Watched
    name: str
    labels: dict[str, str]
    stood: float

    def changes_by(self, number: float) -> None:
        """It comes to stand so much higher (lower), exactly."""
        self._becomes(lambda value: value - self.stood == number, f"changes by {number:g}")

    def rises(self) -> None:
        self._becomes(lambda value: value > self.stood, "rises")

    def returns(self) -> None:
        self._becomes(lambda value: value == self.stood, "returns")

    def _becomes(self, test: Callable[[float], bool], what: str) -> None:
        last: list[float] = []

        def now() -> bool:
            last[:] = [self.watched.value(self.name, self.labels)]
            return test(last[0])

        try:
            stack.eventually(now, what, min(120.0, clusters.patience(20)), 0.05)
        except AssertionError:
            raise AssertionError(
                f"{self.name}{self.labels} {what}: it stood at {self.stood}, now {last}"
            ) from None


@pytest.fixture(scope="module")
def world(
    servers: stack.Servers, module_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Watched]:
    stack.recreate_topics(servers.bootstrap, all_topics(stack.HOMES))
    home: Path = tmp_path_factory.mktemp("home")
    with stack.Launcher() as launch:
        schedule = {"HEED_SCHEDULE_REFRESH_EXPIRED": "* * * * * *"}
        made = clusters.Cluster(launch, servers.bootstrap, module_database, home, **schedule)
        ports = free_ports(2)
        for number, port in enumerate(ports, 1):
            launch.api(servers.bootstrap, module_database, port, f"api-{number}")
        made.start("worker-1")
        for port in ports:
            stack.eventually(lambda port=port: _answers(port), "the API answers")  # type: ignore[misc]
        yield Watched(made, ports)
        made.close()


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.fixture
def watched(world: Watched, request: pytest.FixtureRequest) -> Iterator[Watched]:
    """The world; afterwards the test has looked at exactly what it says that it moves."""
    world.seen.clear()
    yield world
    (marker,) = request.node.iter_markers("moves")
    assert world.seen == set(marker.args)


def _click(contact: str, **more: Any) -> dict[str, Any]:
    return dict(json.loads(traffic.click(contact, **more)))


@moves("heed_admitted_total", "heed_http_request_seconds", "heed_events_folded_total",
       "heed_row_delay_seconds", "heed_transaction_seconds", "heed_batch_records")  # fmt: skip
def test_an_event_by_each_of_two_apis(watched: Watched) -> None:
    admitted = watched.mark("heed_admitted_total", door="http")
    requests = watched.mark("heed_http_request_seconds", **EVENTS, status="202")
    folded = watched.mark("heed_events_folded_total", type="mail.clicked")
    delay = watched.mark("heed_row_delay_seconds")
    transactions = watched.mark("heed_transaction_seconds")
    batches = watched.mark("heed_batch_records")
    watched.post("/v1/events", [_click("ada"), _click("grace")], api=0)
    watched.post("/v1/events", _click("ada"), api=1)
    admitted.changes_by(3)
    requests.changes_by(2)
    folded.changes_by(3)
    delay.changes_by(3)
    transactions.rises()
    batches.rises()


@moves("heed_admitted_total", "heed_parked_total", "heed_refused_total", "heed_duplicates_total",
       "heed_conflicts_total")  # fmt: skip
def test_what_does_not_count_twice_and_what_does_not_count(watched: Watched) -> None:
    admitted = watched.mark("heed_admitted_total", door=topics.EMAIL_ACTIVITY)
    parked = watched.mark("heed_parked_total", reason="undecodable")
    refused = watched.mark("heed_refused_total", reason="invalid")
    duplicates = watched.mark("heed_duplicates_total")
    conflicts = watched.mark("heed_conflicts_total")
    once = traffic.click("twice", "one-id")
    watched.tell(once, once, traffic.click("twice", "one-id", mailing="another"), b"\xff not JSON")
    watched.post("/v1/events", _click("not an id"))
    admitted.changes_by(3)
    parked.changes_by(1)
    refused.changes_by(1)
    duplicates.changes_by(1)
    conflicts.changes_by(1)


@moves("heed_contact_errors", "heed_nudges")
def test_a_contact_that_cannot_be_computed(watched: Watched) -> None:
    contact_errors, waiting = watched.mark("heed_contact_errors"), watched.mark("heed_nudges")
    watched.cluster.sql(broken.BREAK)
    try:
        watched.tell(traffic.click(broken.BAD))
        contact_errors.changes_by(1)
        waiting.changes_by(1)
    finally:
        watched.cluster.sql(broken.MEND)
    watched.cluster.sql("update heed_data.nudge set retry_at = clock_timestamp()")
    contact_errors.returns()
    waiting.returns()


@moves("heed_row_differences_total")
def test_a_row_that_was_changed_by_hand(watched: Watched) -> None:
    found = watched.mark("heed_row_differences_total")
    _falsify(watched, "ada")
    assert watched.post("/v1/contacts/ada/engagement/calculate", api=1)["differs"]
    found.rises()


def _falsify(watched: Watched, contact: str) -> None:
    watched.tell(traffic.click(contact))
    watched.cluster.settle()
    watched.cluster.sql("update heed_data.engagement set frequency = 99 where contact_id = %s", contact)


@moves("heed_lag_records", "heed_lag_seconds", "heed_outbox_backlog", "heed_outbox_seconds")
def test_readers_that_stand_still(watched: Watched) -> None:
    """Somebody holds a lock on their positions, for longer than they wait for it."""
    records = [watched.mark("heed_lag_records", reader=reader) for reader in metrics.READERS]
    seconds = [watched.mark("heed_lag_seconds", reader=reader) for reader in metrics.READERS]
    backlog, age = watched.mark("heed_outbox_backlog"), watched.mark("heed_outbox_seconds")
    now = datetime.now(UTC)
    command = commands.make("engagement.expire", 0, [("nobody", now)], now)
    with psycopg.connect(watched.cluster.dsn) as locking:
        locking.execute("lock table heed_data.position, heed_ops.position in share mode")
        watched.tell(traffic.click("waits"))
        watched.post("/v1/events", _click("waits"))
        _decide(watched)
        watched.cluster.sql(
            "insert into heed_ops.outbox (home, event_id, topic, key, body)"
            " values (0, %s, 'commands', 'home:0', %s)",
            command.id,
            command.body,
        )
        for mark in (backlog, age, *records, *seconds):
            mark.rises()
    for mark in (backlog, age, *records, *seconds):
        mark.returns()


@moves("heed_timer_lateness_seconds", "heed_commands_total")
def test_a_row_that_falls_due(watched: Watched) -> None:
    kind = {"kind": "engagement.expire"}
    lateness, told = (
        watched.mark("heed_timer_lateness_seconds", **kind),
        watched.mark("heed_commands_total", **kind),
    )
    ends = datetime.now(UTC) + timedelta(seconds=3)
    watched.tell(traffic.click("leaving", time=traffic.dated_to_leave(ends)))
    lateness.changes_by(1)
    told.changes_by(1)


def _decide(watched: Watched) -> None:
    """A setting, set to what it is: a fact of the registry."""
    name = "engagement_period_months"
    told = facts.SettingChanged(name, "12")
    entry = telling.Entry("setting.changed", facts.setting(name), told, "test")
    traffic.send_all(watched.cluster.bootstrap, [(topics.REGISTRY, telling.record(entry).value)])


@moves("heed_registered_total")
def test_a_fact_of_the_registry(watched: Watched) -> None:
    registered = watched.mark("heed_registered_total", type="setting.changed")
    _decide(watched)
    registered.changes_by(1)


@moves("heed_scheduled_total")
def test_a_slot_that_comes(watched: Watched) -> None:
    scheduled = watched.mark("heed_scheduled_total", schedule="refresh-expired")
    scheduled.rises()


@moves("heed_redriven_total", "heed_discarded_total", "heed_parked_expired_total")
def test_what_is_parked_is_driven_again_discarded_and_expires(watched: Watched) -> None:
    redriven = watched.mark("heed_redriven_total", outcome="parked")
    discarded = watched.mark("heed_discarded_total", reason="undecodable")
    expired = watched.mark("heed_parked_expired_total", reason="undecodable")
    watched.tell(b"{ not", b"{ either")
    watched.cluster.settle()
    newest = [row["id"] for row in watched.cluster.parked()][-2:]
    assert watched.post("/v1/parked/redrive", {"ids": newest[:1]})["parked"] == 1
    redriven.changes_by(1)
    assert watched.post("/v1/parked/discard", {"ids": newest[:1]})["discarded"] == 1
    discarded.changes_by(1)
    watched.cluster.sql("update heed_ops.parked set parked_at = parked_at - interval '31 days'")
    waiting = len(watched.cluster.parked())
    watched.cluster.workers[
        "worker-1"
    ].terminate()  # it looks for what expires at its start, then each minute
    watched.cluster.start("worker-1")
    expired.rises()
    assert len(watched.cluster.parked()) < waiting


@moves("heed_claims_total")
def test_a_lane_that_loses_its_connection(watched: Watched) -> None:
    claims = watched.mark("heed_claims_total")
    watched.cluster.sql(
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where application_name like 'worker-1 fold-0 %%'"
    )
    claims.rises()


@moves("heed_fenced_total", "heed_missing", "heed_build_info")
def test_a_worker_that_is_fenced_and_one_that_is_gone(watched: Watched) -> None:
    """A fence ends its process; who comes after it goes on counting, or nobody would ever see it."""
    cluster, gone = watched.cluster, watched.cluster.workers["worker-1"]
    fenced, processes = watched.mark("heed_fenced_total"), watched.mark("heed_build_info")
    homes = watched.mark("heed_missing", part="homes")
    cluster.sql("update heed_data.position set epoch = epoch + 1 where topic = 'facts' and part = 3")
    stack.eventually(lambda: not gone.alive, "the worker ends")
    assert gone.exit() == 3
    assert "Fenced" in gone.last_line
    processes.changes_by(-1)
    # Rather than to wait until its last word is ten seconds old.
    cluster.sql("update heed_data.position set as_of = as_of - interval '10 seconds'")
    homes.changes_by(2 * stack.HOMES)  # each of the two APIs finds all of them
    cluster.start("worker-1")
    fenced.changes_by(1)
    processes.returns()
    homes.returns()


def test_a_real_prometheus_sums_both_apis_and_fires(world: Watched, tmp_path: Path) -> None:
    ports = {"worker": world.cluster.ports["worker-1"], "api-1": world.apis[0], "api-2": world.apis[1]}
    targets = [
        {"targets": [f"127.0.0.1:{port}"], "labels": {"role": name[:6].rstrip("-12"), "name": name}}
        for name, port in ports.items()
    ]
    with prometheus.running(tmp_path / "prometheus", targets) as asked:
        stack.eventually(lambda: len(asked.targets_up()) == len(ports), "all targets are scraped")
        before = asked.value('sum(heed_admitted_total{door="http"})')
        for api in (0, 0, 1):
            world.post("/v1/events", _click("prom"), api=api)
        stack.eventually(
            lambda: asked.value('sum(heed_admitted_total{door="http"})') == before + 3,
            "both APIs are counted",
        )
        each = asked.query('heed_admitted_total{door="http"} > 0')
        assert len(each) == 2 and sum(value for _, value in each) == before + 3
        assert "HeedRowsDiffer" not in asked.firing()
        _falsify(world, "prom")
        world.post("/v1/contacts/prom/engagement/calculate", api=1)
        stack.eventually(lambda: "HeedRowsDiffer" in asked.firing(), "the alert fires")
        assert asked.firing()["HeedRowsDiffer"]["summary"] == "A row was found to differ from its facts."
    assert world.value("heed_admitted_total", {"door": "http"}) == before + 3


def test_every_metric_is_moved() -> None:
    assert set(metrics.DECLARED) - MOVED == set(), "cause what they tell of, in a test of this file"
    assert MOVED - set(metrics.DECLARED) == set()
