"""`heed api` beside real servers: what it acknowledges is on the log, and it outlives what is away."""

from __future__ import annotations

import json
import re
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import psutil
import pytest
from confluent_kafka import Consumer, TopicPartition

from api import problems
from deploy.processes import free_ports
from projections.migrations import apply
from schemas import topics
from tests import stack

JSON = {"content-type": "application/json"}
ANSWERED = 5.0  # seconds within which every request is answered, whatever is away


def click(id: str, contact: str = "contact:ada", **more: Any) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": id,
        "type": "mail.clicked",
        "source": "/tests",
        "subject": contact,
        "data": {"mailing_id": "m1", "url": "https://example.org/"},
        **more,
    }


@pytest.fixture
def port() -> int:
    return free_ports(1)[0]


@pytest.fixture
def client(port: int) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
        yield client


def answers(client: httpx.Client, path: str) -> bool:
    try:
        return client.get(path).status_code == 200
    except httpx.TransportError:
        return False


def takes(client: httpx.Client, id: str) -> bool:
    try:
        return client.post("/v1/events", json=click(id)).status_code == 202
    except httpx.TransportError:
        return False


def read(bootstrap: str, name: str) -> list[Any]:
    """Every committed record of a topic, by a plain consumer."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "reads", "enable.auto.commit": False})
    places = [TopicPartition(name, partition, 0) for partition in range(stack.HOMES)]
    found: list[Any] = []
    try:
        total = sum(consumer.get_watermark_offsets(place, timeout=10)[1] for place in places)
        consumer.assign(places)
        while len(found) < total:
            found += consumer.consume(total - len(found), timeout=1)
    finally:
        consumer.close()
    return found


def test_what_is_acknowledged_is_on_the_log_where_kafka_would_put_it(
    launch: stack.Launcher, topics: str, database: str, port: int, client: httpx.Client
) -> None:
    launch.api(topics, database, port)
    stack.eventually(lambda: answers(client, "/health/live"), "the API answers")
    batch = [click(str(n), f"contact:{n % 50}") for n in range(500)]
    batch[7]["subject"] = "mail:ada@example.org"
    response = client.post("/v1/events", json=batch)
    assert Counter(one["status"] for one in response.json()["outcomes"]) == {"accepted": 499, "parked": 1}
    facts = read(topics, "facts")
    assert {json.loads(record.value())["id"] for record in facts} == {str(n) for n in range(500)} - {"7"}
    for record in facts:
        assert record.partition() == home(record.key().decode())
        assert record.headers() == [("door", b"email-activity")]
    (parked,) = read(topics, "email-activity")
    assert parked.key() is None
    assert json.loads(parked.value())["id"] == "7"
    assert b"ada@" not in b"".join(record.value() + record.key() for record in facts)


def home(subject: str) -> int:
    return topics.home(subject, stack.HOMES)


def test_it_starts_without_its_servers_and_works_when_they_come(
    launch: stack.Launcher, own_servers: stack.Servers, port: int, client: httpx.Client
) -> None:
    dsn = own_servers.make_database()
    stack.recreate_topics(own_servers.bootstrap, topics.all_topics(stack.HOMES))
    own_servers.stop()
    process = launch.api(own_servers.bootstrap, dsn, port)
    stack.eventually(lambda: answers(client, "/health/live"), "the API answers", timeout=10)
    _answers_503(client, "POST", "/v1/events", problems.LOG_AWAY, json=click("early"))
    _answers_503(client, "GET", "/v1/contacts/ada/engagement", problems.DATABASE_AWAY)
    _answers_503(client, "GET", "/health/ready", problems.NOT_READY)
    own_servers.start()
    own_servers.kafka.wait()
    own_servers.postgres.wait()
    stack.eventually(lambda: takes(client, "late"), "events are taken", timeout=10)
    stack.eventually(lambda: answers(client, "/v1/contacts/ada/engagement"), "rows are read", timeout=10)
    _frozen(own_servers, client)
    assert process.terminate() == 0
    assert not [line for line in process.lines if re.search(r"\bada\b|Traceback", line)]


def _frozen(servers: stack.Servers, client: httpx.Client) -> None:
    """A server that is there and says nothing is away, too; awake again, it is used without more ado."""
    kafka = servers.kafka.process
    assert kafka is not None
    kafka.send_signal(signal.SIGSTOP)
    _answers_503(client, "POST", "/v1/events", problems.LOG_AWAY, json=click("frozen"))
    _answers_503(client, "GET", "/health/ready", problems.NOT_READY)
    kafka.send_signal(signal.SIGCONT)
    stack.eventually(lambda: takes(client, "frozen"), "events are taken", timeout=15)
    backends = _postgres(servers)
    for backend in backends:
        backend.suspend()
    _answers_503(client, "GET", "/v1/contacts/ada/engagement", problems.DATABASE_AWAY)
    assert takes(client, "beside")  # events need no database
    for backend in backends:
        backend.resume()
    stack.eventually(lambda: answers(client, "/v1/contacts/ada/engagement"), "rows are read", timeout=10)


def _postgres(servers: stack.Servers) -> list[psutil.Process]:
    head = int((servers.postgres.data / "postmaster.pid").read_text().split()[0])
    return [psutil.Process(head), *psutil.Process(head).children(recursive=True)]


def _answers_503(client: httpx.Client, method: str, path: str, kind: problems.Kind, **more: Any) -> None:
    began = time.monotonic()
    response = client.request(method, path, **more)
    assert time.monotonic() - began < ANSWERED
    assert (response.status_code, response.json()["type"]) == (503, kind.uri)
    assert int(response.headers["retry-after"]) > 0


def test_what_was_acknowledged_outlives_a_kill_9_of_kafka(
    launch: stack.Launcher, own_servers: stack.Servers, port: int, client: httpx.Client
) -> None:
    stack.recreate_topics(own_servers.bootstrap, topics.all_topics(stack.HOMES))
    launch.api(own_servers.bootstrap, own_servers.make_database(), port)
    stack.eventually(lambda: takes(client, "first"), "events are taken")
    acknowledged, statuses, done = ["first"], Counter[int](), threading.Event()

    def send(name: str) -> None:
        number = 0
        while not done.is_set():
            id = f"{name}-{number}"
            status = client.post("/v1/events", json=click(id)).status_code
            statuses[status] += 1
            if status == 202:
                acknowledged.append(id)
                number += 1  # else the same again, as a sender would

    senders = [threading.Thread(target=send, args=(f"sender-{n}",)) for n in range(4)]
    for sender in senders:
        sender.start()
    time.sleep(1)
    own_servers.kafka.kill()
    time.sleep(1)
    own_servers.kafka.start()
    own_servers.kafka.wait()
    count = len(acknowledged)
    stack.eventually(lambda: len(acknowledged) > count + 20, "events are taken again")
    done.set()
    for sender in senders:
        sender.join()
    assert set(statuses) <= {202, 503}
    ids = Counter(json.loads(record.value())["id"] for record in read(own_servers.bootstrap, "facts"))
    assert set(acknowledged) <= set(ids)  # nothing acknowledged is lost; copies are the fold's to drop


def test_sigterm_lets_the_requests_under_way_finish(
    launch: stack.Launcher, topics: str, database: str, port: int, client: httpx.Client
) -> None:
    process = launch.api(topics, database, port)
    stack.eventually(lambda: takes(client, "first"), "events are taken")
    batch = json.dumps([click(f"{n}", f"contact:{n}") for n in range(1500)])
    found: list[int] = []

    def send() -> None:
        found.append(client.post("/v1/events", content=batch, headers=JSON).status_code)

    sender = threading.Thread(target=send)
    sender.start()
    time.sleep(0.05)
    assert process.terminate() == 0
    sender.join()
    assert found == [202]


def test_clients_that_break_off_or_send_too_much_do_no_harm(
    launch: stack.Launcher, topics: str, database: str, port: int, client: httpx.Client
) -> None:
    process = launch.api(topics, database, port)
    stack.eventually(lambda: takes(client, "first"), "events are taken")
    head = (
        b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port)) as early:
        early.sendall(head % 100 + b'{"id":')
    with socket.create_connection(("127.0.0.1", port)) as large:
        large.sendall(head % 50_000_000 + b"x" * 1000)  # refused by what it says, before it is sent
        answer = b""
        while problems.TOO_LARGE.uri.encode() not in answer and (more := large.recv(65_536)):
            answer += more  # head and body may come apart
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert problems.TOO_LARGE.uri.encode() in answer

    def pour() -> Iterator[bytes]:
        for _ in range(100):
            yield b"x" * 16_384

    response = httpx.post(client.base_url.join("/v1/events"), content=pour(), headers=JSON, timeout=20)
    assert response.status_code == 413
    assert takes(client, "next")
    assert process.terminate() == 0
    assert not [line for line in process.lines if '"internal"' in line]


def test_a_database_without_tables_is_away_until_it_is_migrated(
    launch: stack.Launcher, servers: stack.Servers, port: int, client: httpx.Client
) -> None:
    dsn = servers.make_empty_database()
    try:
        launch.api(servers.bootstrap, dsn, port)
        stack.eventually(lambda: answers(client, "/health/live"), "the API answers")
        _answers_503(client, "GET", "/v1/contacts/ada/engagement", problems.DATABASE_AWAY)
        apply.upgrade(dsn)
        stack.eventually(lambda: answers(client, "/v1/contacts/ada/engagement"), "rows are read", timeout=10)
    finally:
        servers.drop_database(dsn)


@pytest.mark.parametrize(
    ("setting", "value"), [("HEED_API_HOST", "192.0.2.1"), ("HEED_API_PORT", "taken"), ("HEED_API_PORT", "x")]
)
def test_an_address_it_cannot_take_is_one_sentence(
    launch: stack.Launcher, port: int, setting: str, value: str
) -> None:
    with socket.create_server(("127.0.0.1", port)):
        env = {setting: str(port) if value == "taken" else value}
        process = launch.api("127.0.0.1:1", "postgresql://x@127.0.0.1:1/x", port, **env)
        assert process.exit() == 2
    assert setting in process.last_line
    assert process.last_line.startswith("heed: ")


@pytest.mark.slow
@pytest.mark.capability("CEE-1", "CEE-3", "CEE-8", "CEE-10")
def test_without_timers_no_reader_sees_a_value_past_its_time_and_refreshing_mends_the_table(
    launch: stack.Launcher, topics: str, database: str, port: int, client: httpx.Client
) -> None:
    launch.api(topics, database, port)
    launch.worker(topics, database, HEED_TIMERS="off")
    stack.eventually(lambda: answers(client, "/health/ready"), "everything is ready", timeout=60)
    delivered = (datetime.now(UTC) - timedelta(days=30) + timedelta(seconds=8)).isoformat()
    mail = click("2", type="mail.delivered", time=delivered, data={"mailing_id": "m1"})
    assert client.post("/v1/events", json=[click("1"), mail, click("3", "contact:bea")]).status_code == 202

    def read() -> Any:
        return client.get("/v1/contacts/ada/engagement").json()

    def calculated(contact: str = "ada") -> Any:
        return client.post(f"/v1/contacts/{contact}/engagement/calculate").json()

    stack.eventually(lambda: read()["volume_last_30"] == 1, "the row is there")
    answer = calculated()
    assert (answer["frequency"], answer["differs"], answer["stored"]["volume_last_30"]) == (1, False, 1)
    stack.eventually(lambda: read()["volume_last_30"] == 0, "the delivery has left its window", timeout=15)
    answer = calculated()
    assert (answer["volume_last_30"], answer["differs"]) == (0, False)
    assert answer["stored"]["volume_last_30"] == 1  # no timer: the table still has it
    assert client.post("/v1/engagement/refresh-expired").json() == {"refreshed": 1}
    assert client.post("/v1/engagement/refresh-expired").json() == {"refreshed": 0}
    assert calculated()["stored"]["volume_last_30"] == 0
    assert calculated("bea")["stored"]["frequency"] == 1
