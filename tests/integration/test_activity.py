"""Timelines, and what people and keys changed, over HTTP and by the command line: one real worker, an API."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from api import activity, audit, pages
from deploy.processes import free_ports
from schemas import topics
from tests import cluster as clusters
from tests import stack, traffic


@pytest.fixture(scope="module")
def cluster(
    servers: stack.Servers, module_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[clusters.Cluster]:
    stack.recreate_topics(servers.bootstrap, topics.all_topics(stack.HOMES))
    home: Path = tmp_path_factory.mktemp("home")
    with stack.Launcher() as launch:
        made = clusters.Cluster(launch, servers.bootstrap, module_database, home)
        yield made.start("worker-1")
        made.close()


@pytest.fixture(scope="module")
def api(cluster: clusters.Cluster) -> Iterator[httpx.Client]:
    [port] = free_ports(1)
    cluster.launch.api(cluster.bootstrap, cluster.dsn, port, **cluster.env).wait_for("listening")
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        yield client


def heed(cluster: clusters.Cluster, *arguments: str) -> Any:
    env = stack.clean_env(stack.servers_env(cluster.bootstrap, cluster.dsn) | cluster.env)
    command = [str(stack.HEED), *arguments, "--json"]
    found = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout)


def fresh(name: str) -> str:
    return f"{name}-{uuid.uuid4().hex[:8]}"


def whole(api: httpx.Client, path: str, size: int, **query: str) -> list[dict[str, Any]]:
    """A list by pages, each behind the one before."""
    found: list[dict[str, Any]] = []
    asked = {**query, "limit": str(size)}
    while True:
        answer = api.get(path, params=asked)
        assert answer.status_code == 200, answer.text
        found += answer.json()["items"]
        if answer.json()["next"] is None:
            return found
        asked["after"] = answer.json()["next"]


def sheet(api: httpx.Client, path: str, **query: str) -> list[dict[str, str]]:
    """The same as CSV."""
    answer = api.get(path, params=query, headers={"Accept": "text/csv"})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    return list(csv.DictReader(io.StringIO(answer.text, newline="")))


def cells(items: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Items of JSON as cells of CSV are read; none of these begins like a formula."""
    return [{name: "" if value is None else str(value) for name, value in one.items()} for one in items]


NOW = datetime.now(UTC).replace(microsecond=0)
MANY = """
insert into heed_data.registry
    (subject, key, source, id, type, time, version, digest, accepted, actor, off, data)
select 'setting:trial', md5('trial' || i)::uuid, 'urn:test', 'trial-' || i, 'setting.changed',
    case i when 0 then timestamptz '0044-03-15 BC' else now() - interval '1 second' * i end, 1,
    md5(i::text)::uuid, now(), 'cli:trial', 0, '{"name": "trial", "value": "x"}'
from generate_series(%s::int, %s::int) i
"""


def told(
    kind: str, subject: str, data: dict[str, Any], days: float, id: str | None = None
) -> tuple[str, bytes]:
    event = {
        "specversion": "1.0", "id": id or uuid.uuid4().hex, "source": "urn:test", "type": kind,
        "subject": subject, "time": (NOW - timedelta(days=days)).isoformat(), "data": data,
    }  # fmt: skip
    doors = {"mail": topics.EMAIL_ACTIVITY, "page": topics.CUSTOM_EVENTS}
    return doors.get(kind.partition(".")[0], topics.CONTACT_IDENTITY), json.dumps(event).encode()


