"""Sessions of the console: how one begins, what its cookie says, and all the ways in which it ends."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from api import auth, keys, problems
from api.console import sessions
from tests.unit import console_world
from tests.unit.console_world import World
from tests.unit.test_auth import NOW, ROWS, TOKENS


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return console_world.world(monkeypatch)


def log_in(world: World, key: str, **form: str) -> Any:
    return world.post("/console/login", csrf=world.token("/console/login"), key=key, **form)


def inside(world: World) -> bool:
    """Whether the first page is shown; else it is the one to log in on."""
    answer = world.get("/console")
    assert answer.status_code in (200, 303)
    return bool(answer.status_code == 200)


@pytest.mark.parametrize("chosen", [{}, {"console_secure": True}, {"tls_certificate": Path("any.pem")}])
def test_the_cookie_is_opaque_and_for_the_console_alone(
    monkeypatch: pytest.MonkeyPatch, chosen: dict[str, Any]
) -> None:
    world = console_world.world(monkeypatch, **chosen)
    world.client.base_url = "https://127.0.0.1:8080"
    cookie = log_in(world, TOKENS["access"]).headers["set-cookie"]
    name, *attributes = cookie.split("; ")
    assert name.startswith("heed_console=") and TOKENS["access"] not in cookie
    assert auth.hash_of(TOKENS["access"]) not in cookie
    wanted = {"HttpOnly", "Max-Age=43200", "Path=/console", "SameSite=strict"} | (
        {"Secure"} if chosen else set()
    )
    assert {one for one in attributes if not one.startswith("expires")} == wanted
    assert inside(world)


def test_who_may_log_in(world: World) -> None:
    assert not inside(world)
    for key, status, told in (
        ("heed_nobody", 401, "This key is not taken"),
        ("", 400, "Give the key."),
        (TOKENS["ingest"], 403, "This key only sends events"),
        (TOKENS["ingest:public"], 403, "This key only sends events"),
    ):
        answer = log_in(world, key)
        assert (answer.status_code, told in answer.text) == (status, True)
        assert 'href="#key"' in answer.text
        assert not inside(world)
        assert not key or key not in answer.text
    for scope, seen in (("access", False), ("administer", True)):
        assert log_in(world, f" {TOKENS[scope]} ").status_code == 303
        assert ('href="/console/keys"' in world.get("/console").text) is seen


@pytest.mark.parametrize(
    ("wanted", "led"),
    [
        ("/console/parked", "/console/parked"),
        ("/console/contacts/ada~_.-", "/console/contacts/ada~_.-"),
        ("//example.org", "/console"),
        ("https://example.org/console", "/console"),
        ("/console/../v1", "/console/../v1"),
        ("/console\n", "/console"),
        ("/v1/keys", "/console"),
        ("/console//example.org", "/console"),
        ("/console/a?next=//x", "/console"),
        ("", "/console"),
    ],
)
def test_logging_in_leads_to_the_page_that_was_wanted(world: World, wanted: str, led: str) -> None:
    answer = world.get("/console/keys")
    assert answer.headers["location"] == "/console/login?next=/console/keys"
    sent = world.post("/console/login", csrf=world.token("/console/login"), key=TOKENS["access"], next=wanted)
    assert sent.headers["location"] == led


def test_a_session_is_another_one_after_each_log_in(world: World) -> None:
    world.log_in()
    first = world.client.cookies["heed_console"]
    world.log_in()
    assert world.client.cookies["heed_console"] != first
    assert len(world.app.state.sessions) == 1
    world.client.cookies.clear()
    world.client.cookies.set("heed_console", first)
    assert not inside(world)


def test_logging_out_ends_the_session_not_only_the_cookie(world: World) -> None:
    world.log_in()
    kept = world.client.cookies["heed_console"]
    out = world.send("/console/logout")
    assert out.headers["location"] == "/console/login"
    assert "Max-Age=0" in out.headers["set-cookie"]
    world.client.cookies.clear()
    world.client.cookies.set("heed_console", kept)
    assert not inside(world)


def test_a_session_ends_with_its_key(world: World) -> None:
    world.log_in()
    assert inside(world)
    token = world.token()
    world.servers.found = [{**one, "revoked_at": NOW, "next_offset": 8} for one in ROWS]
    asyncio.run(world.keys.refresh())
    assert world.post("/console/parked/redrive", csrf=token, id="7").status_code == 303
    assert world.walks.asked == []
    assert not inside(world)
    assert len(world.app.state.sessions) == 0


def test_a_session_ends_by_itself(world: World) -> None:
    world.log_in()
    for _ in range(12):
        world.now[0] += sessions.IDLE_SECONDS - 1
        assert inside(world)
    world.now[0] += sessions.IDLE_SECONDS - 1
    assert not inside(world), "12 hours are over"
    world.log_in()
    world.now[0] += sessions.IDLE_SECONDS
    assert not inside(world)


def test_there_are_not_too_many_sessions(world: World) -> None:
    world.log_in()
    found: sessions.Sessions = world.app.state.sessions
    for _ in range(sessions.MOST + 5):
        world.now[0] += 0.001
        found.log_in(TOKENS["access"], None)
    assert len(found) == sessions.MOST
    assert not inside(world), "the one unused longest"


def test_wrong_keys_are_limited_and_hold_up_no_right_one(world: World) -> None:
    token = world.token("/console/login")
    tried = [world.post("/console/login", csrf=token, key=f"heed_{n}").status_code for n in range(7)]
    assert tried == [401] * 5 + [429] * 2
    slow = world.post("/console/login", csrf=token, key="heed_x")
    assert slow.headers["retry-after"] == "1"
    assert "Too many requests" in slow.text
    assert inside(world.log_in())
    world.now[0] += 1
    assert log_in(world, "heed_x").status_code == 401


def test_a_key_that_asks_too_often_is_told_so_on_a_page(world: World) -> None:
    world.log_in()
    world.keys._rate = 2
    answers = [world.get("/console") for _ in range(3)]
    assert [one.status_code for one in answers] == [200, 200, 429]
    assert "This key asks too often" in answers[2].text


def test_before_the_first_key_nobody_is_asked_and_the_first_is_one_to_go_on_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = console_world.world(monkeypatch, keyless=True)
    assert not inside(world), "also then a session is begun by a form"
    page = world.get("/console/login").text
    assert "Go in" in page and 'id="key"' not in page
    assert log_in(world, "").status_code == 303
    assert inside(world)
    made: list[str] = []

    async def create(_: Any, __: Any, asked: keys.Create, actor: str) -> dict[str, Any]:
        made.append(actor)
        world.servers.found = [ROWS[-1]]
        return {**console_world.MADE, "key": TOKENS["administer"]}

    monkeypatch.setattr(keys, "create", create)
    shut = world.send("/console/keys", name="shop", scope="ingest")
    assert shut.status_code == 400 and "give it the scope administer" in shut.text
    assert made == []
    assert world.send("/console/keys", name="me", scope="administer").status_code == 303
    assert made[0].startswith("local")
    assert TOKENS["administer"] in world.get("/console/keys").text
    assert inside(world)
    world.client.cookies.clear()
    assert not inside(world), "who has none is asked for it now"


def test_a_session_without_a_key_ends_when_one_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    world = console_world.world(monkeypatch, keyless=True)
    log_in(world, "whatever")
    assert inside(world)
    world.servers.found = ROWS
    asyncio.run(world.keys.refresh())
    assert not inside(world)


def test_until_the_keys_are_known_nobody_gets_in(world: World) -> None:
    fresh = console_world.World()
    answer = log_in(fresh, TOKENS["administer"])
    assert answer.status_code == 503
    assert "The database cannot be reached" in answer.text
    with pytest.raises(problems.Problem):
        fresh.app.state.sessions.log_in("", None)
