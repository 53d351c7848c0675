"""Every page of the console: who may see it, what its forms ask for, and that nothing sent is alive."""

from __future__ import annotations

import html.parser
import re
from pathlib import Path
from typing import Any

import pytest
from litestar.routes import HTTPRoute

from api import auth, contact_links, problems
from api.console import pages, routes, sessions
from schemas import errors
from tests.unit import console_world
from tests.unit.console_world import HOSTILE, World
from tests.unit.test_auth import TOKENS

OPERATIONS = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
OPEN = ("/console/login", "/console/style.css", "/console/icon.svg")
READ = (
    "/console", "/console/contacts", "/console/contacts/ada", "/console/contacts/ada?why=frequency",
    "/console/contacts/nobody?why=volume&as_of=2026-01-31T09:00:00Z", "/console/contacts/old-ada",
    "/console/contacts/gone",
    "/console/parked", "/console/parked?reason=invalid&age=1d", "/console/parked/records",
    "/console/parked/records?reason=invalid&door=email-activity&topic=facts&type=x&age=1h",
    "/console/parked/records?after=5", "/console/parked/records/7", "/console/parked/records/8",
    "/console/settings", "/console/keys",
    "/console/contacts/ada?action=Page%20View&as_of=2026-01-31T09:00:00Z", "/console/audit",
    "/console/audit?type=setting.changed&about=setting%3Azone&actor=key%3A0197f2",
)  # fmt: skip


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return console_world.flowing(console_world.world(monkeypatch))


def declared() -> list[tuple[str, str, str]]:
    """(method, path, scope) of every page."""
    found = console_world.World().app
    return [
        (method, route.path_format, route.route_handler_map[method][0].opt[sessions.SCOPE])
        for route in found.routes
        if isinstance(route, HTTPRoute) and pages.ours(route.path_format)
        for method in route.methods
        if method != "OPTIONS"
    ]


PAGES = declared()


def address(path: str) -> str:
    return path.replace("records/{id}", "records/7").replace("{id}", "ada").replace("{name}", "zone")


def test_every_page_has_its_guard_and_its_scope() -> None:
    assert list(routes.PAGES.guards) == [sessions.knows_who_asks]
    assert routes.PAGES.opt == {auth.SESSION: True}
    assert {path for _, path, scope in PAGES if scope == auth.OPEN} == set(OPEN)
    shown = dict(re.findall(r"(?m)^\| `(/console[^`]*)` \| (\w+) \|", OPERATIONS))
    read = {path: scope for method, path, scope in PAGES if method == "GET" and path not in OPEN}
    del read["/console/keys/{id}/revoke"]  # a question of the page of keys
    assert shown == read


@pytest.mark.parametrize(("method", "path", "scope"), sorted(one for one in PAGES if one[1] not in OPEN))
def test_without_a_session_every_page_is_the_one_to_log_in_on(
    world: World, method: str, path: str, scope: str
) -> None:
    answer = world.get(address(path)) if method == "GET" else world.post(address(path), csrf="x")
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/console/login")
    head = {"Authorization": f"Bearer {TOKENS['administer']}"}
    answer = world.client.request(method, address(path), headers=head, follow_redirects=False)
    assert answer.status_code == 303, "a key opens no page"
    if scope == auth.ADMINISTER:
        world.log_in("access")
        answer = world.get(address(path)) if method == "GET" else world.send(address(path))
        assert answer.status_code == 403
        assert "This key may not do this" in answer.text
        assert world.walks.asked == []


@pytest.mark.parametrize("path", READ)
def test_pages_are_whole_guarded_and_nothing_sent_is_alive(world: World, path: str) -> None:
    answer = world.log_in().get(path)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    guarded(answer)
    read = Reader(answer.text)
    assert read.tags["h1"] == 1
    assert read.tags.get("script", 0) == 0
    assert read.tags["img"] == 1  # our own
    assert {"header", "main", "footer"} <= set(read.tags)
    assert "{{" not in answer.text.replace("{{7*7}}", "")
    assert "\u202e" not in answer.text
    assert not read.loose, f"no label names {read.loose}"
    assert not read.broken, f"nothing has the id {read.broken}"


def guarded(answer: Any) -> None:
    for name, value in pages.HEADERS.items():
        assert answer.headers[name] == value


