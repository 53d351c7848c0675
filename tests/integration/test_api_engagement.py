"""One contact's engagement over a real database: read, computed anew, and refreshed by its owners."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg import rows

from api import engagement, problems
from projections import tables
from schemas import metrics, topics
from streams import refresh
from tests.integration import engagement_world as world

NULLS = dict.fromkeys(
    ("date_first_click", "date_last_click", "recency", "frequency", "volume", "volume_last_30")
)
NOW, DAY = world.NOW, world.DAY


@pytest.fixture
def sql(database: str) -> Iterator[psycopg.Connection[rows.DictRow]]:
    with world.connected(database) as connection:
        yield connection


COLUMNS = """
select column_name, data_type from information_schema.columns where (table_schema, table_name) = (%s, %s)
"""
KEPT = "insert into heed_data.nudge (home, subject, reason, error) values (%s, %s, 'error', 'told')"
NUDGES = "select * from heed_data.nudge where error is null order by id"


class Owner(threading.Thread):
    """Stands for the owners of all homes: takes nudges; for `failing` leaves one with an error."""

    def __init__(self, dsn: str, failing: str = "") -> None:
        super().__init__(daemon=True)
        self.dsn = dsn
        self.failing = failing
        self.ended = threading.Event()
        self.taken: list[dict[str, Any]] = []

    def __enter__(self) -> Owner:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.join()

    def run(self) -> None:
        with psycopg.connect(self.dsn, autocommit=True, row_factory=rows.dict_row) as sql:
            while not self.ended.wait(0.02):
                for nudge in sql.execute(NUDGES).fetchall():
                    contact = nudge["subject"].removeprefix("contact:")
                    if contact == self.failing:
                        sql.execute("delete from heed_data.nudge where id = %s", (nudge["id"],))
                        sql.execute(KEPT, (nudge["home"], nudge["subject"]))
                        continue
                    world.fold(sql, contact, nudge["home"])
                    sql.execute("delete from heed_data.nudge where id = %s", (nudge["id"],))
                    self.taken.append(nudge)


def test_tables_are_those_of_the_migrations(sql: psycopg.Connection[rows.DictRow]) -> None:
    for table in tables.METADATA.tables.values():
        found = sql.execute(COLUMNS, (table.schema, table.name)).fetchall()
        kinds = {row["column_name"]: row["data_type"] for row in found}
        for column in table.columns:
            named = str(column.type.compile()).lower().replace("timestamp", "timestamp with time zone")
            named = named.replace("blob", "bytea")
            assert kinds[column.name] == named, f"{table.fullname}.{column.name}"


@pytest.mark.capability("CEE-4", "CEE-6")
async def test_a_row_is_answered_under_the_names_of_its_view(
    database: str, sql: psycopg.Connection[rows.DictRow]
) -> None:
    first, last = NOW - 40 * DAY, NOW - 3 * DAY - timedelta(milliseconds=1)
    world.tell(sql, "ada", "mail.clicked", "m1", first)
    world.tell(sql, "ada", "mail.clicked", "m2", last)
    world.tell(sql, "ada", "mail.delivered", "m2", last)
    world.fold(sql, "ada")
    async with world.api(database) as client:
        response = await client.get("/v1/contacts/ada/engagement")
    assert response.status_code == 200
    answer = response.json()
    columns = sql.execute("select * from heed_read.contact_engagement limit 0").description or []
    assert set(answer) == {column.name for column in columns}
    assert abs(datetime.fromisoformat(answer.pop("date_calculated")) - datetime.now(UTC)) < timedelta(
        seconds=9
    )
    assert answer == {
        "contact_id": "ada",
        "date_first_click": world.seen(first),
        "date_last_click": world.seen(last),
        "recency": 3,
        "frequency": 2,
        "volume": 1,
        "volume_last_30": 1,
        "period_months": 12,
    }


@pytest.mark.capability("CEE-6")
@pytest.mark.parametrize("id", ["nobody", "a" * 64, "A.b_c~d-9"])
async def test_without_a_row_every_number_and_date_is_null(database: str, id: str) -> None:
    async with world.api(database) as client:
        read = await client.get(f"/v1/contacts/{id}/engagement")
        calculated = await client.post(f"/v1/contacts/{id}/engagement/calculate")
    for response in (read, calculated):
        assert response.status_code == 200
        answer = response.json()
        assert answer.pop("date_calculated").endswith("Z")
        assert {name: answer[name] for name in NULLS} == NULLS
        assert (answer["contact_id"], answer["period_months"]) == (id, 12)
    assert (answer["id"], answer["differs"], answer["stored"]) == (id, False, None)


@pytest.mark.capability("CEE-8")
async def test_no_answer_holds_a_value_past_its_time(
    database: str, sql: psycopg.Connection[rows.DictRow]
) -> None:
    world.tell(sql, "ada", "mail.clicked", "m1", NOW - 20 * DAY)
    world.fold(sql, "ada")
    sql.execute("update heed_data.fact set time = time - interval '2 years'")
    sql.execute("update heed_data.engagement set valid_until = now() - interval '1 second'")
    async with world.api(database) as client:
        answer = (await client.get("/v1/contacts/ada/engagement")).json()
    assert {name: answer[name] for name in NULLS} == NULLS


@pytest.mark.capability("CEE-10")
async def test_calculating_tells_whether_the_stored_row_differs(
    database: str, sql: psycopg.Connection[rows.DictRow], monkeypatch: pytest.MonkeyPatch
) -> None:
    for contact in ("fine", "changed", "deleted"):
        world.tell(sql, contact, "mail.clicked", "m1", NOW - 2 * DAY)
        world.fold(sql, contact)
    world.fold(sql, "added")
    sql.execute("update heed_data.engagement set frequency = 7 where contact_id = 'changed'")
    sql.execute(
        "insert into heed_data.engagement"
        " select 'added', home, date_first_click, date_last_click, 1, 0, 0, 12, valid_until"
        " from heed_data.engagement where contact_id = 'fine'"
    )
    sql.execute("delete from heed_data.engagement where contact_id = 'deleted'")
    before = metrics.ROW_DIFFERENCES._value.get()
    monkeypatch.setattr(engagement, "CALCULATE_SECONDS", 0.1)
    found = {}
    async with world.api(database) as client:
        for contact in ("fine", "changed", "deleted", "added"):
            found[contact] = (await client.post(f"/v1/contacts/{contact}/engagement/calculate")).json()
    assert {contact: answer["differs"] for contact, answer in found.items()} == {
        "fine": False,
        "changed": True,
        "deleted": True,
        "added": True,
    }
    assert metrics.ROW_DIFFERENCES._value.get() == before + 3
    assert {"id", "recency", "frequency", "volume", "volume_last_30", "differs", "stored"} <= set(
        found["fine"]
    )
    assert (found["changed"]["frequency"], found["changed"]["stored"]["frequency"]) == (1, 7)
    assert (found["fine"]["recency"], found["fine"]["date_last_click"]) == (2, world.seen(NOW - 2 * DAY))
    assert found["fine"]["stored"]["valid_until"] > world.seen(NOW)
    assert found["deleted"]["stored"] is None
    assert (found["added"]["frequency"], found["added"]["stored"]["frequency"]) == (None, 1)
    assert {contact: answer["mended"] for contact, answer in found.items()} == {
        "fine": None,
        "changed": False,
        "deleted": False,
        "added": False,
    }
    stored = sql.execute("select frequency from heed_data.engagement where contact_id = 'changed'").fetchone()
    assert stored == {"frequency": 7}  # the API writes no row: that is its owner's, for whom a nudge waits
    nudges = sql.execute("select subject, home, reason from heed_data.nudge").fetchall()
    assert sorted(nudge["subject"] for nudge in nudges) == [
        "contact:added",
        "contact:changed",
        "contact:deleted",
    ]
    assert {(nudge["home"] == topics.home(nudge["subject"], 8), nudge["reason"]) for nudge in nudges} == {
        (True, "differs")
    }


@pytest.mark.capability("CEE-10")
async def test_a_difference_is_mended_by_its_owner(
    database: str, sql: psycopg.Connection[rows.DictRow]
) -> None:
    world.tell(sql, "ada", "mail.clicked", "m1", NOW - 2 * DAY)
    world.fold(sql, "ada")
    sql.execute("update heed_data.engagement set frequency = 7")
    with Owner(database):
        async with world.api(database) as client:
            first = (await client.post("/v1/contacts/ada/engagement/calculate")).json()
            second = (await client.post("/v1/contacts/ada/engagement/calculate")).json()
    assert (first["differs"], first["mended"], first["stored"]["frequency"]) == (True, True, 7)
    assert (second["differs"], second["mended"], second["stored"]["frequency"]) == (False, None, 1)


@pytest.mark.capability("CEE-7", "CEE-10")
@pytest.mark.parametrize(
    "waiting",
    [
        "insert into heed_data.recalculation values (%(home)s, 'ada', 'setting', now())",
        "insert into heed_data.recalculation_cause (reason, since) values ('setting', now())",
    ],
)
async def test_a_row_that_waits_for_recalculation_is_not_told_to_differ(
    database: str, sql: psycopg.Connection[rows.DictRow], monkeypatch: pytest.MonkeyPatch, waiting: str
) -> None:
    monkeypatch.setattr(engagement, "CALCULATE_SECONDS", 0.1)
    world.tell(sql, "ada", "mail.clicked", "m1", NOW - 2 * DAY)
    world.fold(sql, "ada")
    sql.execute("update heed_data.rule set period_months = 24")
    async with world.api(database) as client:
        assert (await client.post("/v1/contacts/ada/engagement/calculate")).json()["differs"]
        sql.execute("delete from heed_data.nudge")
        sql.execute(waiting.encode(), {"home": topics.home("contact:ada", 8)})
        assert not (await client.post("/v1/contacts/ada/engagement/calculate")).json()["differs"]


@pytest.mark.capability("CEE-10")
async def test_a_row_that_is_worked_on_or_due_is_not_told_to_differ(
    database: str, sql: psycopg.Connection[rows.DictRow], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engagement, "CALCULATE_SECONDS", 0.3)
    world.tell(sql, "due", "mail.clicked", "m1", NOW - 2 * DAY)
    world.tell(sql, "nudged", "mail.clicked", "m1", NOW - 2 * DAY)
    world.fold(sql, "due")
    sql.execute("update heed_data.engagement set frequency = 7, valid_until = now()")
    sql.execute("insert into heed_data.nudge (home, subject, reason) values (3, 'contact:nudged', 'test')")
    async with world.api(database) as client:
        for contact in ("due", "nudged"):
            assert not (await client.post(f"/v1/contacts/{contact}/engagement/calculate")).json()["differs"]
        monkeypatch.setattr(engagement, "CALCULATE_SECONDS", 5.0)
        asked = asyncio.create_task(client.post("/v1/contacts/nudged/engagement/calculate"))
        await asyncio.sleep(0.2)
        assert not asked.done()
        world.fold(sql, "nudged")
        sql.execute("delete from heed_data.nudge")
        answer = (await asked).json()
    assert (answer["differs"], answer["stored"]["frequency"]) == (False, 1)


@pytest.mark.capability("CEE-8")
async def test_refreshing_nudges_what_is_due_and_nothing_else(
    database: str, sql: psycopg.Connection[rows.DictRow], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refresh, "STEP", 2)
    for number in range(5):
        world.tell(sql, f"due-{number}", "mail.clicked", "m1", NOW - 2 * DAY)
        world.fold(sql, f"due-{number}", home=number)
    sql.execute("update heed_data.fact set time = time - interval '2 years'")
    sql.execute("update heed_data.engagement set valid_until = clock_timestamp() - interval '1 ms'")
    world.tell(sql, "fresh", "mail.clicked", "m1", NOW - 2 * DAY)
    world.fold(sql, "fresh")
    with Owner(database) as owner:
        async with world.api(database) as client:
            assert (await client.post("/v1/engagement/refresh-expired")).json() == {"refreshed": 5}
            assert (await client.post("/v1/engagement/refresh-expired")).json() == {"refreshed": 0}
    assert {(nudge["subject"], nudge["home"]) for nudge in owner.taken} == {
        (f"contact:due-{number}", number) for number in range(5)
    }
    assert {nudge["reason"] for nudge in owner.taken} == {"expired"}
    left = sql.execute("select contact_id from heed_data.engagement").fetchall()
    assert left == [{"contact_id": "fresh"}]


@pytest.mark.capability("CEE-8")
async def test_a_contact_that_fails_is_not_counted_and_stops_no_other(
    database: str, sql: psycopg.Connection[rows.DictRow]
) -> None:
    for contact in ("a", "bad", "c"):
        world.tell(sql, contact, "mail.clicked", "m1", NOW - 400 * DAY)
        sql.execute(
            "insert into heed_data.engagement values (%s, 0, %s, %s, 1, 0, 0, 12, %s)",
            (contact, NOW - 400 * DAY, NOW - 400 * DAY, NOW - 30 * DAY),
        )
    with Owner(database, failing="bad"):
        async with world.api(database) as client:
            assert (await client.post("/v1/engagement/refresh-expired")).json() == {"refreshed": 2}
            assert (await client.post("/v1/engagement/refresh-expired")).json() == {"refreshed": 0}
    left = sql.execute("select subject, error from heed_data.nudge").fetchall()
    assert left == [{"subject": "contact:bad", "error": "told"}]


@pytest.mark.capability("CEE-8")
async def test_without_workers_refreshing_says_so_and_keeps_the_nudges(
    database: str, sql: psycopg.Connection[rows.DictRow], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engagement, "REFRESH_SECONDS", 0.2)
    sql.execute("insert into heed_data.engagement values ('a', 0, now(), now(), 1, 0, 0, 12, now())")
    async with world.api(database) as client:
        response = await client.post("/v1/engagement/refresh-expired")
    assert (response.status_code, response.json()["type"]) == (503, problems.WORKERS_BEHIND.uri)
    assert response.json()["refreshed"] == 0
    assert sql.execute("select subject from heed_data.nudge").fetchall() == [{"subject": "contact:a"}]
