"""The demo's history: always the same, of the shape it promises, and about nobody real; and its sending."""

from __future__ import annotations

import http.server
import json
import re
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from deploy import demo, demo_history, demo_report, demo_send
from schemas import admission, errors, topics
from tests import keyring

ANCHOR = datetime(2026, 11, 22, 14, 39, 47, 123000, UTC)
SMALL = demo.Options(contacts=1500, mailings=60, months=14, seed=7)


@pytest.fixture(scope="module")
def history() -> demo_history.History:
    return demo_history.tell(SMALL, ANCHOR)


@pytest.fixture(scope="module")
def outcomes(history: demo_history.History) -> list[admission.Outcome]:
    """What admission says of every event, if it came now."""
    by_http = [judge(value, None) for value in history.by_http]
    return by_http + [judge(value, door) for door, _, value in history.by_kafka]


def judge(value: bytes, door: str | None) -> admission.Outcome:
    return admission.admit(
        value, at=ANCHOR, door=door, homes=8, ahead=timedelta(minutes=5), secret=keyring.SECRET
    )


def told(history: demo_history.History) -> Iterator[dict[str, Any]]:
    """The events that are JSON."""
    for value in (*history.by_http, *(value for _, _, value in history.by_kafka)):
        try:
            yield json.loads(value)
        except (ValueError, RecursionError):
            continue


def test_equal_options_give_equal_bytes(history: demo_history.History) -> None:
    again = demo_history.tell(SMALL, ANCHOR)
    assert (again.by_http, again.by_kafka) == (history.by_http, history.by_kafka)
    other = demo_history.tell(demo.Options(1500, 60, 14, seed=8), ANCHOR)
    assert other.by_http != history.by_http


def test_the_default_history_is_about_250_000_events_half_by_each_way() -> None:
    history = demo_history.tell(demo.Options(), ANCHOR)
    assert 235_000 <= len(history) <= 265_000
    assert 0.4 <= len(history.by_http) / len(history) <= 0.6


def test_nearly_all_is_admitted_and_there_is_rubbish_of_every_kind(outcomes: list[admission.Outcome]) -> None:
    reasons = Counter(str(found.reason) for found in outcomes if isinstance(found, admission.Rejected))
    assert set(reasons) == {
        "undecodable", "invalid", "unknown_type", "newer_version", "unstorable", "future", "wrong_door",
        "no_subject",
    }  # fmt: skip
    assert sum(reasons.values()) < len(outcomes) / 50


def test_no_body_breaks_its_neighbours_by_http(history: demo_history.History) -> None:
    whole = json.loads(b"[" + b",".join(history.by_http) + b"]")
    assert len(whole) == len(history.by_http)
    assert max(map(len, history.by_http)) * demo_send.BATCH < 500 * 1024


def test_there_are_copies_and_contradictions_also_across_the_two_ways(
    history: demo_history.History, outcomes: list[admission.Outcome]
) -> None:
    contents: dict[tuple[str, str, str], list[bytes]] = defaultdict(list)
    ways: dict[tuple[str, str, str], set[bool]] = defaultdict(set)
    for place, found in enumerate(outcomes):
        if isinstance(found, admission.Admitted):
            key = (found.subject, found.source, found.id)
            contents[key].append(found.value)
            ways[key].add(place < len(history.by_http))
    copies = sum(len(values) - 1 for values in contents.values())
    contradicted = [values for values in contents.values() if len(set(values)) > 1]
    assert 0.008 <= copies / len(outcomes) <= 0.015
    assert 0 < len(contradicted) <= len(outcomes) / 500
    assert any(len(way) == 2 for way in ways.values())


def test_nothing_happens_after_the_anchor_but_what_is_parked_for_it(
    history: demo_history.History,
) -> None:
    times = [(event["type"], event["time"]) for event in told(history)]
    later = [kind for kind, time in times if time > "2026-11-22T14:39:47.123Z"]
    assert set(later) == {"mail.clicked"}
    assert len(later) <= len(times) / 1000
    assert min(time for _, time in times) > "2025-09"


