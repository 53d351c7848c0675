"""What an operator does, done in a real browser on real servers: by clicking, by keyboard, without script."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from deploy.processes import free_ports
from schemas import topics
from tests import cluster as clusters
from tests import stack, traffic
from tests.browser import looks, watching

NOW = datetime.now(UTC).replace(microsecond=0)
HOSTILE = "<img src=x onerror=alert(1)>\u202e{{7*7}}</td><script>alert(2)</script>"


@pytest.fixture(scope="module")
def cluster(
    servers: stack.Servers, module_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[clusters.Cluster]:
    """A worker, some clicks, and what nobody can fold."""
    stack.recreate_topics(servers.bootstrap, topics.all_topics(stack.HOMES))
    home: Path = tmp_path_factory.mktemp("home")
    with stack.Launcher() as launch:
        made = clusters.Cluster(launch, servers.bootstrap, module_database, home)
        made.start("worker-1")
        clicks = [("ada", "m1", 3), ("ada", "m2", 40), ("old-ada", "m3", 9), ("old-ada", "m1", 2)]
        told = [
            (topics.EMAIL_ACTIVITY, traffic.click(contact, time=NOW - timedelta(days=days), mailing=mailing))
            for contact, mailing, days in clicks
        ]
        wrong = json.loads(told[0][1]) | {"type": HOSTILE, "id": HOSTILE, "source": HOSTILE}
        told.append((topics.EMAIL_ACTIVITY, json.dumps(wrong).encode()))
        traffic.send_all(servers.bootstrap, told)
        made.settle()
        yield made
        made.tell()
        made.close()


@pytest.fixture(scope="module")
def url(cluster: clusters.Cluster) -> str:
    [port] = free_ports(1)
    made = cluster.launch.api(cluster.bootstrap, cluster.dsn, port, **cluster.env, HEED_KEYS="required")
    made.wait_for("listening", clusters.patience(30))
    return f"http://127.0.0.1:{port}"


def make_key(cluster: clusters.Cluster, name: str, scope: str) -> str:
    env = stack.clean_env(stack.servers_env(cluster.bootstrap, cluster.dsn) | cluster.env)
    command = [str(stack.HEED), "keys", "create", name, "--scope", scope, "--json"]
    found = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert found.returncode == 0, found.stderr
    key: str = json.loads(found.stdout)["key"]
    return key


@pytest.fixture(scope="module")
def key(cluster: clusters.Cluster, url: str) -> str:
    made = make_key(cluster, "operator", "administer")
    stack.eventually(lambda: status(url, made) == 200, "the key is taken", clusters.patience(20), 0.05)
    return made


def status(url: str, key: str) -> int:
    head = {"Authorization": f"Bearer {key}"}
    return httpx.get(f"{url}/v1/contacts/ada/engagement", headers=head, timeout=30).status_code


@pytest.fixture
def page(visit: watching.Visit, url: str, key: str) -> Page:
    """The overview, as whoever has just logged in by clicking sees it."""
    return log_in(visit.page(base_url=url), key)


def log_in(page: Page, key: str) -> Page:
    page.goto("/console")
    expect(page.get_by_role("heading", level=1)).to_have_text("Log in")
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Overview")
    return page


def go(page: Page, name: str) -> None:
    page.get_by_role("navigation", name="Console").get_by_role("link", name=name).click()
    expect(page.get_by_role("heading", level=1)).to_have_text(name if name != "Audit" else "Audit log")


def figure(page: Page, name: str) -> Any:
    return page.locator("dl.figures > div").filter(has=page.get_by_text(name, exact=True)).locator(".value")


def look_up(page: Page, contact: str) -> None:
    go(page, "Contacts")
    page.get_by_label("Contact id").fill(contact)
    page.get_by_role("button", name="Look up").click()


@pytest.mark.capability("IDN-4")
def test_a_contact_is_found_explained_merged_and_parted(page: Page) -> None:
    expect(page.get_by_text("All is there.")).to_be_visible()
    row = page.get_by_role("row", name="engagement facts")
    expect(row.get_by_text("all 8 live")).to_be_visible()
    look_up(page, "ada@example.org")
    expect(page.get_by_role("alert")).to_contain_text("A contact id has 1 to 64")
    assert "example.org" not in page.url
    page.get_by_role("alert").get_by_role("link").click()
    expect(page.get_by_label("Contact id")).to_be_focused()
    look_up(page, "ada")
    expect(page.get_by_role("heading", level=1)).to_have_text("ada")
    expect(figure(page, "Frequency")).to_have_text("2")
    page.get_by_role("link", name="Why? The facts behind frequency").click()
    facts = page.get_by_role("table", name="Without any one of these it would be another value")
    expect(facts.get_by_role("row")).to_have_count(3)
    expect(facts.locator("time").first).to_have_attribute(
        "datetime", (NOW - timedelta(days=3)).isoformat().replace("+00:00", ".000Z")
    )

    page.get_by_label("As of a past instant").fill((NOW - timedelta(days=20)).isoformat())
    page.get_by_role("button", name="Show").click()
    expect(figure(page, "Frequency")).to_have_text("1")
    page.get_by_role("link", name="Back to now").click()

    look_up(page, "old-ada")
    page.get_by_label("Merge this contact into").fill("ada")
    page.get_by_role("button", name="Merge").click()
    expect(page.get_by_role("status")).to_have_text("Merged old-ada into ada.")
    page.get_by_role("link", name="ada", exact=True).first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("ada")
    comes_to(page, "3")
    together = page.get_by_role("region", name="What belongs together")
    expect(together.get_by_role("link", name="old-ada")).to_be_visible()
    page.get_by_role("button", name="Undo the merge of old-ada into ada").click()
    expect(page.get_by_role("status")).to_have_text("Took back that old-ada was merged into ada.")
    comes_to(page, "2")
    row = page.get_by_role("row").filter(has_text="old-ada merged into ada")
    expect(row).to_contain_text("by key:")
    expect(row.get_by_role("button")).to_have_count(0)


@pytest.mark.capability("ACT-1", "ACT-2")
def test_what_happened_and_who_changed_what_is_read_by_clicking(page: Page) -> None:
    look_up(page, "ada")
    page.get_by_label("Kind").select_option("link clicked")
    page.get_by_role("button", name="Filter the timeline").click()
    lines = page.get_by_role("table", name="What happened, the newest first").locator("tbody tr")
    expect(lines).to_have_count(2)
    expect(lines.first).to_contain_text("Link clicked: m1")
    expect(lines.first).to_contain_text("itself")
    expect(page.get_by_role("heading", name="Timeline")).to_be_in_viewport()
    with page.expect_download() as sheet:
        page.get_by_role("link", name="All as CSV of the timeline").click()
    assert len(sheet.value.path().read_text().splitlines()) == 3

    page.get_by_label("Merge this contact into").fill("grown-ada")
    page.get_by_role("button", name="Merge").click()
    expect(page.get_by_role("status")).to_have_text("Merged ada into grown-ada.")
    page.get_by_role("link", name="grown-ada", exact=True).first.click()
    expect(page.get_by_role("table", name="What happened")).to_contain_text("merged ada")
    page.get_by_role("button", name="Undo the merge of ada into grown-ada").click()
    expect(page.get_by_role("region", name="Timeline")).to_contain_text("Nothing happened yet.")

    go(page, "Audit")
    page.get_by_label("Of what").fill("ada@example.org")
    page.get_by_role("button", name="Filter").click()
    expect(page.get_by_role("alert")).to_contain_text("as setting:zone or contact:ada")
    assert "example.org" not in page.url
    page.get_by_label("Of what").fill("contact:ada")
    page.get_by_role("button", name="Filter").click()
    changes = page.get_by_role("table", name="The newest first").locator("tbody tr")
    expect(changes).to_have_count(2)
    expect(changes.first).to_contain_text("contact.unmerged")
    cells = changes.last.locator("td")
    expect(cells.nth(2)).to_have_text("nothing")
    expect(cells.nth(3)).to_have_text("contact:grown-ada")
    expect(cells.nth(4)).to_contain_text("key:")


@pytest.mark.capability("IDN-6")
def test_a_contact_is_deleted_restored_and_its_consent_recorded(page: Page) -> None:
    look_up(page, "ada")
    for level, frequency in (("refused", "none"), ("individual", "2")):
        page.get_by_label("Consent: what is kept").select_option(level)
        page.get_by_role("button", name="Record the consent").click()
        expect(page.get_by_role("status")).to_have_text(f"Consent of ada is {level} now.")
        expect(page.get_by_role("region", name="State")).to_contain_text(f"{level}: ")
        comes_to(page, frequency)
    page.get_by_role("button", name="Delete the contact").click()
    expect(page.get_by_role("status")).to_have_text("Deleted ada.")
    expect(page.get_by_role("region", name="State")).to_contain_text("by key:")
    comes_to(page, "none")
    page.get_by_role("button", name="Restore the contact").click()
    expect(page.get_by_role("status")).to_have_text("Restored ada.")
    comes_to(page, "2")


def comes_to(page: Page, frequency: str) -> None:
    """Loads the page until the rows have followed."""

    def there() -> bool:
        page.reload()
        return bool(figure(page, "Frequency").inner_text() == frequency)

    stack.eventually(there, f"frequency {frequency}", clusters.patience(20), 0.2)


@pytest.mark.capability("LAW-7")
def test_parked_records_are_looked_at_driven_again_and_discarded(
    page: Page, cluster: clusters.Cluster
) -> None:
    good = traffic.click("grace", time=NOW - timedelta(days=1), mailing="m9")
    for place, raw in enumerate((good, b"\x00\xff" * 40)):
        cluster.sql(
            "insert into heed_ops.parked (reason, detail, door, topic, part, off, bytes) values"
            " ('invalid', 'told', 'email-activity', 'email-activity', 0, %s, %s)", 1_000_000 + place, raw
        )  # fmt: skip
    page.reload()
    page.get_by_role("link", name="unknown type").click()
    row = page.get_by_role("row").filter(has_text="<img src=x onerror=alert(1)>\\u202e{{7*7}}")
    row.get_by_role("link").click()
    expect(page.get_by_label("Bytes as they came")).to_contain_text("</td><script>alert(2)</script>")
    assert page.evaluate("() => document.images.length") == 1

    go(page, "Parked")
    page.get_by_label("Reason").select_option("invalid")
    page.get_by_role("button", name="Filter").click()
    page.get_by_role("row", name="invalid").get_by_role("link").click()
    page.get_by_role("checkbox").last.check()
    page.get_by_role("button", name="Drive chosen again").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Driven again")
    expect(page.locator("dl.figures")).to_contain_text("Driven again\n1", use_inner_text=True)
    assert cluster.wait_row("grace") >= 0

    page.go_back()
    page.get_by_role("button", name="Discard all").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Discard for good?")
    page.get_by_role("link", name="Keep").click()
    assert [one["reason"] for one in cluster.parked()] == ["unknown_type", "invalid"]
    page.get_by_role("link", name="invalid").click()
    page.get_by_role("checkbox").check()
    page.get_by_role("button", name="Discard chosen").click()
    page.get_by_role("button", name="Discard 1 record").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Discarded")
    assert [one["reason"] for one in cluster.parked()] == ["unknown_type"]


@pytest.mark.capability("CEE-7")
def test_the_period_is_changed_and_the_rows_follow(page: Page, cluster: clusters.Cluster) -> None:
    go(page, "Settings")
    value = page.get_by_label("New value of engagement period months")
    value.fill(HOSTILE)
    page.get_by_role("button", name="Change engagement period months").click()
    expect(page.get_by_role("alert")).to_contain_text("takes a whole number from 1 to 1200")
    expect(value).to_have_attribute("aria-invalid", "true")
    expect(value).to_have_value(HOSTILE)
    value.fill("1")
    page.get_by_role("button", name="Change engagement period months").click()
    expect(page.get_by_role("status")).to_have_text("Engagement period months is 1 now.")
    section = page.get_by_role("region", name="Engagement period months")
    expect(section).to_contain_text("by key:")

    def followed() -> bool:
        page.reload()
        return section.get_by_text("All rows follow it").count() == 1

    stack.eventually(followed, "every row follows the period", clusters.patience(30), 0.3)
    look_up(page, "ada")
    expect(figure(page, "Frequency")).to_have_text("1")
    expect(page.get_by_text("A window of 1 month")).to_be_visible()
    go(page, "Settings")
    value.fill("12")
    page.get_by_role("button", name="Change engagement period months").click()
    expect(page.get_by_role("status")).to_contain_text("is 12 now")


@pytest.mark.capability("CEE-14")
def test_a_key_is_made_used_and_revoked_and_its_session_ends(
    page: Page, url: str, visit: watching.Visit
) -> None:
    go(page, "Keys")
    page.get_by_label("Name").fill("colleague")
    page.get_by_role("checkbox", name="access reads").check()
    page.get_by_role("button", name="Make the key").click()
    made = page.locator("code.secret").inner_text()
    assert status(url, made) == 200
    page.reload()
    assert made not in page.content()
    theirs = log_in(visit.page(base_url=url), made)
    theirs.goto("/console/keys")
    expect(theirs.get_by_role("heading", level=1)).to_have_text("This key may not do this")

    page.get_by_role("link", name="Revoke colleague").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Revoke this key?")
    page.get_by_role("button", name="Revoke colleague").click()
    expect(page.get_by_role("status")).to_contain_text("Revoked colleague")
    assert status(url, made) == 401
    theirs.goto("/console/contacts")
    expect(theirs.get_by_role("heading", level=1)).to_have_text("Log in")
    theirs.get_by_label("API key").fill(made)
    theirs.get_by_role("button", name="Log in").click()
    expect(theirs.get_by_role("alert")).to_contain_text("This key is not taken")


def test_logging_out_leaves_nothing_behind(page: Page) -> None:
    look_up(page, "ada")
    [cookie] = [one for one in page.context.cookies() if one["name"] == "heed_console"]
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Strict", "/console")
    assert page.evaluate("() => document.cookie") == ""
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Log in")
    page.go_back()
    expect(page.get_by_role("heading", level=1)).to_have_text("Log in")
    page.context.add_cookies([{"name": cookie["name"], "value": cookie["value"], "url": page.url}])
    page.goto("/console/contacts/ada")
    expect(page.get_by_role("heading", level=1)).to_have_text("Log in")


def test_by_keyboard_alone_and_without_script(visit: watching.Visit, url: str, key: str) -> None:
    """Logs in, finds a contact, asks why, and logs out; nothing is clicked and no script runs."""
    page = visit.page(base_url=url, java_script_enabled=False, viewport={"width": 390, "height": 800})

    def reach(name: str) -> None:
        for _ in range(60):
            page.keyboard.press("Tab")
            if name in looks.focus(page)["name"]:
                return
        raise AssertionError(f"no Tab leads to {name}")

    def press(name: str) -> None:
        reach(name)
        with page.expect_navigation():
            page.keyboard.press("Enter")

    page.goto("/console/contacts")
    reach("input.")
    page.keyboard.type(key)
    with page.expect_navigation():
        page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Contacts")
    reach("input.")
    page.keyboard.type("old-ada")
    with page.expect_navigation():
        page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("old-ada")
    press("The facts behind last click")
    expect(page.get_by_role("heading", name="Behind last click")).to_be_visible()
    assert looks.too_wide(page) == 0
    press("Close")
    press("Log out")
    expect(page.get_by_role("heading", level=1)).to_have_text("Log in")


def test_servers_that_are_away_are_told_on_a_page(
    visit: watching.Visit, cluster: clusters.Cluster, key: str
) -> None:
    port, nowhere = free_ports(2)
    dsn = f"postgresql://nobody@127.0.0.1:{nowhere}/none"
    cluster.launch.api(cluster.bootstrap, dsn, port, "api-away", HEED_KEYS="required").wait_for("listening")
    page = visit.page(base_url=f"http://127.0.0.1:{port}")
    page.goto("/console/contacts")
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("The keys are not known yet")
    assert looks.unheard(page) == []
    told, visit.wrong = visit.wrong, []
    assert told and all("status of 503" in one for one in told), told
