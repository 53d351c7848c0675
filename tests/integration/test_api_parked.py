"""The routes of parked records on a real database: lists, groups, one record, and what is refused."""

from __future__ import annotations

import base64
import json
import time
import types
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import psycopg
import pytest
from psycopg import rows

from api import app, parked
from schemas import settings
from streams import producer
from tests import keyring
from tests.unit import samples

NOW = datetime.now(UTC).replace(microsecond=0)
PARKED = """
insert into heed_ops.parked
    (reason, detail, type, source, event_id, door, topic, part, off, event_time, parked_at, bytes)
select case when mod(n, 3) = 0 then 'no_subject' else 'invalid' end, 'told',
    case when n = 7 then 'mail.sent' else 'mail.clicked' end, '/tests', n::text,
    case when n <= 20 then 'email-activity' end, case when n <= 20 then 'email-activity' else 'facts' end,
    1, n, %(now)s, %(now)s - make_interval(hours => n), convert_to('secret bytes ' || n, 'UTF8')
from generate_series(1, 25) n
"""


class Kept:
    """A producer that keeps what it is given; `fail` first."""

    def __init__(self) -> None:
        self.records: list[producer.Record] = []

    async def start(self) -> None:
        return None

    async def stop(self) -> None:
        return None

    async def append(self, records: Sequence[producer.Record], timeout: float = 0) -> None:
        self.records += records


@asynccontextmanager
async def api(dsn: str, log: Kept | None = None) -> AsyncIterator[httpx.AsyncClient]:
    served = app.create_app(
        settings.Settings(kafka="127.0.0.1:1", postgres=dsn), log or Kept(), keyring.held()
    )
    transport = httpx.ASGITransport(served)  # type: ignore[arg-type]
    async with served.lifespan(), httpx.AsyncClient(transport=transport, base_url="http://heed") as client:
        yield client


@pytest.fixture
def sql(module_database: str) -> Iterator[psycopg.Connection[rows.DictRow]]:
    with psycopg.connect(module_database, autocommit=True, row_factory=rows.dict_row) as connection:
        connection.execute("truncate heed_ops.parked restart identity")
        connection.execute(PARKED, {"now": NOW})
        yield connection


def keep(sql: psycopg.Connection[rows.DictRow], *values: bytes, reason: str = "invalid") -> list[int]:
    """Park these as they would stand at a door; gives their ids."""
    place = sql.execute("select coalesce(max(off), 0) as off from heed_ops.parked").fetchone()
    assert place is not None
    found = []
    for number, raw in enumerate(values, 1):
        row = sql.execute(
            "insert into heed_ops.parked (reason, detail, door, topic, part, off, bytes)"
            " values (%s, 'told', 'email-activity', 'email-activity', 3, %s, %s) returning id",
            (reason, place["off"] + number, raw),
        ).fetchone()
        assert row is not None
        found.append(row["id"])
    return found


async def listed(client: httpx.AsyncClient, **query: Any) -> list[int]:
    answer = await client.get("/v1/parked", params=query)
    assert answer.status_code == 200, answer.text
    return [item["id"] for item in answer.json()["items"]]


@pytest.mark.capability("LAW-7")
async def test_a_list_is_paged_newest_first_and_filtered(
    module_database: str, sql: psycopg.Connection[rows.DictRow]
) -> None:
    async with api(module_database) as client:
        pages, after = [], None
        while True:
            query = {"limit": 10} | ({"after": after} if after else {})
            page = (await client.get("/v1/parked", params=query)).json()
            pages.append([item["id"] for item in page["items"]])
            after = page["next"]
            if after is None:
                break
            assert isinstance(after, str)
        assert pages == [list(range(25, 15, -1)), list(range(15, 5, -1)), list(range(5, 0, -1))]
        assert await listed(client, reason="no_subject") == [24, 21, 18, 15, 12, 9, 6, 3]
        assert await listed(client, type="mail.sent") == [7]
        assert await listed(client, topic="facts") == [25, 24, 23, 22, 21]
        assert await listed(client, topic="facts", reason="no_subject") == [24, 21]
        assert await listed(client, door="email-activity", limit=2) == [20, 19]
        three = (NOW - timedelta(hours=3)).isoformat()
        assert await listed(client, parked_since=three) == [3, 2, 1]
        assert await listed(client, parked_before=three, limit=1000) == list(range(25, 3, -1))
        (item, *_) = (await client.get("/v1/parked", params={"reason": "no_subject"})).json()["items"]
    columns = sql.execute("select * from heed_read.parked limit 0").description or []
    assert list(item) == [column.name for column in columns]