@pytest.mark.capability("ACT-1", "IDN-5", "LAW-3", "LAW-5")
def test_a_timeline_over_a_merge_and_back(cluster: clusters.Cluster, api: httpx.Client) -> None:
    ada, bea, visit = fresh("ada"), fresh("bea"), f"session:{fresh('visit')}"
    url = {"url": "https://example.org/secret"}
    sent = [
        told("mail.sent", f"contact:{ada}", {"mailing_id": "spring"}, 9),
        told("mail.bounced", f"contact:{ada}", {"mailing_id": "spring", "kind": "soft"}, 8),
        told("mail.opened", f"contact:{bea}", {"mailing_id": "spring"}, 7),
        told("mail.opened", f"contact:{bea}", {"mailing_id": "trial", "test": True}, 6),
        told("page.viewed", visit, url, 5.5),
        told("mail.clicked", visit, url, 5),
        told("session.linked", visit, {"contact_id": bea}, 4),
    ]
    traffic.send_all(cluster.bootstrap, sent)
    cluster.settle()
    path, of_bea = f"/v1/contacts/{ada}/activity", f"/v1/contacts/{bea}/activity"
    assert [one["text"] for one in whole(api, path, 1)] == ["Mail bounced: spring, soft", "Mail sent: spring"]
    before = whole(api, of_bea, 9)
    assert [(one["text"], one["subject"]) for one in before] == [
        (f"Session linked to contact: {bea}", visit), ("Link clicked", visit),
        ("Page viewed", visit),
        ("Mail opened: spring", f"contact:{bea}"),
    ]  # fmt: skip

    assert api.post(f"/v1/contacts/{bea}/merge", json={"into": ada}).status_code == 200
    joined = whole(api, path, 2)
    assert [one["event_type"] for one in joined] == [
        "contact.merged", "session.linked", "mail.clicked", "page.viewed", "mail.opened", "mail.bounced",
        "mail.sent",
    ]  # fmt: skip
    assert {one["contact_id"] for one in joined} == {ada}
    assert joined[0]["actor"].startswith("local:")
    answer = api.get(of_bea).json()
    assert (answer["contact_id"], answer["merged_into"], answer["items"]) == (ada, ada, joined)
    assert api.get("/v1/activity", params={"contact": bea}).json() == answer
    assert sheet(api, path) == cells(joined)
    assert heed(cluster, "contact", "activity", bea) == answer
    assert [tuple(one) for one in joined] == [activity.COLUMNS] * 7
    assert "secret" not in json.dumps(joined)
    everybody = whole(api, "/v1/activity", 4)
    assert everybody == whole(api, "/v1/activity", 1_000)
    assert [one for one in everybody if one["contact_id"] == ada] == joined
    assert sheet(api, "/v1/activity") == cells(everybody)

    dashboard = cluster.dsn.replace("//heed@", "//heed_dashboard@")
    with psycopg.connect(dashboard, autocommit=True) as sql:
        columns = ", ".join(activity.COLUMNS[2:])
        statement = f"select {columns} from heed_read.activity where contact = %s order by time desc"
        seen = sql.execute(statement.encode(), (f"contact:{ada}",)).fetchall()
    assert seen == [tuple(one[name] for name in activity.COLUMNS[2:]) for one in joined]

    then = (NOW - timedelta(days=6.5)).isoformat()
    past = api.get(of_bea, params={"as_of": then}).json()
    assert ([one["text"] for one in past["items"]], past["contact_id"]) == (["Mail opened: spring"], bea)
    assert "merged_into" not in past
    assert heed(cluster, "contact", "activity", bea, "--as-of", then)["items"] == past["items"]

    assert api.post(f"/v1/contacts/{bea}/unmerge", json={"into": ada}).status_code == 200
    assert whole(api, of_bea, 9) == before
    assert [one["event_type"] for one in whole(api, path, 9)] == ["mail.bounced", "mail.sent"]


