"""Every page in a real browser, over a made-up Heed whose texts are hostile: contrast, width, names, focus.

No server but the API itself, in a thread of this process.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn
from playwright.sync_api import Page, expect

from api import app
from tests import stack
from tests.browser import looks, watching
from tests.unit import console_world
from tests.unit.test_auth import TOKENS

READ = (
    "/console", "/console/contacts", "/console/contacts/ada?why=frequency", "/console/contacts/old-ada",
    "/console/contacts/gone",
    "/console/contacts/nobody?as_of=x", "/console/parked", "/console/parked/records?reason=invalid",
    "/console/parked/records/7", "/console/parked/records/8", "/console/settings", "/console/keys",
    "/console/keys/administer/revoke", "/console/nothing", "/console/contacts/ada?action=Page%20View",
    "/console/audit", "/console/audit?type=key.created",
)  # fmt: skip
OPEN = ("/console/login", "/console/nothing")


class Served:
    """The console at an address."""

    def __init__(self, world: console_world.World, url: str) -> None:
        self.world, self.url = world, url

    def inside(self, visit: watching.Visit, scope: str = "administer", **options: Any) -> Page:
        """A page of a browser that has logged in."""
        id_ = self.world.app.state.sessions.log_in(TOKENS[scope], None)
        page = visit.page(base_url=self.url, **options)
        page.context.add_cookies([{"name": "heed_console", "value": id_, "url": f"{self.url}/console"}])
        return page


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with pytest.MonkeyPatch.context() as monkeypatch, app.listen("127.0.0.1", 0) as listening:
        world = console_world.flowing(console_world.world(monkeypatch))
        server = uvicorn.Server(uvicorn.Config(world.app, lifespan="off", log_config=None))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        stack.eventually(lambda: server.started, "the console is served")
        yield Served(world, f"http://127.0.0.1:{listening.getsockname()[1]}")
        server.should_exit = True
        thread.join(10)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everything_stands_out_and_is_told(served: Served, visit: watching.Visit, scheme: str) -> None:
    page = served.inside(visit, color_scheme=scheme)
    for path in READ:
        page.goto(path)
        assert looks.contrast(page) == [], path
        assert looks.unheard(page) == [], path
        assert looks.small(page) == [], path
    outside = visit.page(base_url=served.url, color_scheme=scheme)
    for path in OPEN:
        outside.goto(path)
        assert looks.contrast(outside) == [] == looks.unheard(outside), path
    grounds = {
        one.evaluate("() => getComputedStyle(document.body).backgroundColor") for one in (page, outside)
    }
    assert grounds == {"rgb(252, 251, 248)" if scheme == "light" else "rgb(20, 23, 26)"}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_answers_to_forms_stand_out_and_are_told(served: Served, visit: watching.Visit, scheme: str) -> None:
    """What was wrong, what is asked before it is done, and what was done; on a phone."""
    page = served.inside(visit, color_scheme=scheme, viewport={"width": 320, "height": 640})
    for path, form, title in (
        ("/console/keys", "/console/keys", "Keys"),
        ("/console/settings", "/console/settings/engagement_period_months", "Settings"),
        ("/console/contacts", "/console/contacts", "Contacts"),
        ("/console/contacts/ada", "/console/contacts/ada/merge", "ada"),
        ("/console/audit", "/console/audit", "Audit log"),
        ("/console/parked/records/7", "/console/parked/redrive", "Driven again"),
    ):
        page.goto(path)
        for one in page.locator(f"form[action='{form}'] input:not([type=hidden], [type=checkbox])").all():
            one.fill("not this")
        page.evaluate(
            "form => { document.querySelector(`form[action='${form}'][method=post]`).submit() }", form
        )
        page.wait_for_url(f"**{form}")
        expect(page.get_by_role("heading", level=1)).to_have_text(title)
        assert page.get_by_role("alert").count() == (title != "Driven again")
        assert looks.contrast(page) == looks.unheard(page) == looks.small(page) == [], form
        assert looks.too_wide(page) == 0, form
    page.goto("/console/parked/records/7")
    page.get_by_role("button", name="Discard").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Discard for good?")
    assert looks.contrast(page) == looks.unheard(page) == looks.small(page) == []


@pytest.mark.parametrize("width", [320, 700])
def test_no_page_is_wider_than_a_phone(served: Served, visit: watching.Visit, width: int) -> None:
    page = served.inside(visit, viewport={"width": width, "height": 640})
    for path in (*READ, *OPEN):
        page.goto(path)
        assert looks.too_wide(page) == 0, path
    if width == 320:  # what is wider scrolls by itself
        page.goto("/console/contacts")
        assert page.locator(".scroll").evaluate("e => e.scrollWidth > e.clientWidth")


def test_the_focus_goes_through_all_in_order_and_is_seen(served: Served, visit: watching.Visit) -> None:
    page = served.inside(visit, reduced_motion="reduce")
    for path in READ:
        page.goto(path)
        if page.locator(".mistakes").count():
            assert "mistakes" in looks.focus(page)["name"], "what is wrong is told first"
            continue
        seen: list[dict[str, Any]] = []
        while True:
            page.keyboard.press("Tab")
            at = looks.focus(page)
            if at["body"] or (seen and at["place"] == seen[0]["place"]):
                break
            seen.append(at)
        places = [one["place"] for one in seen]
        assert places == sorted(places), path
        assert len(places) == seen[0]["count"], path
        assert [one["name"] for one in seen if not one["seen"] or not one["shown"]] == [], path
        assert "Skip to the content" in seen[0]["name"]


def test_the_link_over_the_menu_leads_to_the_content(served: Served, visit: watching.Visit) -> None:
    page = served.inside(visit)
    page.goto("/console/keys")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.querySelector('main').contains(document.activeElement)")


def test_who_wants_nothing_to_move_gets_that(served: Served, visit: watching.Visit) -> None:
    for motion, moving in (("reduce", False), ("no-preference", True)):
        page = served.inside(visit, reduced_motion=motion)
        page.goto("/console")
        lasts = page.locator(".skip").evaluate("e => getComputedStyle(e).transitionDuration")
        assert (lasts != "0s") is moving


def test_nothing_that_was_sent_is_alive(served: Served, visit: watching.Visit) -> None:
    page = served.inside(visit)
    for path in READ:
        page.goto(path)
        found = page.evaluate("""() => [document.scripts.length, document.images.length,
          document.querySelectorAll('[onerror], [onload], iframe, object, style, [style]').length]""")
        assert found == [0, 1, 0], path
    assert "alert(1)" in page.goto("/console/keys").text()  # type: ignore[union-attr]


def test_the_policy_holds_and_is_told_of(served: Served, visit: watching.Visit) -> None:
    """So the watching of all other tests would notice."""
    page = served.inside(visit)
    page.goto("/console")
    page.evaluate("""() => { const made = document.createElement('script')
      made.textContent = 'window.ran = 1'; document.body.append(made)
      const seen = document.createElement('img'); seen.src = 'data:image/png;base64,'
      document.body.append(seen) }""")
    page.wait_for_timeout(100)
    assert page.evaluate("() => window.ran === undefined")
    told, visit.wrong = list(visit.wrong), []
    assert len([one for one in told if "Content Security Policy" in one]) == 2, told


def test_only_what_the_key_may_is_in_the_menu(served: Served, visit: watching.Visit) -> None:
    page = served.inside(visit, "access")
    page.goto("/console")
    assert page.get_by_role("navigation", name="Console").get_by_role("link").all_inner_texts() == [
        "Overview",
        "Contacts",
    ]
    assert page.get_by_role("heading", name="Parked").count() == 0
    page.goto("/console/keys")
    assert page.get_by_role("heading", level=1).inner_text() == "This key may not do this"