@pytest.mark.capability("LAW-7")
async def test_the_overview_says_how_many_of_what_and_since_when(
    module_database: str, sql: psycopg.Connection[rows.DictRow]
) -> None:
    def hours(n: int) -> str:
        return (NOW - timedelta(hours=n)).strftime("%Y-%m-%dT%H:%M:%S.000Z")

    async with api(module_database) as client:
        found = (await client.get("/v1/parked/overview")).json()
        first = (await client.get("/v1/parked/overview", params={"limit": 1})).json()
        facts = (await client.get("/v1/parked/overview", params={"topic": "facts"})).json()
        sql.execute("truncate heed_ops.parked")
        nothing = (await client.get("/v1/parked/overview")).json()
    assert (found["total"], found["groups"], len(found["items"])) == (25, 5, 5)
    assert found["items"][0] == {
        "reason": "invalid", "type": "mail.clicked", "door": "email-activity", "topic": "email-activity",
        "count": 13, "oldest": hours(20), "newest": hours(1),
    }  # fmt: skip
    assert (first["total"], first["groups"], first["items"]) == (25, 5, found["items"][:1])
    assert {(one["reason"], one["door"], one["count"]) for one in facts["items"]} == {
        ("invalid", None, 3),
        ("no_subject", None, 2),
    }
    assert nothing == {"total": 0, "groups": 0, "items": []}


@pytest.mark.capability("LAW-7")
async def test_one_record_is_shown_with_its_bytes(
    module_database: str, sql: psycopg.Connection[rows.DictRow]
) -> None:
    (broken,) = keep(sql, b"\xff\x00")
    async with api(module_database) as client:
        found = (await client.get("/v1/parked/7")).json()
        assert (found["id"], found["reason"], found["type"], found["batch"]) == (
            7,
            "invalid",
            "mail.sent",
            False,
        )
        assert (base64.b64decode(found["bytes"]), found["text"]) == (b"secret bytes 7", "secret bytes 7")
        found = (await client.get(f"/v1/parked/{broken}")).json()
        assert (base64.b64decode(found["bytes"]), found["text"]) == (b"\xff\x00", None)
        for id in ("0", "99999", "-1", "seven", "9" * 30):
            answer = await client.get(f"/v1/parked/{id}")
            assert (answer.status_code, answer.json()["type"]) == (404, "/docs/errors.md#no-parked"), id
        assert (await client.get("/v1/parked/overview?limit=1")).status_code == 200