@pytest.mark.capability("ACT-1", "CEE-12", "LAW-5")
def test_a_deleted_contact_shows_nothing_until_it_is_back(
    cluster: clusters.Cluster, api: httpx.Client
) -> None:
    ada = fresh("ada")
    path = f"/v1/contacts/{ada}/activity"
    sent = [
        told("mail.sent", f"contact:{ada}", {"mailing_id": "spring"}, 9),
        told("mail.bounced", f"contact:{ada}", {"mailing_id": "spring", "kind": "soft"}, 8),
        told("contact.deleted", f"contact:{ada}", {}, 1),
    ]
    traffic.send_all(cluster.bootstrap, sent)
    cluster.settle()
    assert whole(api, path, 9) == []
    assert len(whole(api, path, 9, as_of=(NOW - timedelta(days=2)).isoformat())) == 2
    assert api.post(f"/v1/contacts/{ada}/restore").status_code == 200
    found = whole(api, path, 9)
    assert [one["text"] for one in found[:2]] == ["Contact restored", "Contact deleted"]
    assert (found[0]["actor"][:6], found[1]["actor"]) == ("local:", None)
    for query, types in (
        ({"type": "Contact"}, ["contact.restored", "contact.deleted"]),
        ({"action": "Output"}, ["mail.sent"]),
        ({"feature": "Tracking"}, []),
        ({"status": "Failed"}, ["mail.bounced"]),
        ({"status": "Failed", "action": "Output"}, []),
        ({"actor": "key:none"}, []),
        ({"from": found[2]["time"], "to": found[1]["time"]}, ["mail.bounced"]),
    ):  # fmt: skip
        assert [one["event_type"] for one in whole(api, path, 9, **query)] == types, query


@pytest.mark.capability("ACT-1")
def test_questions_that_cannot_be_answered(api: httpx.Client) -> None:
    tomorrow = (NOW + timedelta(days=1)).isoformat()
    wrong = [{"type": "Mail"}, {"status": "completed"}, {"as_of": tomorrow}, {"from": "today"}]
    wrong += [{"after": "bm8"}, {"limit": "1001"}, {"format": "csv", "limit": "5"}, {"actor": "a\n"}]
    for query in wrong:
        for path in ("/v1/contacts/ada/activity", "/v1/activity"):
            answer = api.get(path, params=query)
            assert (answer.status_code, answer.json()["title"]) == (
                400, "A parameter or header is not what the route takes",
            )  # fmt: skip
    for path in ("/v1/contacts/a@b/activity", "/v1/activity?contact=a@b"):
        assert api.get(path).status_code == 404
    assert api.get("/v1/contacts/nobody-yet/activity").json() == {
        "contact_id": "nobody-yet", "items": [], "next": None,
    }  # fmt: skip


@pytest.mark.capability("ACT-2")
def test_csv_of_many_pages_is_whole_and_one_that_breaks_off_is_seen_to(
    cluster: clusters.Cluster, api: httpx.Client
) -> None:
    """What cannot be read stands behind the first rows that are sent: a time that no client can hold."""
    count = 2 * pages.OF_CSV + 7
    try:
        cluster.sql(MANY + " returning 1", 1, count)
        found = sheet(api, "/v1/audit", actor="cli:trial")
        assert [one["id"] for one in found] == [f"trial-{n}" for n in range(1, count + 1)]
        cluster.sql(MANY + " returning 1", 0, 0)
        with pytest.raises(httpx.RemoteProtocolError):
            api.get("/v1/audit", params={"actor": "cli:trial", "format": "csv"})
        assert api.get("/v1/audit", params={"limit": "3"}).status_code == 200, "the API goes on"
    finally:
        cluster.sql("delete from heed_data.registry where actor = 'cli:trial' returning 1")


