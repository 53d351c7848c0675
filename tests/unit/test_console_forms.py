"""What forms of the console do: what they hand on to the API's functions, and how they tell what is wrong."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from api import contacts, engagement, explain, holds, keys, problems, settings
from api import sessions as told_sessions
from schemas import hold
from tests.unit import console_world
from tests.unit.console_world import HOSTILE, World
from tests.unit.test_console import Reader


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return console_world.world(monkeypatch)


def test_a_contact_is_looked_up_in_a_body(world: World) -> None:
    world.log_in()
    found = world.send("/console/contacts", contact=" ada ")
    assert (found.status_code, found.headers["location"]) == (303, "/console/contacts/ada")
    for wrong in ("ada@example.org", "", HOSTILE, "x" * 65):
        answer = world.send("/console/contacts", contact=wrong)
        assert answer.status_code == 400
        assert 'href="#contact"' in answer.text and 'aria-invalid="true"' in answer.text
        assert "alert(1)</script>" not in answer.text
        assert not Reader(answer.text).broken
    assert world.get("/console/contacts/ada@example.org").status_code == 404


@pytest.mark.parametrize("at", ["x", "2026-01-31", "9999-01-01T00:00:00Z", "<script>alert(1)<script>"])
def test_an_instant_that_is_none_is_told_beside_its_input(
    world: World, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    past = engagement.read

    async def read(database: Any, contact: str, as_of: Any = None) -> Any:
        if as_of is not None:
            contacts.not_later(as_of, console_world.NOW)
        return await past(database, contact, as_of)

    monkeypatch.setattr(engagement, "read", read)
    answer = world.log_in().client.get("/console/contacts/ada", params={"as_of": at})
    assert answer.status_code == 400
    assert 'href="#as_of"' in answer.text
    assert "<script" not in answer.text


def test_merging_is_the_api_s_and_names_who_did_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, str, str, str]] = []

    def way(name: str) -> Any:
        async def tell(_: Any, __: Any, contact: str, asked: contacts.Into, actor: str) -> dict[str, Any]:
            contacts._pair(contact, asked)
            told.append((name, contact, asked.into, actor))
            return {}

        return tell

    monkeypatch.setattr(contacts, "merge", way("merge"))
    monkeypatch.setattr(contacts, "unmerge", way("unmerge"))
    world.log_in("access")
    merged = world.send("/console/contacts/ada/merge", into="eve")
    assert merged.headers["location"] == "/console/contacts/ada"
    assert "Merged ada into eve." in world.get("/console/contacts/ada").text
    assert "Merged ada into eve." not in world.get("/console/contacts/ada").text
    wrong = world.send("/console/contacts/ada/merge", into=HOSTILE)
    assert wrong.status_code == 400 and 'href="#into"' in wrong.text
    undone = world.send("/console/contacts/ada/unmerge", into="eve", back="eve")
    assert undone.headers["location"] == "/console/contacts/eve"
    astray = world.send("/console/contacts/ada/unmerge", into="eve", back="//example.org")
    assert astray.headers["location"] == "/console/contacts/ada"
    assert told == [("merge", "ada", "eve", "key:access")] + [("unmerge", "ada", "eve", "key:access")] * 2


def test_a_contact_s_state_is_changed_by_the_api_s_functions(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[Any, ...]] = []

    def way(name: str) -> Any:
        async def tell(_: Any, __: Any, *what: Any) -> dict[str, Any]:
            told.append((name, *what))
            return {}

        return tell

    for name in ("agree", "delete", "restore"):
        monkeypatch.setattr(contacts, name, way(name))
    monkeypatch.setattr(told_sessions, "unlink", way("unlink"))
    world.log_in("access")
    page = "/console/contacts/ada"
    for action, form, note in (
        ("consent", {"level": "refused"}, "Consent of ada is refused now."),
        ("delete", {}, "Deleted ada."),
        ("restore", {}, "Restored ada."),
        ("unlink", {"session": "s1"}, "Took back that session s1 was linked to ada."),
    ):
        assert world.send(f"{page}/{action}", **form).headers["location"] == page
        assert note in world.get(page).text
    assert world.send(f"{page}/consent", level=HOSTILE).status_code == 400
    assert told == [
        ("agree", "ada", contacts.Consent("refused"), "key:access"),
        ("delete", "ada", "key:access"),
        ("restore", "ada", "key:access"),
        ("unlink", "s1", told_sessions.To("ada"), "key:access"),
    ]
    assert "Restore the contact" in world.get("/console/contacts/gone").text


def test_parked_records_are_walked_by_the_api_s_rules(world: World) -> None:
    world.log_in()
    for form, asked in (
        ({"id": ["7", "8"]}, {"ids": [7, 8]}),
        ({"which": "all"}, {"all": True}),
        (
            {"which": "all", "reason": "invalid", "type": "mail.sent"},
            {"reason": "invalid", "type": "mail.sent"},
        ),
    ):
        answer = world.send("/console/parked/redrive", **form)
        assert answer.status_code == 200
        assert "Driven again" in answer.text and "Still parked" in answer.text
        assert {"script"}.isdisjoint(Reader(answer.text).tags)
        name, body = world.walks.asked.pop()
        assert (name, json.loads(body)) == ("redrive", {**asked, "after": "0", "max_seconds": 20})
    world.send("/console/parked/redrive", which="all", age="1d")
    assert "parked_since" in json.loads(world.walks.asked.pop()[1])
    for wrong in ({}, {"id": "x"}, {"which": "all", "age": "2d"}, {"which": "all", "reason": HOSTILE}):
        answer = world.send("/console/parked/redrive", **wrong)
        assert answer.status_code == 400, wrong
        assert "alert(1)" not in answer.text
    assert world.walks.asked == []


def test_a_walk_that_is_not_done_goes_on_from_where_it_is(world: World) -> None:
    world.log_in().walks.next = "4711"
    answer = world.send("/console/parked/redrive", which="all", reason="invalid")
    hidden = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', answer.text))
    assert (hidden["after"], hidden["reason"], hidden["which"]) == ("4711", "invalid", "all")
    world.post("/console/parked/redrive", **hidden)
    assert json.loads(world.walks.asked[-1][1])["after"] == "4711"


def test_nothing_is_discarded_that_was_not_asked_about(world: World) -> None:
    world.log_in()
    asked = world.send("/console/parked/discard", which="all", reason="invalid")
    assert "Discard 3 records" in asked.text
    assert world.walks.asked == []
    hidden = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', asked.text))
    done = world.post("/console/parked/discard", **hidden)
    assert "Discarded" in done.text
    assert world.walks.asked[0][0] == "discard by key:administer"
    assert json.loads(world.walks.asked[0][1])["reason"] == "invalid"


def test_a_setting_is_told_why_it_does_not_take_a_value(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.log_in()
    answer = world.send("/console/settings/engagement_period_months", value=HOSTILE)
    assert answer.status_code == 400
    assert "engagement_period_months takes a whole number from 1 to 1200." in answer.text
    assert 'href="#engagement_period_months"' in answer.text
    assert not Reader(answer.text).broken
    assert world.send("/console/settings/kafka", value="x").status_code == 404

    async def change(_: Any, __: Any, name: str, value: object, actor: str) -> dict[str, Any]:
        assert (name, value, actor) == ("zone", "UTC", "key:administer")
        return {"value": value}

    monkeypatch.setattr(settings, "change", change)
    assert world.send("/console/settings/zone", value=" UTC").headers["location"] == "/console/settings"
    assert "Zone is UTC now." in world.get("/console/settings").text


def test_a_new_key_is_shown_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def create(_: Any, __: Any, asked: keys.Create, actor: str) -> dict[str, Any]:
        assert (asked.name, asked.scopes, actor) == ("shop", ["access", "ingest"], "key:administer")
        return {**console_world.MADE, "key": "heed_secret"}

    monkeypatch.setattr(keys, "create", create)
    world.log_in()
    made = world.send("/console/keys", name="shop", scope=["ingest"] * 5 + ["access"])
    assert (made.status_code, made.headers["location"]) == (303, "/console/keys")
    first, second = world.get("/console/keys").text, world.get("/console/keys").text
    assert "heed_secret" in first and "heed_secret" not in second
    for name, scopes, input in (
        ("", ["ingest"], "name"), ("é", ["ingest"], "name"), ("x" * 65, ["ingest"], "name"),
        ("shop", [], "scope-ingest"), ("shop", ["all"], "scope-ingest"),
    ):  # fmt: skip
        answer = world.send("/console/keys", name=name, scope=scopes)
        assert answer.status_code == 400
        assert f'href="#{input}"' in answer.text
        assert not Reader(answer.text).broken


@pytest.mark.parametrize(
    ("facts", "truncated", "more"), [(3, True, False), (100, True, True), (100, False, False)]
)
def test_more_facts_are_told_of_only_where_there_are_more(
    world: World, monkeypatch: pytest.MonkeyPatch, facts: int, truncated: bool, more: bool
) -> None:
    async def behind(*_: Any) -> dict[str, Any]:
        found = [console_world.fact(number) for number in range(facts)]
        return {**dict.fromkeys(explain.FIELDS, found), "together": {}, "truncated": truncated}

    monkeypatch.setattr(explain, "explain", behind)
    page = world.log_in().get("/console/contacts/ada?why=volume").text
    assert ("There are more" in page) is more


def test_mail_is_stopped_by_the_api_s_function_and_a_wrong_address_is_told_at_its_field(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[Any, ...]] = []

    async def change(_: Any, __: Any, contact: str, asked: holds.Hold, actor: str, by: holds.Means) -> Any:
        if asked.email == "nobody":
            raise problems.Problem(problems.WRONG_VALUE, "no address")
        told.append((contact, asked, actor, by.rules))
        return {}

    monkeypatch.setattr(holds, "change", change)
    world.log_in("access")
    page = "/console/contacts/ada"
    sent = world.send(f"{page}/hold", stop="opt_out on", email="")
    assert sent.headers["location"] == page
    shown = world.get(page).text
    assert "ada is opted out now." in shown and "too many soft bounces" in shown
    world.send(f"{page}/hold", stop="hold off", email="ada@example.org")
    assert "ada is no longer on hold." in world.get(page).text
    wrong = world.send(f"{page}/hold", stop="hold on", email="nobody")
    assert wrong.status_code == 400 and 'href="#email"' in wrong.text and "location" not in wrong.headers
    assert world.send(f"{page}/hold", stop=HOSTILE).status_code == 400
    rules = hold.Rules()
    assert told == [
        ("ada", holds.Hold("opt_out", True), "key:access", rules),
        ("ada", holds.Hold("hold", False, "ada@example.org"), "key:access", rules),
    ]