@pytest.mark.parametrize(
    "query",
    ["reason=tired", "door=facts", "topic=elsewhere", "type=", "type=%00", "type=a%0Ab", "limit=0",
     "limit=1001", "parked_since=yesterday", "parked_before=2026-01-01T00:00:00", "age=3",
     "reason=future&reason=future", "after=-1"],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/v1/parked", "/v1/parked/overview"])
async def test_a_wrong_filter_is_refused(
    module_database: str, sql: psycopg.Connection[rows.DictRow], path: str, query: str
) -> None:
    assert sql.closed == 0
    async with api(module_database) as client:
        answer = await client.get(f"{path}?{query}")
    assert (answer.status_code, answer.json()["type"]) == (400, "/docs/errors.md#wrong-parameter"), query
    assert "tired" not in answer.text
    assert "elsewhere" not in answer.text


@pytest.mark.parametrize(
    "body",
    ["", "[]", "{}", "null", "{", '{"all": false}', '{"all": true, "reason": "future"}', '{"ids": []}',
     '{"ids": ["1"]}', '{"ids": [1], "all": true}', '{"ids": [-1]}', '{"reason": "tired"}',
     '{"type": ""}', '{"type": "a\\u0000"}', '{"door": "facts"}', '{"reason": "future", "max_seconds": 0}',
     '{"reason": "future", "max_seconds": 601}', '{"reason": "future", "after": 1}',
     '{"parked_before": "2026-01-01"}', '{"parked_before": "2026-01-01T00:00:00"}', '{"resaon": "future"}',
     '{"ids": [99999999999999999999]}'],
)  # fmt: skip
@pytest.mark.parametrize("path", ["redrive", "discard"])
async def test_a_wrong_body_is_refused_and_nothing_done(
    module_database: str, sql: psycopg.Connection[rows.DictRow], path: str, body: str
) -> None:
    log = Kept()
    async with api(module_database, log) as client:
        answer = await client.post(f"/v1/parked/{path}", content=body)
    assert (answer.status_code, answer.json()["status"]) == (400, 400), answer.text
    assert answer.json()["type"] in ("/docs/errors.md#wrong-value", "/docs/errors.md#wrong-parameter")
    assert "tired" not in answer.text
    assert log.records == []
    assert len(sql.execute("select id from heed_ops.parked").fetchall()) == 25


@pytest.mark.capability("LAW-7")
async def test_driven_again_by_number_each_with_its_outcome(
    module_database: str, sql: psycopg.Connection[rows.DictRow]
) -> None:
    good, strange, batch = keep(
        sql, samples.encode(samples.event()), samples.encode(samples.event("mail.eaten")), b"\0batch"
    )
    sql.execute("update heed_ops.parked set batch = true, detail = 'a batch' where id = %s", (batch,))
    log = Kept()
    async with api(module_database, log) as client:
        asked = {"ids": [good, strange, batch, 4711]}
        found = (await client.post("/v1/parked/redrive", json=asked)).json()
        again = (await client.post("/v1/parked/redrive", json=asked)).json()
    assert (found["driven"], found["parked"], found["gone"], found["next"]) == (1, 2, 1, None)
    by_id = {one["id"]: one for one in found["outcomes"]}
    assert by_id[good] == {"id": good, "status": "driven", "reason": None, "detail": None}
    assert (by_id[strange]["status"], by_id[strange]["reason"]) == ("parked", "unknown_type")
    assert by_id[batch] == {"id": batch, "status": "parked", "reason": "invalid", "detail": "a batch"}
    assert by_id[4711]["status"] == "gone"
    assert (again["driven"], again["parked"], again["gone"]) == (0, 2, 2)
    (record,) = log.records
    headers = dict(record.headers)
    place = sql.execute("select off from heed_ops.parked where id = %s", (strange,)).fetchone()
    assert place is not None
    assert (record.topic, record.key) == ("facts", b"contact:ada")
    assert (headers["door"], headers["partition"]) == (b"email-activity", b"3")
    assert headers["offset"] == b"%d" % (place["off"] - 1)
    row = sql.execute("select * from heed_ops.parked where id = %s", (strange,)).fetchone()
    assert row is not None
    assert (row["reason"], row["type"], row["event_id"]) == ("unknown_type", "mail.eaten", "e1")


@pytest.mark.capability("LAW-7")
async def test_a_backlog_is_walked_in_bounded_steps_and_goes_on_where_it_ended(
    module_database: str, sql: psycopg.Connection[rows.DictRow], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("projections.parked.AT_ONCE", 7)
    monkeypatch.setattr("streams.parked.MOST_OUTCOMES", 10)
    clock = types.SimpleNamespace(monotonic=iter(range(10**6)).__next__, sleep=time.sleep)  # theirs alone
    monkeypatch.setattr("streams.parked.time", clock)
    good = [samples.encode(samples.event(id=f"e{n}")) for n in range(30)]
    ids = keep(sql, *good, reason="undefined_event")
    log = Kept()
    driven, walks = 0, 0
    after: str | None = "0"
    async with api(module_database, log) as client:
        while after is not None:
            asked = {"reason": "undefined_event", "after": after, "max_seconds": 2}
            found = (await client.post("/v1/parked/redrive", json=asked)).json()
            assert len(found["outcomes"]) == min(10, found["driven"])
            driven, after, walks = driven + found["driven"], found["next"], walks + 1
    assert (driven, len(log.records)) == (30, 30)
    assert walks > 1
    assert sql.execute("select id from heed_ops.parked where id = any(%s)", (ids,)).fetchall() == []


@pytest.mark.capability("LAW-7")
async def test_discarded_is_recorded_before_it_goes(
    module_database: str, sql: psycopg.Connection[rows.DictRow]
) -> None:
    log = Kept()
    async with api(module_database, log) as client:
        found = (await client.post("/v1/parked/discard", json={"ids": [7, 24, 4711]})).json()
    assert (found["discarded"], found["parked"], found["gone"]) == (2, 0, 1)
    assert [one["status"] for one in found["outcomes"]] == ["discarded", "discarded", "gone"]
    assert sql.execute("select id from heed_ops.parked where id in (7, 24)").fetchall() == []
    facts = [json.loads(record.value) for record in log.records]
    assert {record.topic for record in log.records} == {"registry"}
    assert [(fact["type"], fact["actor"], fact["subject"]) for fact in facts] == [
        ("parked.discarded", "local", "parked:email-activity/1@7"),
        ("parked.discarded", "local", "parked:facts/1@24"),
    ]
    assert facts[0]["data"] == {"offset": 7, "part": 1, "reason": "invalid", "topic": "email-activity"}
    assert not any(b"secret" in record.value for record in log.records)


async def test_too_many_walks_are_refused(
    module_database: str, sql: psycopg.Connection[rows.DictRow], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parked, "WALKS", 0)
    async with api(module_database) as client:
        answer = await client.post("/v1/parked/redrive", json={"all": True})
    assert (answer.status_code, answer.json()["type"]) == (429, "/docs/errors.md#too-many-requests")
    assert "Retry-After" in answer.headers
    assert sql.closed == 0
