"""What operators ask of a real database: what was parked, and whether everything is there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import httpx
import psycopg
import pytest
from psycopg import rows

from api import app
from schemas import settings
from tests import stack

NOW = datetime.now(UTC).replace(microsecond=0)
PARKED = """
insert into heed_ops.parked
    (reason, detail, type, source, event_id, door, topic, part, off, event_time, bytes)
select case when mod(n, 3) = 0 then 'future' else 'invalid' end, 'told', 'mail.clicked', '/tests', n::text,
    'email-activity', 'email-activity', 1, n, %s, 'secret bytes'
from generate_series(1, 25) n
"""


@asynccontextmanager
async def api(dsn: str, bootstrap: str = "127.0.0.1:1") -> AsyncIterator[httpx.AsyncClient]:
    served = app.create_app(settings.Settings(kafka=bootstrap, postgres=dsn))
    transport = httpx.ASGITransport(served)  # type: ignore[arg-type]
    async with served.lifespan(), httpx.AsyncClient(transport=transport, base_url="http://heed") as client:
        yield client


@pytest.fixture
def sql(database: str) -> Iterator[psycopg.Connection[rows.DictRow]]:
    with psycopg.connect(database, autocommit=True, row_factory=rows.dict_row) as connection:
        yield connection


async def test_parked_is_paged_newest_first_and_filtered(
    database: str, sql: psycopg.Connection[rows.DictRow]
) -> None:
    sql.execute(PARKED, (NOW,))
    async with api(database) as client:
        pages, after = [], None
        while True:
            query = {"limit": 10} | ({"after": after} if after else {})
            page = (await client.get("/v1/parked", params=query)).json()
            pages.append([int(item["event_id"]) for item in page["items"]])
            after = page["next"]
            if after is None:
                break
            assert isinstance(after, str)
        future = (await client.get("/v1/parked", params={"reason": "future"})).json()
    assert pages == [list(range(25, 15, -1)), list(range(15, 5, -1)), list(range(5, 0, -1))]
    assert [item["event_id"] for item in future["items"]] == ["24", "21", "18", "15", "12", "9", "6", "3"]
    assert future["next"] is None
    item = future["items"][0]
    columns = sql.execute("select * from heed_read.parked limit 0").description or []
    assert list(item) == [column.name for column in columns]
    assert (item["partition"], item["offset"], item["event_time"]) == (
        1,
        24,
        NOW.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
    )


async def test_ready_wants_a_live_owner_for_every_home(
    database: str,
    servers: stack.Servers,
    sql: psycopg.Connection[rows.DictRow],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("api.operations.READY_SECONDS", 0.0)
    async with api(database, servers.bootstrap) as client:
        detail = (await client.get("/health/ready")).json()["detail"]
        assert detail == "8 of 8 homes have no live worker."
        sql.execute(
            "insert into heed_data.position"
            " (reader, topic, part, epoch, next_offset, as_of, log_end, log_end_at, claimed_at)"
            " select 'fold', 'facts', n, 1, 0, clock_timestamp(), 0, now(), now()"
            " from generate_series(0, 7) n"
        )
        response = await client.get("/health/ready")
        assert (response.status_code, response.json()) == (200, {"status": "ready"})
        sql.execute("update heed_data.position set as_of = now() - interval '11 s' where part in (2, 5)")
        detail = (await client.get("/health/ready")).json()["detail"]
        assert detail == "2 of 8 homes have no live worker."
