"""The timeline and the audit log in the console: pages, filters, where things came from, CSV."""

from __future__ import annotations

import csv
import io
import re
from typing import Any

import pytest

from api import activity, audit, problems
from api.console import pages, timeline
from schemas import activity as kinds
from tests.unit import console_world
from tests.unit.console_world import World


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return console_world.flowing(console_world.world(monkeypatch)).log_in()


def section(text: str) -> str:
    return text.partition('<h2 id="timeline"')[2].partition("</section>")[0]


def lines(text: str) -> list[str]:
    """The lines of the table, each as the text that people read."""
    body = text.partition("<tbody>")[2].partition("</tbody>")[0]
    found = (re.sub(r"<[^>]*>", " ", one) for one in body.split("<tr>")[1:])
    return [" ".join(one.split()) for one in found]


def link(text: str, name: str) -> str:
    found = re.search(rf'<a href="([^"]*)">{name}', text)
    assert found, name
    return found[1].replace("&amp;", "&").removesuffix("#timeline")


@pytest.mark.capability("ACT-1")
def test_the_timeline_says_when_what_and_whose_and_goes_on_where_it_ended(world: World) -> None:
    first = section(world.get("/console/contacts/ada").text)
    told = lines(first)
    assert len(told) == timeline.LISTED
    assert [re.sub(r"^\S+ \S+ ", "", one) for one in told[1:4:2]] == [
        "Page viewed session 9f3a51 urn:example:shop",
        "Mail sent: m-7 an email address of it urn:example:mailer",
    ]
    assert " itself " in told[0] and " failed merged old-ada " in told[2]
    assert 'href="/console/contacts/old-ada"' in first
    second = section(world.get(link(first, "Older")).text)
    assert len(lines(second)) == 30 - timeline.LISTED
    assert not set(lines(second)) & set(told) and ">Older" not in second
    assert lines(section(world.get(link(second, "Newest")).text)) == told


@pytest.mark.capability("ACT-1")
def test_the_timeline_is_filtered_by_kind_whole_as_csv_too(world: World) -> None:
    page = section(world.get("/console/contacts/ada?action=Page+View").text)
    assert len(lines(page)) == 8 and all("Page viewed" in one for one in lines(page))
    assert '<option value="Page View" selected>page viewed</option>' in page
    sheet = world.get(link(page, "All as CSV"))
    assert sheet.headers["content-type"].startswith("text/csv")
    assert sheet.headers["content-disposition"] == 'attachment; filename="activity.csv"'
    for name, value in pages.HEADERS.items():
        assert sheet.headers[name] == value
    read = list(csv.reader(io.StringIO(sheet.text)))
    assert tuple(read[0]) == activity.COLUMNS and len(read) == 9
    assert world.get("/console/contacts/ada?action=nothing").status_code == 400
    assert world.get("/console/contacts/ada/activity.csv?as_of=x").status_code == 400


def test_every_kind_of_activity_can_be_chosen() -> None:
    assert set(timeline.CHOICES) == {kind.action for kind in kinds.KINDS.values()}


def test_a_timeline_that_takes_too_long_leaves_the_rest_of_the_page(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def slow(*_: Any) -> list[dict[str, Any]]:
        raise problems.Problem(problems.TOO_SLOW, "The answer would take longer than 3 seconds.")

    monkeypatch.setattr(activity.Timeline, "rows", slow)
    answer = world.get("/console/contacts/ada")
    assert answer.status_code == 200
    assert "It cannot be shown now. The answer would take longer" in section(answer.text)
    assert "Engagement" in answer.text and "What belongs together" in answer.text


@pytest.mark.capability("ACT-2")
def test_the_audit_log_shows_before_and_after_by_pages_and_as_csv(world: World) -> None:
    first = world.get("/console/audit").text
    told = lines(first)
    assert len(told) == 50
    assert told[1].endswith("key.created key:0197f2aa nothing shop ([&#34;ingest&#34;]) key:0197f2")
    assert told[4].endswith("setting.changed setting:zone UTC Europe/Amsterdam key:0197f2")
    assert len(lines(world.get(link(first, "Older")).text)) == 10
    sheet = world.get(link(first, "All as CSV"))
    read = list(csv.reader(io.StringIO(sheet.text)))
    assert tuple(read[0]) == audit.COLUMNS and len(read) == 61
    assert sheet.headers["cache-control"] == "no-store"
    assert lines(world.get("/console").text.partition('id="recent"')[2]) == told[:5]


@pytest.mark.capability("ACT-2")
def test_a_filter_of_the_audit_log_is_read_before_it_stands_in_an_address(world: World) -> None:
    sent = world.send("/console/audit", about="setting:zone", actor="key:0197f2", type="", to="")
    assert sent.status_code == 303
    assert sent.headers["location"] == "/console/audit?actor=key%3A0197f2&about=setting%3Azone"
    told = lines(world.get(sent.headers["location"]).text)
    assert len(told) == 14 and all(" setting:zone UTC " in one for one in told)
    assert world.send("/console/audit", about="parked:facts/3@1042").status_code == 303
    assert world.send("/console/audit").headers["location"] == "/console/audit"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("about", "ada@example.org"),
        ("about", "contact:ada@example.org"),
        ("about", "parked:ada@example.org/3@1"),
        ("actor", "ada@example.org"),
        ("actor", "+31 6 1234"),
        ("type", "mail.clicked"),
        ("from", "yesterday"),
        ("to", "2026-01-31"),
    ],
)
def test_what_is_no_filter_is_told_at_its_field_and_never_in_an_address(
    world: World, name: str, value: str
) -> None:
    sent = world.send("/console/audit", **{name: value})
    assert sent.status_code == 400
    assert f'id="{name}-wrong"' in sent.text and 'aria-invalid="true"' in sent.text
    assert "location" not in sent.headers