def test_what_happens_is_like_what_happens(history: demo_history.History) -> None:
    kinds: Counter[str] = Counter()
    hours: Counter[int] = Counter()
    first: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    clicked: dict[str, set[str]] = defaultdict(set)
    tests = 0
    for event in told(history):
        data = event["data"]
        if data.get("test"):
            tests += 1
            continue
        kinds[event["type"]] += 1
        if event["type"].startswith("mail.") and "message_id" in data:
            first[event["subject"], data["mailing_id"]].setdefault(event["type"], event["time"])
            hours[int(event["time"][11:13])] += 1
            if event["type"] == "mail.clicked":
                clicked[event["subject"]].add(data["mailing_id"])
    assert kinds["mail.sent"] > kinds["mail.delivered"] > kinds["mail.opened"] > kinds["mail.clicked"]
    assert kinds["mail.bounced"] and kinds["mail.unsubscribed"] and tests
    assert kinds["contact.deleted"] > kinds["contact.restored"] > 0
    assert (
        kinds["page.viewed"] > kinds["session.started"] > kinds["session.created"] > kinds["session.linked"]
    )
    assert kinds["session.linked"] > 0 < kinds["contact.merged"]
    assert kinds["contact.consent_changed"] > 0
    assert sum(hours[hour] for hour in range(6)) < sum(hours.values()) / 10
    unordered = [
        seen for seen in first.values() if seen.get("mail.opened", "") > seen.get("mail.clicked", "~")
    ]
    assert len(unordered) <= len(first) / 200  # contradicting copies only
    counts = sorted(map(len, clicked.values()), reverse=True)
    assert counts[0] > 5 * counts[len(counts) // 2]


def test_nobody_in_it_is_real(history: demo_history.History) -> None:
    text = b"\n".join((*history.by_http, *(value for _, _, value in history.by_kafka)))
    addresses = re.findall(rb"[\w.+-]+@[\w.-]+", text)
    assert addresses
    assert all(address.endswith(b"@example.org") for address in addresses)
    assert set(re.findall(rb"https?://([\w.-]+)", text)) == {b"example.org"}


def test_records_of_kafka_have_the_subject_as_key_or_none(history: demo_history.History) -> None:
    assert {door for door, _, _ in history.by_kafka} == set(topics.DOORS)
    for _, key, value in history.by_kafka:
        assert key is None or json.loads(value)["subject"].encode() == key


def test_marks_are_kept_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "demo.json"
    assert demo.read_marks(path) is None
    marks = demo.Marks(ANCHOR, 1500, 60, 14, 7, http_batches=3)
    demo.save_marks(path, marks)
    assert demo.read_marks(path) == marks
    assert marks.options == SMALL
    assert [found.name for found in path.parent.iterdir()] == ["demo.json"]


# -- sending by HTTP, to a server that is sometimes busy


class Door(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    taken: list[dict[str, Any]]
    answers: Iterator[int]
    key: str

    def do_POST(self) -> None:
        events = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        asks = self.headers["Authorization"] == f"Bearer {self.key}"
        status = next(self.answers, 202) if asks else 401
        if status == 202:
            self.taken.extend(events)
        outcomes = [{"id": event["id"], "status": "accepted"} for event in events]
        body = json.dumps({"outcomes": outcomes} if status in (202, 400) else {"title": "no"}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        """Silent."""


@pytest.fixture
def door() -> Iterator[tuple[str, type[Door]]]:
    handler = type("OneDoor", (Door,), {"taken": [], "answers": iter(()), "key": "heed_demo"})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", handler
    server.shutdown()
    thread.join()
    server.server_close()


def bodies(number: int) -> list[bytes]:
    return [json.dumps({"id": str(n)}).encode() for n in range(number)]


def settle(way: demo_send.ByHttp) -> None:
    patience = threading.Event()
    for _ in range(500):
        if not way.running:
            return
        patience.wait(0.02)
    raise AssertionError("it never ended")


def test_what_is_busy_is_tried_again_and_counts_once(door: tuple[str, type[Door]]) -> None:
    url, handler = door
    handler.answers = iter([503, 202, 503, 429, 202])
    number = demo_send.BATCH * 7 + 3
    way = demo_send.ByHttp(lambda: url, bodies(number), 0, threading.Event(), key="heed_demo")
    settle(way)
    assert way.failure is None
    assert (way.done, way.sent, way.retries) == (8, number, 3)
    assert way.outcomes == {"accepted": number}
    assert sorted(int(event["id"]) for event in handler.taken) == list(range(number))


def test_it_goes_on_where_it_was(door: tuple[str, type[Door]]) -> None:
    url, handler = door
    way = demo_send.ByHttp(lambda: url, bodies(demo_send.BATCH * 3), 2, threading.Event(), key="heed_demo")
    settle(way)
    assert (way.done, way.sent) == (3, demo_send.BATCH)
    assert min(int(event["id"]) for event in handler.taken) == 2 * demo_send.BATCH


def test_an_answer_that_means_a_mistake_ends_the_demo(door: tuple[str, type[Door]]) -> None:
    url, handler = door
    handler.answers = iter([413] * 8)
    way = demo_send.ByHttp(lambda: url, bodies(10), 0, threading.Event(), key="heed_demo")
    settle(way)
    assert isinstance(way.failure, errors.Doubt)
    assert "413" in str(way.failure)


@pytest.mark.parametrize("key", [None, "heed_another"])
def test_without_a_key_that_is_taken_it_says_what_to_do(
    door: tuple[str, type[Door]], key: str | None
) -> None:
    way = demo_send.ByHttp(lambda: door[0], bodies(10), 0, threading.Event(), key=key)
    settle(way)
    assert isinstance(way.failure, errors.Usage)
    assert "--no-demo" in str(way.failure)


def test_stopping_does_not_wait_for_a_busy_server(door: tuple[str, type[Door]]) -> None:
    url, handler = door
    handler.answers = iter([503] * 1000)
    stop = threading.Event()
    way = demo_send.ByHttp(lambda: url, bodies(1000), 0, stop, key="heed_demo")
    stop.set()
    settle(way)
    assert (way.done, way.failure, handler.taken) == (0, None, [])


def test_how_much_is_folded_is_told_of_the_log_alone() -> None:
    positions = {("facts", 0): 5, ("facts", 1): 2, ("email-activity", 0): 90}
    assert demo_report.folded(positions, {}) == (7, 7)
    assert demo_report.folded(positions, {("facts", 0): 10, ("facts", 1): 2}) == (7, 12)
