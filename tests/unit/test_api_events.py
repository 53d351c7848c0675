"""Events by HTTP: each is answered by itself, in the order sent, and only what the log has is a 202."""

from __future__ import annotations

import asyncio
import gzip
import json
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from litestar import Litestar
from litestar.testing import TestClient

from api import app, ingest, problems
from schemas import envelope, errors, metrics, settings, topics
from streams import producer
from tests import keyring

JSON = {"content-type": "application/json"}
BATCH = {"content-type": "application/cloudevents-batch+json"}
ONE = {"content-type": "application/cloudevents+json"}
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Kept:
    """A producer that keeps what it is given; `error` makes it fail, `gate` makes it wait."""

    def __init__(self) -> None:
        self.appended: list[list[producer.Record]] = []
        self.error: Exception | None = None
        self.gate: asyncio.Event | None = None

    async def start(self) -> None: ...
    async def stop(self) -> None: ...

    async def append(self, records: Sequence[producer.Record], timeout: float = 0) -> None:
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        self.appended.append(list(records))


@pytest.fixture
def log() -> Kept:
    return Kept()


def application(log: Kept) -> Litestar:
    chosen = settings.Settings(kafka="127.0.0.1:1", postgres="postgresql://nobody@127.0.0.1:1/none")
    return app.create_app(chosen, log, keyring.held())


@pytest.fixture
def client(log: Kept) -> Iterator[TestClient[Litestar]]:
    with TestClient(application(log)) as client:
        yield client


def click(id: str | None = "1", contact: str = "contact:ada", **more: Any) -> dict[str, Any]:
    event = {
        "specversion": "1.0",
        "type": "mail.clicked",
        "source": "/tests",
        "subject": contact,
        "time": "2026-01-31T09:00:00Z",
        "data": {"mailing_id": "m1", "url": "https://example.org/"},
        **more,
    }
    return event if id is None else {"id": id, **event}


def outcomes(response: httpx.Response, status: int = 202) -> list[dict[str, Any]]:
    assert response.status_code == status, response.text
    found: list[dict[str, Any]] = response.json()["outcomes"]
    assert all(list(one) == ["id", "status", "reason", "detail"] for one in found)
    return found


def accepted(id: str) -> dict[str, Any]:
    return {"id": id, "status": "accepted", "reason": None, "detail": None}


def facts(log: Kept) -> list[envelope.Fact]:
    return [envelope.read_fact(r.value) for some in log.appended for r in some if r.topic == topics.FACTS]


@pytest.mark.parametrize(
    "headers", [ONE, JSON, {"content-type": "application/cloudevents+json; charset=UTF-8"}]
)
def test_one_event_becomes_one_record_of_its_home(
    client: TestClient[Litestar], log: Kept, headers: dict[str, str]
) -> None:
    assert outcomes(client.post("/v1/events", content=json.dumps(click()), headers=headers)) == [
        accepted("1")
    ]
    ((record,),) = log.appended
    assert (record.topic, record.partition) == ("facts", topics.home("contact:ada", 8))
    assert record.key == b"contact:ada"
    assert list(record.headers) == [("door", b"email-activity")]
    (fact,) = facts(log)
    assert (fact.id, fact.source, fact.type) == ("1", "/tests", "mail.clicked")
    assert abs(datetime.now(UTC) - fact.accepted) < timedelta(seconds=10)


