"""Contacts by their engagement, over a real database: every filter, every order, every page."""

from __future__ import annotations

import itertools
import operator
import random
from datetime import timedelta
from typing import Any

import httpx
import psycopg
import pytest
from psycopg import rows

from api import engagement, engagement_list, problems, servers
from tests.integration import engagement_world as world

NOW, DAY = world.NOW, world.DAY
COUNT = 60
SORTS = [sign + column for column in engagement_list.COLUMNS for sign in ("", "-")]
COMPARE = {"": operator.eq, "_gte": operator.ge, "_gt": operator.gt, "_lte": operator.le, "_lt": operator.lt}
ADD = """
insert into heed_data.engagement
    (contact_id, home, date_first_click, date_last_click, frequency, volume, volume_last_30, period_months,
    valid_until)
values (%s, %s, %s, %s, %s, %s, %s, 12, now() + interval '9 days')
"""
Row = dict[str, Any]


def fill(database: str, seed: int = 7) -> None:
    """Rows with few values, so that equals are common; some without a click, some past their time."""
    dice = random.Random(seed)
    with world.connected(database) as sql:
        sql.execute("update heed_data.rule set keep_row_without_clicks = true")
        for number in range(COUNT):
            last = (
                NOW - dice.choice([0, 1, 1, 29, 30, 200]) * DAY - timedelta(seconds=dice.choice([5, 40_000]))
            )
            dates = (None, None) if number % 9 == 0 else (last - dice.choice([0, 1]) * DAY, last)
            frequency = 0 if number % 9 == 0 else dice.randrange(1, 4)
            volumes = dice.randrange(1, 4), dice.randrange(3)
            sql.execute(ADD, (name(number), number % 8, *dates, frequency, *volumes))
        for number in range(COUNT, COUNT + 10):
            lapse(sql, name(number), number)


def name(number: int) -> str:
    return f"{'cBd'[number % 3]}{number:03}"


def lapse(sql: psycopg.Connection[rows.DictRow], contact: str, number: int) -> None:
    """A row past its time: half of what it says has left its windows, or all of it."""
    world.tell(sql, contact, "mail.clicked", "m1", NOW - 20 * DAY)
    world.tell(sql, contact, "mail.clicked", "m2", NOW - 10 * DAY)
    world.fold(sql, contact, number % 8)
    gone = ("m1", "m2") if number % 3 == 0 else ("m1",)
    sql.execute(
        "update heed_data.fact set time = time - interval '2 years' where subject = %s and mailing = any(%s)",
        (f"contact:{contact}", list(gone)),
    )
    sql.execute("update heed_data.engagement set valid_until = now() where contact_id = %s", (contact,))


async def pages(client: httpx.AsyncClient, **query: Any) -> list[Row]:
    """All pages, one behind the other."""
    found: list[Row] = []
    after: dict[str, str] = {}
    while True:
        response = await client.get("/v1/engagement", params={**query, **after})
        assert response.status_code == 200, response.text
        page = response.json()
        found += page["items"]
        if page["next"] is None:
            return found
        assert page["items"]
        after = {"after": page["next"]}


async def singly(client: httpx.AsyncClient) -> list[Row]:
    """The rows as each contact's own address answers them."""
    found = []
    for number in range(COUNT + 10):
        row = (await client.get(f"/v1/contacts/{name(number)}/engagement")).json()
        if row["frequency"] is not None:
            found.append(row)
    return found


def plain(found: list[Row]) -> list[Row]:
    return [{key: value for key, value in row.items() if key != "date_calculated"} for row in found]


def ordered(found: list[Row], sort: str) -> list[Row]:
    """By the rule as it is told: equals by contact_id; recency by the click; no click is longest ago."""
    column, falls = sort.removeprefix("-"), sort.startswith("-")
    by_contact = sorted(found, key=lambda row: row["contact_id"])
    if column == "contact_id":
        return by_contact[::-1] if falls else by_contact
    if column == "recency":
        column, falls = "date_last_click", not falls
    numeric = column in engagement_list.NUMBERS
    return sorted(by_contact, key=lambda row: row[column] if numeric else row[column] or "", reverse=falls)


async def test_every_order_page_by_page(database: str) -> None:
    async with world.api(database) as client:
        fill(database)
        rows = plain(await singly(client))
        assert 55 < len(rows) < COUNT + 10, "some are no more"
        for sort in SORTS:
            assert plain(await pages(client, sort=sort, limit=7)) == ordered(rows, sort), sort


