"""docs/limits.md is this table: each limit is gone up to, which is taken, and past by one, which is not.

To add one: a `Limit` in LIMITS, with the constant of the code in its words, and its row on the page (the test
that compares the two prints what the page has to say).
"""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import aiokafka
import aiokafka.errors
import httpx
import msgspec
import pytest
from aiokafka.consumer import fetcher
from litestar import Litestar
from litestar.testing import TestClient

from api import app, bodies, ingest, parked, problems, protocol
from deploy.processes import free_ports
from projections import records
from schemas import admission, commands, contracts, envelope, errors, events, identity, settings, topics
from streams import wire
from tests import bombs, stack
from tests.unit import samples, test_api_events

PAGE = stack.ROOT / "docs" / "limits.md"
TAKEN = "taken"


class Ways:
    """What the limits are tried on: an API in this process, one as a process, Kafka."""

    def __init__(self, client: TestClient[Litestar], port: int, bootstrap: str) -> None:
        self.client = client
        self.port = port
        self.bootstrap = bootstrap

    def answered(self, response: httpx.Response) -> str:
        if response.status_code < 400:
            return TAKEN
        return f"{response.status_code} {response.json()['type'].partition('#')[2]}"


Try = Callable[[Ways, int], str]


class Limit(msgspec.Struct, frozen=True):
    """`what` may be as much as `most`; `try_` goes `n` past it (0: up to it), and says what came of it."""

    what: str
    most: str
    past: str
    try_: Try
    up_to: str = TAKEN


@pytest.fixture(scope="module")
def ways(servers: stack.Servers, module_database: str) -> Iterator[Ways]:
    stack.recreate_topics(servers.bootstrap, topics.all_topics(stack.HOMES))
    chosen = settings.Settings(kafka="127.0.0.1:1", postgres=module_database)
    port = free_ports(1)[0]
    with stack.Launcher() as launch, TestClient(app.create_app(chosen, test_api_events.Kept())) as client:
        launch.api("127.0.0.1:1", module_database, port).wait_for("listening")
        yield Ways(client, port, servers.bootstrap)


def told(event: object, door: str = topics.EMAIL_ACTIVITY) -> str:
    outcome = samples.admit(event, door)
    return TAKEN if isinstance(outcome, admission.Admitted) else str(outcome.reason)


def sized(n: int) -> bytes:
    bare = samples.encode(samples.event(extra=""))
    return samples.encode(samples.event(extra="x" * (admission.MAX_BYTES - len(bare) + n)))


def nested(n: int) -> dict[str, Any]:
    deep: Any = 1
    for _ in range(admission.MAX_DEPTH - 1 + n):
        deep = [deep]
    return samples.event(extra=deep)


def field(kind: str, name: str) -> Limit:
    """The bound of a field of data, by the schema that is made of its struct."""
    most = contracts.data_schema(events.EVENTS[kind])["properties"][name]["maxLength"]
    end = "@b" if name == "email" else ""

    def go(_: Ways, n: int) -> str:
        data = {**samples.DATA[kind], name: "a" * (most - len(end) + n) + end}
        return told(samples.event(kind, data=data))

    return Limit(f"`{name}` of an event", f"{most:,} characters", "invalid", go)


def member(name: str) -> Limit:
    bound = next(one for one in msgspec.structs.fields(envelope.Fact) if one.name == name)
    most = msgspec.json.schema(bound.type)["maxLength"]
    return Limit(
        f"`{name}` of an event",
        f"{most:,} characters",
        "invalid",
        lambda _, n: told(samples.event(**{name: "x" * (most + n)})),
    )


def time(what: str, most: str, at: str, past: str, up_to: str, reason: str) -> Limit:
    return Limit(what, most, reason, lambda _, n: told(samples.event(time=past if n else at)), up_to)


def ahead(_: Ways, n: int) -> str:
    moment = samples.AT + samples.AHEAD + timedelta(milliseconds=n)
    return told(samples.event(time=envelope.format_time(moment)))


def body(n: int) -> bytes:
    event = samples.encode([samples.event()])
    return event[:-1] + b" " * (bodies.MAX_BYTES - len(event) + n) + b"]"


def post(ways: Ways, content: bytes, **headers: str) -> str:
    headers = {"content-type": "application/json", **headers}
    return ways.answered(ways.client.post("/v1/events", content=content, headers=headers))


def waiting(ways: Ways, n: int) -> str:
    """With so many bytes waiting already that one request more just fits, or does not."""
    raw = samples.encode(samples.event())
    taking = ways.client.app.state.parts.ingest
    taking._waiting = ingest.MAX_WAITING_BYTES - len(raw) + n
    try:
        return post(ways, raw)
    finally:
        taking._waiting = 0