@pytest.mark.parametrize("headers", [BATCH, JSON])
def test_a_batch_is_answered_event_by_event_in_its_order(
    client: TestClient[Litestar], log: Kept, headers: dict[str, str]
) -> None:
    soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    events: list[Any] = [
        click("a"),
        click("b", type="mail.dreamt"),
        click("c", contact="mail:ada@example.org"),
        click("d", data={"mailing_id": "m1"}),
        click("e", time=soon),
        [click("f")],
        None,
        click("g", data={"mailing_id": "m", "url": "u" * 40_000}),
        click("h", dataschema="urn:heed:mail.clicked:7"),
        click("i", type="segment.entered"),
        click("j", time="9999-12-31T23:59:59-01:00"),
        click("k"),
    ]
    found = outcomes(client.post("/v1/events", json=events, headers=headers))
    assert [(one["status"], one["reason"]) for one in found] == [
        ("accepted", None),
        ("refused", "unknown_type"),
        ("parked", "no_subject"),
        ("refused", "invalid"),
        ("parked", "future"),
        ("refused", "invalid"),
        ("refused", "invalid"),
        ("refused", "invalid"),
        ("refused", "newer_version"),
        ("refused", "wrong_door"),
        ("refused", "unstorable"),
        ("accepted", None),
    ]
    assert [one["id"] for one in found if one["status"] != "refused"] == ["a", "c", "e", "k"]
    assert all(one["detail"] for one in found if one["status"] != "accepted")
    ((first, no_subject, future, last),) = log.appended
    assert (first.topic, last.topic) == ("facts", "facts")
    for parked, id in ((no_subject, "c"), (future, "e")):
        assert (parked.topic, parked.partition, parked.key) == ("email-activity", None, None)
        assert json.loads(parked.value)["id"] == id


@pytest.mark.capability("IDN-1")
def test_an_identification_is_acknowledged_together_with_its_links(
    client: TestClient[Litestar], log: Kept
) -> None:
    before = metrics.ADMITTED.labels("http")._value.get()
    data = {"emails": ["ada@example.org"], "phones": ["+44 20 7946 0018"]}
    found = outcomes(client.post("/v1/events", json=[click("i", type="contact.identified", data=data)]))
    assert [one["status"] for one in found] == ["accepted"]
    ((fact, email, phone),) = log.appended
    assert [one.topic for one in (fact, email, phone)] == ["facts", "registry", "registry"]
    assert fact.key == b"contact:ada"
    assert [(one.key or b"").partition(b":")[0] for one in (email, phone)] == [b"email", b"phone"]
    assert all(json.loads(one.value)["data"]["contact_id"] == "ada" for one in (email, phone))
    assert not any(b"@" in one.value or b"7946" in one.value for one in (fact, email, phone))
    assert metrics.ADMITTED.labels("http")._value.get() == before + 1


def test_an_item_that_breaks_the_json_of_its_batch_refuses_no_other(
    client: TestClient[Litestar], log: Kept
) -> None:
    good = json.dumps(click("good"))
    body = f'[{good}, {{"n": NaN}}, {"[" * 50_000}{"]" * 50_000}, {good.replace("good", "also")}]'
    found = outcomes(client.post("/v1/events", content=body, headers=BATCH))
    assert [(one["status"], one["reason"]) for one in found] == [
        ("accepted", None),
        ("refused", "undecodable"),
        ("refused", "invalid"),
        ("accepted", None),
    ]
    assert [fact.id for fact in facts(log)] == ["good", "also"]


def test_when_nothing_is_taken_the_answer_is_a_400_with_the_same_outcomes(
    client: TestClient[Litestar], log: Kept
) -> None:
    before = metrics.REFUSED.labels("invalid")._value.get()
    found = outcomes(client.post("/v1/events", json=[click("a", data={}), {}]), status=400)
    assert [(one["id"], one["status"], one["reason"]) for one in found] == [
        ("a", "refused", "invalid"),
        (None, "refused", "invalid"),
    ]
    assert log.appended == []
    assert metrics.REFUSED.labels("invalid")._value.get() == before + 2


def test_a_body_that_should_be_a_batch_and_is_none_has_one_outcome(client: TestClient[Litestar]) -> None:
    (found,) = outcomes(client.post("/v1/events", json=click(), headers=BATCH), status=400)
    assert (found["id"], found["reason"]) == (None, "undecodable")


def test_an_empty_batch_is_taken(client: TestClient[Litestar], log: Kept) -> None:
    assert outcomes(client.post("/v1/events", json=[], headers=BATCH)) == []
    assert log.appended == []