@pytest.mark.capability("ACT-2")
def test_who_changed_what(cluster: clusters.Cluster, api: httpx.Client) -> None:
    who, first, second = fresh("who"), fresh("first"), fresh("second")
    traffic.send_all(cluster.bootstrap, [("email-activity", b"rubbish")])
    cluster.settle()
    for into in (first, second):
        assert api.post(f"/v1/contacts/{who}/merge", json={"into": into}).status_code == 200
    assert api.post(f"/v1/contacts/{who}/unmerge", json={"into": second}).status_code == 200
    for months in ("24", "12"):
        heed(cluster, "settings", "set", "engagement_period_months", months)
    heed(cluster, "parked", "discard", "--reason", "undecodable")
    [stood] = cluster.sql("select subject from heed_data.registry where type = 'parked.discarded'")

    links = whole(api, "/v1/audit", 1, about=f"contact:{who}")
    assert [(one["type"], one["before"], one["after"]) for one in links] == [
        ("contact.unmerged", f"contact:{second}", f"contact:{first}"),
        ("contact.merged", f"contact:{first}", f"contact:{second}"),
        ("contact.merged", None, f"contact:{first}"),
    ]
    assert all(one["actor"].startswith("local:") and one["time"] == one["accepted"] for one in links)
    found = whole(api, "/v1/audit", 2, about="setting:engagement_period_months")
    assert [(one["before"], one["after"], one["actor"].partition(":")[0]) for one in found] == [
        ("24", "12", "cli"), ("12", "24", "cli"), (None, "12", "environment"),
    ]  # fmt: skip
    assert found[-1]["time"] == "1970-01-01T00:00:00.000Z" < found[-1]["accepted"]
    [discarded] = whole(api, "/v1/audit", 9, type="parked.discarded")
    assert (discarded["about"], discarded["before"], discarded["after"]) == (
        stood["subject"], "undecodable", None,
    )  # fmt: skip

    everything = whole(api, "/v1/audit", 1_000)
    assert [tuple(one) for one in everything] == [audit.COLUMNS] * len(everything)
    assert len(everything) >= 9
    for size in (1, 4):
        assert whole(api, "/v1/audit", size) == everything
    assert sheet(api, "/v1/audit") == cells(everything)
    assert heed(cluster, "audit", "--limit", "1000")["items"] == json.loads(json.dumps(everything))
    window = {"from": links[1]["time"], "to": links[0]["time"]}
    assert links[1] in whole(api, "/v1/audit", 100, **window)
    assert links[0] not in whole(api, "/v1/audit", 100, **window)


@pytest.mark.capability("ACT-2", "CEE-14")
def test_a_key_that_was_made_and_revoked(cluster: clusters.Cluster, api: httpx.Client) -> None:
    """The last test: from now on the API asks for a key."""
    made = heed(cluster, "keys", "create", "=cmd()", "--scope", "administer")
    api.headers["Authorization"] = f"Bearer {made['key']}"
    url = api.base_url.join("/v1/audit")
    stack.eventually(lambda: httpx.get(url).status_code == 401, "a key is asked for", 20)
    by_key = api.post("/v1/keys", json={"name": "shop", "scopes": ["access"]}).json()
    assert api.post(f"/v1/keys/{by_key['id']}/revoke").status_code == 200
    found = whole(api, "/v1/audit", 9, about=f"key:{by_key['id']}")
    assert [(one["type"], one["before"], one["after"], one["actor"]) for one in found] == [
        ("key.revoked", "shop (access)", None, f"key:{made['id']}"),
        ("key.created", None, "shop (access)", f"key:{made['id']}"),
    ]
    assert made["key"] not in json.dumps(whole(api, "/v1/audit", 1_000))
    [guarded] = sheet(api, "/v1/audit", about=f"key:{made['id']}")
    assert guarded["after"] == "'=cmd() (administer)"
    access = {"Authorization": f"Bearer {by_key['key']}"}
    assert api.get("/v1/audit", headers=access).status_code == 401, "it was revoked"
    for query in ({"type": "zone"}, {"actor": ""}, {"from": "now"}, {"after": "x"}, {"format": "xls"},
                  {"limit": "5", "format": "csv"}, {"sort": "time"}):  # fmt: skip
        answer = api.get("/v1/audit", params=query)
        assert (answer.status_code, next(iter(query)) in answer.json()["detail"] or "sort" in query) == (
            400, True,
        )  # fmt: skip