def page(ways: Ways, n: int) -> str:
    return ways.answered(ways.client.get(f"/v1/parked?limit={parked.LARGEST_PAGE + n}"))


def head(ways: Ways, n: int) -> str:
    """One request by hand, whose request line and headers are just as long."""
    fixed = len("/health/live") + len("host") + len("x") + 4 + len("x") + 4
    value = "a" * (protocol.MAX_HEAD_BYTES - fixed + n)
    raw = f"GET /health/live HTTP/1.1\r\nHost: x\r\nx: {value}\r\n\r\n".encode()
    return by_hand(ways.port, raw)


def by_hand(port: int, raw: bytes) -> str:
    """What the API answers to bytes: taken, or status and kind, which has to be in the one shape."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(raw)
        answer = b""
        while b"\r\n\r\n" not in answer or not answer.partition(b"\r\n\r\n")[2]:
            more = connection.recv(65_536)
            if not more:
                break
            answer += more
    top, _, content = answer.partition(b"\r\n\r\n")
    status = int(top.split()[1])
    if status == 200:
        return TAKEN
    assert b"content-type: application/problem+json" in top.lower()
    found = json.loads(content)
    assert found["status"] == status
    return f"{status} {found['type'].partition('#')[2]}"


def command(_: Ways, n: int) -> str:
    most = msgspec.json.schema(commands.Items)["$defs"]["Items"]["properties"]["items"]["maxItems"]
    items = [{"contact_id": "ada", "due": "2026-01-01T00:00:00.000Z"}] * (most + n)
    try:
        commands.read(msgspec.json.encode({"id": "1", "type": "engagement.expire", "data": {"items": items}}))
    except msgspec.DecodeError:
        return "undecodable"
    return TAKEN


def inflated(_: Ways, n: int) -> str:
    around = len(bombs.record(0, bytes(wire.MOST))) - wire.MOST
    raw = bombs.batch(bombs.GZIP, [bombs.record(0, bytes(wire.MOST - around + n))])

    async def read() -> list[Any]:
        place = aiokafka.TopicPartition("t", 0)
        memory = wire.Memory(raw)
        return list(
            fetcher.PartitionRecords(place, memory, None, 0, None, None, True, fetcher.READ_COMMITTED)
        )

    (found,) = asyncio.run(read())
    return "undecodable" if isinstance(found.value, records.Unread) else TAKEN


def batch(ways: Ways, n: int) -> str:
    """A batch of records of this size, as a client would send it."""
    most = topics.MAX_MESSAGE_BYTES
    around = len(bombs.batch(0, [bombs.record(0, bytes(most))])) - most
    raw = bombs.batch(0, [bombs.record(0, bytes(most - around + n))])
    assert len(raw) == most + n
    try:
        asyncio.run(bombs.send(ways.bootstrap, topics.EMAIL_ACTIVITY, 0, raw))
    except aiokafka.errors.MessageSizeTooLargeError:
        return "refused by Kafka"
    return TAKEN


def homes(_: Ways, n: int) -> str:
    try:
        settings.Settings.load({"HEED_HOMES": str(1024 + n)})
    except errors.Usage as error:
        return f"exit {error.exit_code}"
    return TAKEN


LIMITS = {
    "event-bytes": Limit(
        "an event", f"{admission.MAX_BYTES:,} bytes", "invalid", lambda _, n: told(sized(n))
    ),
    "event-nesting": Limit(
        "nesting of an event", f"{admission.MAX_DEPTH} levels", "undecodable", lambda _, n: told(nested(n))
    ),
    "id": member("id"),
    "source": member("source"),
    "contact-id": Limit(
        "a contact id",
        "64 of `A-Z a-z 0-9 _ . ~ -`",
        "invalid",
        lambda _, n: told(samples.event(subject=identity.CONTACT + "x" * (64 + n))),
    ),
    "mailing-id": field("mail.sent", "mailing_id"),
    "message-id": field("mail.sent", "message_id"),
    "url": field("mail.clicked", "url"),
    "email": field("mail.bounced", "email"),
    "version": Limit(
        "the version in `dataschema`",
        "the newest in [events.md](events.md)",
        "newer_version",
        lambda _, n: told(samples.event(dataschema=f"urn:heed:mail.clicked:{1 + n}")),
    ),
    "time-first": time(
        "the earliest `time`",
        "the first instant of year 1, UTC",
        "0001-01-01T00:00:00Z",
        "0001-01-01T00:00:00+00:01",
        TAKEN,
        "unstorable",
    ),
    "time-last": time(
        "the latest `time`",
        "the last millisecond of year 9999, UTC",
        "9999-12-31T23:59:59.999Z",
        "9999-12-31T23:59:59.999-00:01",
        "future",
        "unstorable",
    ),
    "time-ahead": Limit(
        "`time` ahead of the acceptance",
        f"`HEED_AHEAD_SECONDS`, {settings.Settings().ahead_seconds} unless set",
        "future",
        ahead,
    ),
    "request-bytes": Limit(
        "the body of a request", f"{bodies.MAX_BYTES:,} bytes", "413 too-large", lambda w, n: post(w, body(n))
    ),
    "request-inflated": Limit(
        "a gzipped body, inflated",
        f"{bodies.MAX_BYTES:,} bytes",
        "413 too-large",
        lambda w, n: post(w, gzip.compress(body(n)), **{"content-encoding": "gzip"}),
    ),
    "request-head": Limit(
        "address and headers of a request",
        f"{protocol.MAX_HEAD_BYTES:,} bytes",
        "431 head-too-large",
        head,
    ),
    "idempotency-key": Limit(
        "`Idempotency-Key`",
        f"{ingest.MAX_KEY_CHARACTERS} visible ASCII characters",
        "400 wrong-parameter",
        lambda w, n: post(
            w,
            samples.encode(samples.event()),
            **{"idempotency-key": "k" * (ingest.MAX_KEY_CHARACTERS + n)},
        ),
    ),
    "waiting-bytes": Limit(
        "bodies that wait for Kafka, of one API process",
        f"{ingest.MAX_WAITING_BYTES >> 20} MiB",
        "429 too-many-requests",
        waiting,
    ),
    "page": Limit("items on a page", f"{parked.LARGEST_PAGE:,}", "400 wrong-parameter", page),
    "batch-bytes": Limit(
        "a batch of records sent to a door (`max.message.bytes`)",
        f"{topics.MAX_MESSAGE_BYTES:,} bytes",
        "refused by Kafka",
        batch,
    ),
    "batch-inflated": Limit(
        "a compressed batch of records, inflated", f"{wire.MOST >> 20} MiB", "undecodable", inflated
    ),
    "command-contacts": Limit("contacts in a command", "1,000", "undecodable", command),
    "homes": Limit("homes (`HEED_HOMES`)", "1,024", "exit 2", homes),
}


@pytest.mark.parametrize("name", LIMITS)
def test_up_to_the_limit_is_taken(name: str, ways: Ways) -> None:
    assert LIMITS[name].try_(ways, 0) == LIMITS[name].up_to


@pytest.mark.parametrize("name", LIMITS)
def test_one_past_the_limit_is_not_and_the_reason_is_named(name: str, ways: Ways) -> None:
    assert LIMITS[name].try_(ways, 1) == LIMITS[name].past


def test_the_page_is_this_table() -> None:
    rows = ["| limit | what | at most | past it |", "|---|---|---|---|"]
    rows += [f"| {name} | {one.what} | {one.most} | {shown(one.past)} |" for name, one in LIMITS.items()]
    wanted = "\n".join(rows) + "\n\n"
    assert wanted in PAGE.read_text(), f"docs/limits.md has to say:\n\n{wanted}"


def shown(past: str) -> str:
    """The consequence, as a link to where it is explained."""
    status, _, kind = past.partition(" ")
    if kind in {one.name for one in problems.KINDS}:
        return f"{status} [{kind}](errors.md#{kind})"
    return f"`{past}`" if past in set(errors.Reason) else past


@pytest.mark.parametrize(
    "raw",
    [
        b"rubbish\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\0 HTTP/1.1\r\n\r\n",
        b"\0" * 99,
    ],
)
def test_bytes_that_are_no_http_are_answered_in_the_one_shape(raw: bytes, ways: Ways) -> None:
    assert by_hand(ways.port, raw) == "400 bad-request"


def test_a_head_that_never_ends_is_cut_off(ways: Ways) -> None:
    """Just so much is sent that all of it is read: an answer to a client that goes on sending may be lost."""
    most = protocol.MAX_HEAD_BYTES
    for start, size in (
        (b"GET /", most),
        (b"GET / HTTP/1.1\r\nx", 2 * most),
        (b"GET / HTTP/1.1\r\nx: ", 2 * most),
    ):
        assert by_hand(ways.port, start + b"a" * size) == "431 head-too-large"
