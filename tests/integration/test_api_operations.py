"""What operators ask of a real database: whether everything is there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import httpx
import psycopg
import pytest
from psycopg import rows

from api import app
from schemas import settings
from tests import keyring, stack


@asynccontextmanager
async def api(dsn: str, bootstrap: str = "127.0.0.1:1") -> AsyncIterator[httpx.AsyncClient]:
    served = app.create_app(settings.Settings(kafka=bootstrap, postgres=dsn), keys=keyring.held())
    transport = httpx.ASGITransport(served)  # type: ignore[arg-type]
    async with served.lifespan(), httpx.AsyncClient(transport=transport, base_url="http://heed") as client:
        yield client


@pytest.fixture
def sql(database: str) -> Iterator[psycopg.Connection[rows.DictRow]]:
    with psycopg.connect(database, autocommit=True, row_factory=rows.dict_row) as connection:
        yield connection


async def test_ready_wants_a_live_owner_for_every_home(
    database: str,
    servers: stack.Servers,
    sql: psycopg.Connection[rows.DictRow],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("api.operations.READY_SECONDS", 0.0)
    async with api(database, servers.bootstrap) as client:
        detail = (await client.get("/health/ready")).json()["detail"]
        assert detail == (
            "8 of 8 homes have no live worker; the topic keys has not been read to its end yet."
        )
        sql.execute(
            "insert into heed_data.position"
            " (reader, topic, part, epoch, next_offset, as_of, log_end, log_end_at, claimed_at)"
            " select 'fold', 'facts', n, 1, 0, clock_timestamp(), 0, now(), now()"
            " from generate_series(0, 7) n"
        )
        detail = (await client.get("/health/ready")).json()["detail"]
        assert detail == "the topic keys has not been read to its end yet."
        sql.execute(
            "insert into heed_ops.position"
            " (reader, topic, part, epoch, next_offset, as_of, log_end, log_end_at, claimed_at)"
            " values ('keys', 'keys', 0, 1, 7, clock_timestamp(), 7, now(), now())"
        )
        response = await client.get("/health/ready")
        assert (response.status_code, response.json()) == (200, {"status": "ready"})
        sql.execute("update heed_data.position set as_of = now() - interval '11 s' where part in (2, 5)")
        detail = (await client.get("/health/ready")).json()["detail"]
        assert detail == "2 of 8 homes have no live worker."
