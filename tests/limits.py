"""How the limits of docs/limits.md are tried: `n` past one (0: up to it), and what came of it.

Called by tests/integration/test_limits.py, which has the table.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import aiokafka
import aiokafka.errors
import httpx
import msgspec
import psycopg
from aiokafka.consumer import fetcher
from litestar import Litestar
from litestar.testing import TestClient

from api import bodies, ingest, json_body, keys, problems, protocol
from deploy.stack import dashboard_dsn
from projections import records
from schemas import admission, commands, contracts, envelope, errors, events, settings, topics
from streams import wire
from tests import bombs
from tests.unit import samples, test_auth

TAKEN = "taken"
RATE = 5
DASHBOARD_SECONDS = 30


class Ways:
    """What the limits are tried on: an API in this process, one as a process, Kafka."""

    def __init__(self, client: TestClient[Litestar], port: int, bootstrap: str, dsn: str) -> None:
        self.client = client
        self.port = port
        self.bootstrap = bootstrap
        self.dsn = dsn

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


def page(path: str, most: int) -> Try:
    """A `limit` of a route."""
    return lambda ways, n: ways.answered(ways.client.get(f"{path}?limit={most + n}"))


def walk(ways: Ways, **body: object) -> str:
    return ways.answered(ways.client.post("/v1/parked/redrive", json=body))


def asks(ways: Ways, n: int) -> str:
    """So many requests of one key at one instant; how the last is answered."""
    parts = ways.client.app.state.parts
    before = parts.keys
    known = test_auth.known(test_auth.Servers(test_auth.ROWS), rate=RATE, clock=lambda: 0.0)
    head = {"Authorization": f"Bearer {test_auth.TOKENS['access']}"}
    object.__setattr__(parts, "keys", known)
    try:
        answers = [ways.client.get("/v1/contacts/ada/engagement", headers=head) for _ in range(RATE + n)]
    finally:
        object.__setattr__(parts, "keys", before)
    refused = [answer for answer in answers if answer.status_code == 429]
    assert [answer.headers.get("retry-after") for answer in refused] == ["1"] * n
    return ways.answered(answers[-1])


def name_of_a_key(_: Ways, n: int) -> str:
    try:
        json_body.read(json.dumps({"name": "x" * (64 + n), "scopes": ["ingest"]}).encode(), keys.Create)
    except problems.Problem as problem:
        return f"{problem.kind.status} {problem.kind.name}"
    return TAKEN


def dashboard(ways: Ways, n: int) -> str:
    """A statement that is done a second before the bound, or would be a second past it."""
    with psycopg.connect(dashboard_dsn(ways.dsn), autocommit=True) as connection:
        try:
            connection.execute("select pg_sleep(%s)", (DASHBOARD_SECONDS - 1 + 2 * n,))
        except psycopg.errors.QueryCanceled:
            return "ended by PostgreSQL (57014)"
    return TAKEN


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