async def test_every_filter_alone_and_two_together(database: str) -> None:
    async with world.api(database) as client:
        fill(database)
        rows = plain(await singly(client))
        whole = sorted(rows, key=lambda row: row["contact_id"])
        filters: list[tuple[str, str, Any]] = []
        for column, (suffix, _) in itertools.product(engagement_list.COLUMNS, COMPARE.items()):
            values = sorted({row[column] for row in rows if row[column] is not None})
            filters += [(column, suffix, value) for value in (values[0], values[len(values) // 2])]
        dice = random.Random(11)
        for chosen in [*([one] for one in filters), *(dice.sample(filters, 2) for _ in range(40))]:
            query = {column + suffix: value for column, suffix, value in chosen}
            if len(query) < len(chosen):
                continue
            wanted = [row for row in whole if all(passes(row, *one) for one in chosen)]
            assert plain(await pages(client, **query)) == wanted, query


def passes(row: Row, column: str, suffix: str, value: Any) -> bool:
    return row[column] is not None and bool(COMPARE[suffix](row[column], value))


async def test_recency_is_cut_at_its_24_hours(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world.api(database) as client:
        with world.connected(database) as sql:
            now = sql.execute("select date_trunc('milliseconds', clock_timestamp()) as t").fetchall()[0]["t"]
            for contact, ago in (
                ("a", 30 * DAY - timedelta(minutes=5)),
                ("b", 30 * DAY),
                ("c", -timedelta(minutes=4)),
            ):
                sql.execute(ADD, (contact, 0, now - ago, now - ago, 1, 0, 0))
        for query, wanted in (
            ({"recency_lt": 30}, ["a", "c"]),
            ({"recency_gte": 30}, ["b"]),
            ({"recency": 29}, ["a"]),
            ({"recency_lte": 0}, ["c"]),
            ({"recency_gte": 0}, ["a", "b", "c"]),
            ({"recency_lt": 0}, []),
            ({"recency_gt": 1_000_000}, []),
        ):
            found = await pages(client, **query)
            assert [row["contact_id"] for row in found] == wanted, query


async def test_a_row_that_does_not_change_stands_on_one_page_whatever_changes(database: str) -> None:
    """While pages are read, others come, go and move to and fro over the place that is read."""
    async with world.api(database) as client:
        fill(database)
        still = {name(number) for number in range(0, COUNT, 2)}
        for sort in ("-frequency", "recency", "contact_id", "volume"):
            seen: list[str] = []
            after: dict[str, str] = {}
            step = 0
            while True:
                page = (await client.get("/v1/engagement", params={"sort": sort, "limit": 5, **after})).json()
                seen += [row["contact_id"] for row in page["items"]]
                if page["next"] is None:
                    break
                after = {"after": page["next"]}
                step += 1
                with world.connected(database) as sql:
                    moving = [name(number) for number in range(1, COUNT, 2)]
                    sql.execute(
                        "update heed_data.engagement"
                        " set frequency = (frequency + %s) %% 5, volume = volume + 1"
                        " where contact_id = any(%s) and frequency > 0",
                        (step, moving),
                    )
                    sql.execute(ADD, (f"new-{sort}-{step}", 0, NOW, NOW, 1 + step % 4, 1, 1))
            assert all(seen.count(contact) == 1 for contact in still), sort


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ({"frequency": "many"}, "frequency: a whole number from 0"),
        ({"frequency_gte": "1.5"}, "frequency_gte: a whole number"),
        ({"recency_lt": "1000001"}, "recency_lt: a whole number from 0 to 1000000"),
        ({"volume_lt": "-1"}, "volume_lt: a whole number"),
        ({"date_first_click": "2026-01-31"}, "date_first_click: an instant as RFC 3339"),
        ({"contact_id": "a@b"}, "contact_id: 1 to 64"),
        ({"sort": "home"}, "sort: one of contact_id"),
        ({"sort": "--frequency"}, "sort: one of"),
        ({"limit": "0"}, "limit: a whole number from 1 to 1000"),
        ({"limit": "1001"}, "limit: a whole number from 1 to 1000"),
        ({"after": "x"}, "after: `next` of the page before"),
        ({"after": "bnVsbA"}, "after: `next` of the page before"),
        ({"frequency_ne": "1"}, "This route takes each of"),
    ],
)
async def test_what_is_not_taken_is_said(database: str, query: Row, told: str) -> None:
    async with world.api(database) as client:
        response = await client.get("/v1/engagement", params=query)
        assert (response.status_code, response.json()["type"]) == (400, problems.WRONG_PARAMETER.uri)
        assert told in response.json()["detail"]


async def test_a_page_of_another_order_is_refused(database: str) -> None:
    async with world.api(database) as client:
        fill(database)
        after = (await client.get("/v1/engagement", params={"sort": "volume", "limit": 1})).json()["next"]
        for sort in ("-volume", "frequency", "contact_id", "recency"):
            response = await client.get("/v1/engagement", params={"sort": sort, "after": after})
            assert response.status_code == 400, sort


async def test_bounds_are_said(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world.api(database) as client:
        fill(database)
        monkeypatch.setattr(engagement_list, "MOST_DUE", 9)
        due = await client.get("/v1/engagement")
        assert (due.status_code, due.json()["type"]) == (503, problems.TOO_MUCH_DUE.uri)
        monkeypatch.setattr(engagement_list, "MOST_DUE", 10)
        assert (await client.get("/v1/engagement")).status_code == 200
        monkeypatch.setattr(servers, "_BOUNDED", b"select set_config('statement_timeout', '1ms', true)")
        with world.connected(database) as sql:
            sql.execute("begin; lock table heed_data.engagement in access exclusive mode")
            slow = await client.get("/v1/engagement")
        assert (slow.status_code, slow.json()["type"]) == (422, problems.TOO_SLOW.uri)


def test_the_columns_are_those_of_the_row() -> None:
    assert set(engagement_list.COLUMNS) == set(engagement.ROW) - {"date_calculated"}
