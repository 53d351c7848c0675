"""As of a past instant, and the facts behind the numbers: over HTTP, and by the command line's own way."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg import rows

from api import explain, problems, servers
from tests.integration import engagement_world as world

NOW, DAY, MS = world.NOW, world.DAY, timedelta(milliseconds=1)
NULLS = dict.fromkeys(
    ("date_first_click", "date_last_click", "recency", "frequency", "volume", "volume_last_30")
)


@pytest.fixture
def sql(database: str) -> Iterator[psycopg.Connection[rows.DictRow]]:
    with world.connected(database) as connection:
        yield connection


def ids(facts: list[dict[str, Any]]) -> list[str]:
    return [fact["id"] for fact in facts]


@pytest.mark.capability("LAW-5")
async def test_the_row_as_of_an_instant(database: str, sql: psycopg.Connection[rows.DictRow]) -> None:
    for days in (1, 40, 400):
        world.tell(sql, "ada", "mail.clicked", f"m{days}", NOW - days * DAY)
        world.tell(sql, "ada", "mail.delivered", f"m{days}", NOW - days * DAY)
    then = NOW - 39 * DAY
    async with world.api(database) as client:
        answer = (await client.get("/v1/contacts/ada/engagement", params={"as_of": then.isoformat()})).json()
        offset = then.astimezone(world.INDIA).isoformat()
        same = (await client.get("/v1/contacts/ada/engagement", params={"as_of": offset})).json()
        before = (
            await client.get("/v1/contacts/ada/engagement", params={"as_of": "0001-01-01T00:00:00Z"})
        ).json()
    assert (
        answer
        == same
        == {
            "contact_id": "ada",
            "date_first_click": world.seen(NOW - 400 * DAY),
            "date_last_click": world.seen(NOW - 40 * DAY),
            "recency": 1,
            "frequency": 2,
            "volume": 2,
            "volume_last_30": 1,
            "period_months": 12,
            "date_calculated": world.seen(then),
        }
    )
    assert {name: before[name] for name in NULLS} == NULLS
    assert before["date_calculated"] == "0001-01-01T00:00:00.000Z"


@pytest.mark.capability("LAW-5")
@pytest.mark.parametrize("route", ["engagement", "engagement/explain"])
@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "yesterday",
        "2026-01-31",
        "2026-01-31T09:00:00",
        "2026-01-31T09:00:00 02:00",
        "10000-01-01T00:00:00Z",
    ],
)
async def test_an_instant_is_rfc_3339_with_a_zone(database: str, route: str, wrong: str) -> None:
    async with world.api(database) as client:
        response = await client.get(f"/v1/contacts/ada/{route}", params={"as_of": wrong})
    assert (response.status_code, response.json()["type"]) == (400, problems.WRONG_PARAMETER.uri)
    assert "as_of: an instant as RFC 3339 with a zone" in response.json()["detail"]


@pytest.mark.capability("LAW-5")
@pytest.mark.parametrize("route", ["engagement", "engagement/explain"])
async def test_what_is_yet_to_come_is_not_answered(database: str, route: str) -> None:
    now = datetime.now(UTC)
    async with world.api(database) as client:
        past = await client.get(f"/v1/contacts/ada/{route}", params={"as_of": now.isoformat()})
        ahead = (now + timedelta(seconds=60)).isoformat()
        response = await client.get(f"/v1/contacts/ada/{route}", params={"as_of": ahead})
    assert past.status_code == 200
    assert (response.status_code, response.json()["type"]) == (400, problems.WRONG_PARAMETER.uri)
    assert "yet to come" in response.json()["detail"]


async def test_each_number_has_the_facts_behind_it(
    database: str, sql: psycopg.Connection[rows.DictRow]
) -> None:
    once = world.tell(sql, "ada", "mail.clicked", "m1", NOW - 3 * DAY)
    twice = [world.tell(sql, "ada", "mail.clicked", "m2", NOW - n * DAY) for n in (9, 8)]
    sent = world.tell(sql, "ada", "mail.delivered", "m1", NOW - 40 * DAY)
    async with world.api(database) as client:
        answer = (await client.get("/v1/contacts/ada/engagement/explain")).json()
        then = {"as_of": (NOW - 4 * DAY).isoformat()}
        past = (await client.get("/v1/contacts/ada/engagement/explain", params=then)).json()
    assert list(answer) == ["contact_id", "date_calculated", *explain.FIELDS, "together", "truncated"]
    fact = {"source": "/tests", "id": once, "type": "mail.clicked", "time": world.seen(NOW - 3 * DAY)}
    assert answer["frequency"] == answer["date_last_click"] == answer["recency"] == [fact]
    assert ids(answer["date_first_click"]) == [twice[0]]
    assert ids(answer["volume"]) == [sent]
    assert answer["volume_last_30"] == []
    assert {field: [ids(unit) for unit in units] for field, units in answer["together"].items()} == {
        "frequency": [twice[::-1]]
    }
    assert answer["truncated"] is False
    assert past["date_calculated"] == world.seen(NOW - 4 * DAY)
    assert past["frequency"] == []
    assert ids(past["date_last_click"]) == ids(past["recency"]) == [twice[1]]


async def test_nothing_is_behind_what_is_not_there(database: str) -> None:
    async with world.api(database) as client:
        answer = (await client.get("/v1/contacts/nobody/engagement/explain")).json()
        ill = await client.get("/v1/contacts/a@b/engagement/explain")
    assert {field: answer[field] for field in explain.FIELDS} == {field: [] for field in explain.FIELDS}
    assert (answer["together"], answer["truncated"]) == ({}, False)
    assert (ill.status_code, ill.json()["type"]) == (404, problems.NO_CONTACT_ID.uri)


async def test_many_facts_are_cut_short_and_said_so(
    database: str, sql: psycopg.Connection[rows.DictRow], monkeypatch: pytest.MonkeyPatch
) -> None:
    world.tell_many(sql, "hot", 20_000)
    async with world.api(database) as client:
        answer = (await client.get("/v1/contacts/hot/engagement/explain")).json()
        few = (await client.get("/v1/contacts/hot/engagement/explain", params={"limit": 7})).json()
        none = await client.get("/v1/contacts/hot/engagement/explain", params={"limit": 0})
        monkeypatch.setattr(servers, "_BOUNDED", b"select set_config('statement_timeout', '5ms', true)")
        slow = await client.get("/v1/contacts/hot/engagement/explain")
    assert (answer["truncated"], len(answer["frequency"])) == (True, 1_000)
    assert (few["truncated"], len(few["frequency"]), len(few["volume"])) == (True, 7, 0)
    assert none.status_code == 400
    assert (slow.status_code, slow.json()["type"]) == (422, problems.TOO_SLOW.uri)