def test_a_binary_event_is_the_same_as_a_structured_one(client: TestClient[Litestar], log: Kept) -> None:
    event = click()
    headers = {f"ce-{name}": value for name, value in event.items() if name != "data"}
    headers["traceparent"] = TRACE
    outcomes(client.post("/v1/events", content=json.dumps(event["data"]), headers=JSON | headers))
    outcomes(client.post("/v1/events", json=event))
    (binary,), (structured,) = log.appended
    assert facts(log)[0].digest == facts(log)[1].digest
    assert (binary.key, binary.partition) == (structured.key, structured.partition)
    assert binary.headers == [("door", b"email-activity"), ("traceparent", TRACE.encode())]


def test_traceparent_of_the_event_goes_before_the_request_s(client: TestClient[Litestar], log: Kept) -> None:
    own = TRACE.replace("b7", "c8")
    events = [click("1", traceparent=own), click("2")]
    client.post("/v1/events", json=events, headers={"traceparent": TRACE})
    client.post("/v1/events", json=click("3"), headers={"traceparent": "x" * 4000})
    sent = [dict(record.headers).get("traceparent") for some in log.appended for record in some]
    assert sent == [own.encode(), TRACE.encode(), None]


def test_ids_come_from_the_idempotency_key_and_the_place(client: TestClient[Litestar], log: Kept) -> None:
    events = [click(None), click("mine"), click(None)]
    first, again, other = (
        outcomes(client.post("/v1/events", json=events, headers={"idempotency-key": key})) for key in "aab"
    )
    assert first == again
    assert [one["id"] for one in first][1] == "mine"
    assert uuid.UUID(first[0]["id"]).version == 5
    ids = {one["id"] for one in first} | {one["id"] for one in other}
    assert len(ids) == 5
    assert {fact.id for fact in facts(log)} == ids


def test_without_id_and_time_both_are_made_and_the_id_is_answered(
    client: TestClient[Litestar], log: Kept
) -> None:
    event = click(None)
    del event["time"]
    (found,) = outcomes(client.post("/v1/events", json=event))
    (fact,) = facts(log)
    assert uuid.UUID(found["id"]).version == 7
    assert fact.id == found["id"]
    assert fact.time == fact.accepted


def test_gzip_is_taken(client: TestClient[Litestar], log: Kept) -> None:
    body = gzip.compress(json.dumps([click(str(n)) for n in range(2000)]).encode())
    found = outcomes(client.post("/v1/events", content=body, headers={**BATCH, "content-encoding": "gzip"}))
    assert [one["id"] for one in found] == [str(n) for n in range(2000)]
    assert [fact.id for fact in facts(log)] == [str(n) for n in range(2000)]


def test_without_the_log_nothing_is_promised(client: TestClient[Litestar], log: Kept) -> None:
    log.error = errors.Away()
    response = client.post("/v1/events", json=[click("a"), click("b", data={})])
    assert response.status_code == 503
    assert response.json()["type"] == problems.LOG_AWAY.uri
    assert int(response.headers["retry-after"]) > 0
    assert "outcomes" not in response.json()
    assert outcomes(client.post("/v1/events", json=click("b", data={})), status=400)
    log.error = None
    assert outcomes(client.post("/v1/events", json=click("a"))) == [accepted("a")]


def test_what_is_put_on_the_log_is_counted(client: TestClient[Litestar]) -> None:
    before = metrics.ADMITTED.labels("http")._value.get()
    client.post("/v1/events", json=[click("a"), click("b"), click("c", contact="other:9"), {}])
    assert metrics.ADMITTED.labels("http")._value.get() == before + 2
    assert metrics.check() == []


async def test_what_waits_for_the_log_is_bounded(log: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "MAX_WAITING_BYTES", 1000)
    log.gate = asyncio.Event()
    served = application(log)
    transport = httpx.ASGITransport(served)  # type: ignore[arg-type]
    async with served.lifespan(), httpx.AsyncClient(transport=transport, base_url="http://heed") as client:
        sent = [asyncio.create_task(client.post("/v1/events", json=click(str(n)))) for n in range(20)]
        await asyncio.wait(sent, timeout=0.5)
        log.gate.set()
        found = [(await task).status_code for task in sent]
        assert set(found) == {202, 429}
        assert 1 <= found.count(202) <= 5
        assert (
            await client.post("/v1/events", json=click())
        ).status_code == 202  # and the room is free again