class Reader(html.parser.HTMLParser):
    """Counts tags; finds controls that nothing names, and links and references to ids that are not there."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: dict[str, int] = {}
        self.ids: list[str] = []
        self.wanted: set[str] = set()
        self.named: set[str] = set()
        self.controls: set[str] = set()
        self.feed(text)
        assert len(self.ids) == len(set(self.ids)), f"twice: {self.ids}"
        self.loose = self.controls - self.named
        self.broken = self.wanted - set(self.ids)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = {name: value or "" for name, value in attrs}
        assert not [name for name in told if name.startswith("on") or name == "style"], told
        self.tags[tag] = self.tags.get(tag, 0) + 1
        if "id" in told:
            self.ids.append(told["id"])
        if tag in ("input", "select") and told.get("type") != "hidden" and "hidden" not in told:
            self.controls.add(told.get("id", "?"))
            if "aria-label" in told:
                self.named.add(told["id"])
        if tag == "label":
            self.named.add(told["for"])
            self.wanted.add(told["for"])
        for name in ("aria-labelledby", "aria-describedby"):
            self.wanted |= set(told.get(name, "").split())
        if told.get("href", "").startswith("#"):
            self.wanted.add(told["href"][1:])


@pytest.mark.parametrize(("method", "path", "scope"), [one for one in PAGES if one[0] == "POST"])
@pytest.mark.parametrize("token", [None, "", "x", "é"])
def test_a_form_without_its_token_changes_nothing(
    world: World, method: str, path: str, scope: str, token: str | None
) -> None:
    if path not in OPEN:
        world.log_in()
    form = {} if token is None else {"csrf": token}
    answer = world.post(address(path), **form, key=TOKENS["administer"], id="7", confirmed="yes")
    assert answer.status_code == 403
    assert "This form is too old" in answer.text
    guarded(answer)
    assert world.walks.asked == []
    assert len(world.app.state.sessions) == (path not in OPEN)


def test_a_form_of_another_site_changes_nothing(world: World) -> None:
    world.log_in()
    token = world.token()
    for site, status in (("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)):
        sent = world.post("/console/parked/redrive", site=site, csrf=token, id="7")
        assert sent.status_code == status
    assert len(world.walks.asked) == 2
    other = console_world.World().app.state.sessions.login_form({})[0]
    assert world.post("/console/parked/redrive", csrf=other, id="7").status_code == 403


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", b"{}"),
        ("text/plain", b"csrf=x"),
        ("application/x-www-form-urlencoded", b"csrf=%ff"),
        ("application/x-www-form-urlencoded", b"\xff"),
        ("application/x-www-form-urlencoded", b"a=1&" * 2_000),
    ],
)
def test_what_is_no_form(world: World, kind: str, body: bytes) -> None:
    world.log_in()
    answer = world.client.post("/console/settings/zone", content=body, headers={"content-type": kind})
    assert answer.status_code == 400
    assert "not a form as a browser sends it" in answer.text


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (errors.Away(HOSTILE), 503, "PostgreSQL does not answer"),
        (RuntimeError(HOSTILE), 500, "Heed made a mistake"),
        (problems.Problem(problems.LOG_AWAY, f"{problems.LOG_AWAY.title}."), 503, "Kafka does not answer"),
    ],
)
def test_errors_are_pages(
    world: World, error: Exception, status: int, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(contact_links, "read", fail)
    answer = world.log_in().get("/console/contacts/ada")
    assert answer.status_code == status
    assert told in answer.text
    assert "Traceback" not in answer.text
    assert "alert(1)" not in answer.text
    assert ("retry-after" in answer.headers) == (status == 503)
    guarded(answer)
    assert Reader(answer.text).tags["h1"] == 1


def test_the_overview_says_what_is_missing_and_shows_the_rest(world: World) -> None:
    world.log_in().ready.told = ["Kafka cannot be reached"]
    answer = world.get("/console")
    assert answer.status_code == 200
    assert "Kafka cannot be reached" in answer.text and "How fresh" in answer.text
    world.database.error, world.ready.told = errors.Away(HOSTILE), []
    answer = world.get("/console")
    assert answer.status_code == 503
    assert "PostgreSQL cannot be reached" in answer.text
    assert "All is there" not in answer.text and "How fresh" not in answer.text
    assert "What flows" in answer.text
    guarded(answer)
    world.database.error = RuntimeError(HOSTILE)
    assert world.get("/console").status_code == 500


@pytest.mark.parametrize("path", ["/console/nothing", "/console/contacts/a/b/c", "/console/%3Cscript%3E"])
def test_an_unknown_address_is_a_page_and_only_there(world: World, path: str) -> None:
    for _ in range(2):  # without a session, and with one
        answer = world.get(path)
        assert answer.status_code == 404
        assert "There is nothing at this address" in answer.text
        guarded(answer)
        world.log_in()
    assert world.client.put("/console").status_code == 405
    elsewhere = world.get("/consoles")
    assert (elsewhere.status_code, elsewhere.headers["content-type"]) == (404, problems.MEDIA_TYPE)
