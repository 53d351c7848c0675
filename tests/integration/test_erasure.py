"""A contact forgotten for ever: nothing of it can be read anywhere afterwards (LAW-6)."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import psycopg
import pytest

from deploy import postgres
from schemas import events, sealing, topics
from tests import cluster as clusters
from tests import keyring, stack, traffic
from tests.oracle import broker as reading
from tests.unit import samples

pytestmark = pytest.mark.capability("LAW-6")

LOG = (topics.FACTS, topics.REGISTRY, topics.KEYS, topics.COMMANDS)
MARK = "marked"
# A row with everything in it, whatever the table.
TABLES = """
select table_schema, table_name from information_schema.tables
where table_schema not in ('pg_catalog', 'information_schema') order by 1, 2
"""


@pytest.fixture(scope="module")
def api(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=30) as client:
        yield client


def fresh(name: str) -> str:
    return f"{name}-{uuid.uuid4().hex[:8]}"


def about(subject: str) -> list[dict[str, Any]]:
    """An event of every type that carries something personal, each such field marked."""
    return [
        samples.event(
            event.name,
            id=uuid.uuid4().hex,
            subject=subject,
            data={
                **samples.DATA[event.name],
                **samples.marked(event, lambda: f"{MARK}-{uuid.uuid4().hex}@example.org"),
            },
        )
        for event in events.built()
        if event.personal and subject.startswith(event.subjects)
    ]


def heed(cluster: clusters.Cluster, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = stack.servers_env(cluster.bootstrap, cluster.dsn) | cluster.env
    return subprocess.run(
        [stack.HEED, *arguments], env=stack.clean_env(env), capture_output=True, text=True, timeout=180,
        check=False,
    )  # fmt: skip


def held(cluster: clusters.Cluster, word: str) -> list[str]:
    """Tables of any schema in which the word stands, in whatever column."""
    found = []
    with psycopg.connect(cluster.dsn, autocommit=True) as connection:
        for schema, table in connection.execute(TABLES).fetchall():
            there = connection.execute(
                f'select exists (select from "{schema}"."{table}" t where strpos(t::text, %s) > 0)'.encode(),
                (word,),
            ).fetchone()
            hexed = connection.execute(
                f'select exists (select from "{schema}"."{table}" t where strpos(t::text, %s) > 0)'.encode(),
                (word.encode().hex(),),
            ).fetchone()
            if there == (True,) or hexed == (True,):
                found.append(f"{schema}.{table}")
    return found


def keys_of(cluster: clusters.Cluster, subject: str) -> list[dict[str, Any]]:
    return cluster.sql("select * from heed_ops.data_key where subject = %s", subject)


def openable(cluster: clusters.Cluster, subjects: set[str]) -> list[str]:
    """Facts of these subjects on the log that some key which the topic keys still holds opens."""
    kept = {}
    for one in reading.records(cluster.bootstrap, topics.KEYS):
        read = sealing.read_record(one.value)
        kept[read.kid] = read
    opened = []
    for one in reading.records(cluster.bootstrap, topics.FACTS):
        fact = json.loads(one.value)
        key = kept.get(fact.get("kid", ""))
        if fact["subject"] in subjects and key is not None and key.wrapped is not None:
            assert key.master is not None
            raw = keyring.master().unwrap(key.wrapped, key.kid, key.master)
            opened.append(
                sealing.DataKey(key.kid, raw).open(fact["source"], fact["id"], fact["sealed"]).decode()
            )
    return opened


def nothing_stands_marked(cluster: clusters.Cluster) -> None:
    """In no table, no dump, no record of the log, no line of a process."""
    assert held(cluster, MARK) == [], "in no table"
    dump = subprocess.run(
        [str(postgres.find_programs() / "pg_dump"), cluster.dsn], capture_output=True, check=True, timeout=120
    ).stdout
    assert MARK.encode() not in dump
    for topic in LOG:
        for one in reading.records(cluster.bootstrap, topic):
            assert MARK.encode() not in (one.key or b"") + one.value
    for process in cluster.launch.started:
        assert not [line for line in process.lines if MARK in line], process.name


def nothing_is_told_of(api: httpx.Client, contact: str, merged: str) -> None:
    for path in (f"contacts/{contact}", f"contacts/{merged}", f"contacts/{contact}/engagement",
                 f"contacts/{contact}/engagement/explain", f"contacts/{contact}/activity",
                 f"contacts/{merged}/export"):  # fmt: skip
        found = api.get(f"/v1/{path}")
        assert (found.status_code, found.json()["type"]) == (410, "/docs/errors.md#erased"), path


def test_nothing_is_left_of_a_contact_and_of_what_belonged_to_it(
    cluster: clusters.Cluster, api: httpx.Client
) -> None:
    contact, merged, session, other = fresh("ada"), fresh("ada-old"), fresh("visit"), fresh("bob")
    subjects = {f"contact:{contact}", f"contact:{merged}", f"session:{session}"}
    told = [event for subject in (*subjects, f"contact:{other}") for event in about(subject)]
    by_http, by_door = told[::2], told[1::2]
    answer = api.post("/v1/events", json=by_http)
    assert {one["status"] for one in answer.json()["outcomes"]} == {"accepted"}
    ahead = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    wait = samples.event(
        "mail.bounced", id=uuid.uuid4().hex, subject=f"contact:{contact}", time=ahead,
        data={**samples.DATA["mail.bounced"], "email": f"{MARK}-parked@example.org"},
    )  # fmt: skip
    wrong = {**by_door[0], "id": uuid.uuid4().hex, "data": {"url": 7, "email": f"{MARK}-wrong"}}
    wrong["subject"] = f"contact:{contact}"
    traffic.send_all(
        cluster.bootstrap,
        [(samples.door(one["type"]), samples.encode(one)) for one in (*by_door, wait, wrong)],
    )
    assert api.post(f"/v1/contacts/{merged}/merge", json={"into": contact}).status_code == 200
    linked = api.post(f"/v1/sessions/{session}/link", json={"contact_id": contact})
    assert linked.status_code == 200, linked.text
    cluster.settle()
    stack.eventually(lambda: len(cluster.parked()) == 2, "two are parked", 30)
    assert openable(cluster, subjects), "the test looks where something stands"
    assert held(cluster, f"{MARK}-parked")

    refused = api.post(f"/v1/contacts/{merged}/erase", json={"why": "asked for"})
    assert (refused.status_code, refused.json()["merged_into"]) == (409, contact)
    erased = api.post(f"/v1/contacts/{merged}/erase", json={"why": "asked for", "whole": True})
    assert erased.status_code == 200, erased.text
    identifiers = 2 * 4  # of two contacts: a number, an id of the sender's own, two addresses
    assert (erased.json()["contact_id"], erased.json()["subjects"]) == (contact, 3 + identifiers)

    def gone() -> bool:
        kept = [key for one in subjects for key in keys_of(cluster, one) if not key["destroyed"]]
        facts = cluster.sql("select from heed_data.fact where subject = any(%s)", sorted(subjects))
        parked = cluster.sql("select from heed_ops.parked where subject = any(%s)", sorted(subjects))
        waits = cluster.sql("select from heed_ops.key_to_destroy")
        return not kept and not facts and not parked and not waits

    stack.eventually(gone, "facts and keys are gone", 30)
    assert all(keys_of(cluster, one) for one in subjects), (
        "destroyed is a value: a key never only goes missing"
    )
    assert openable(cluster, subjects) == []
    assert len(openable(cluster, {f"contact:{other}"})) == len(about("contact:x"))
    nothing_stands_marked(cluster)
    nothing_is_told_of(api, contact, merged)
    [audited] = [one for one in api.get("/v1/audit").json()["items"] if one["type"] == "contact.erased"]
    assert audited["actor"].startswith("local:")

    again = api.post(f"/v1/contacts/{contact}/erase")
    assert (again.status_code, again.json()["events"]) == (200, [])


def test_what_comes_later_is_refused_and_leaves_nothing(cluster: clusters.Cluster, api: httpx.Client) -> None:
    contact, other = fresh("eve"), fresh("mallory")
    subject = f"contact:{contact}"
    traffic.send_all(
        cluster.bootstrap, [(samples.door(one["type"]), samples.encode(one)) for one in about(subject)]
    )
    cluster.settle()
    done = heed(cluster, "erase", contact, "--yes", "--why", "asked for", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["held"] == {"facts": 0, "keys": 0}

    before = len(cluster.parked())
    late = about(subject)
    wrong = {**late[0], "id": uuid.uuid4().hex, "data": {"url": 7, "note": f"{MARK}-late"}}
    traffic.send_all(
        cluster.bootstrap, [(samples.door(one["type"]), samples.encode(one)) for one in (*late, wrong)]
    )
    stack.eventually(lambda: len(cluster.parked()) == before + len(late) + 1, "all are parked", 30)
    parked = cluster.sql("select * from heed_ops.parked order by id desc limit %s", len(late) + 1)
    told = ("type", "source", "event_id", "subject", "event_time")
    assert {one["reason"] for one in parked} == {"erased"}
    assert all(bytes(one["bytes"]) == b"" and not any(one[name] for name in told) for one in parked)
    assert held(cluster, f"{MARK}-late") == []

    def refused() -> bool:
        answer = api.post("/v1/events", json=about(subject))
        return answer.status_code == 400 and {one["reason"] for one in answer.json()["outcomes"]} == {
            "erased"
        }

    stack.eventually(refused, "the API refuses them", 30, 0.2)
    cluster.settle()
    assert cluster.sql("select from heed_data.fact where subject = %s", subject) == []
    stack.eventually(
        lambda: all(key["destroyed"] for key in keys_of(cluster, subject)), "no key of it stays", 30
    )
    assert api.post(f"/v1/contacts/{contact}/consent", json={"level": "individual"}).status_code == 410
    assert api.post(f"/v1/contacts/{other}/merge", json={"into": contact}).status_code == 410
    merge = samples.event(
        "contact.merged", id=uuid.uuid4().hex, subject=f"contact:{other}", data={"into": contact}
    )
    traffic.send_all(cluster.bootstrap, [(topics.CONTACT_IDENTITY, samples.encode(merge))])
    cluster.settle()
    assert api.get(f"/v1/contacts/{other}").json()["contact_id"] == other, "a link to the erased is inert"
    assert heed(cluster, "erase", contact).returncode == 2, "nothing is erased without a word"
    assert heed(cluster, "parked", "redrive", "--reason", "erased", "--json").returncode == 1
    assert {
        one["reason"]
        for one in cluster.sql("select reason from heed_ops.parked where reason = 'undecodable'")
    } == set()


def test_an_address_that_two_have_stays_with_the_other(cluster: clusters.Cluster, api: httpx.Client) -> None:
    gone, stays = fresh("gone"), fresh("stays")
    shared, own = f"{fresh('shared')}@example.org", f"{fresh('own')}@example.org"
    told = [
        samples.event(
            "contact.identified", id=uuid.uuid4().hex, subject=f"contact:{contact}", data={"emails": emails}
        )
        for contact, emails in ((gone, [shared, own]), (stays, [shared]))
    ]
    clicks = [
        samples.event("mail.clicked", id=uuid.uuid4().hex, subject=f"email:{address}")
        for address in (shared, own)
    ]
    answer = api.post("/v1/events", json=[*told, *clicks])
    assert {one["status"] for one in answer.json()["outcomes"]} == {"accepted"}, answer.text
    cluster.settle()
    assert api.get(f"/v1/contacts/{gone}/engagement").json()["frequency"] == 1
    erased = api.post(f"/v1/contacts/{gone}/erase").json()
    assert erased["subjects"] == 2, "itself, and the address that is its own alone"
    stack.eventually(
        lambda: api.get(f"/v1/contacts/{stays}/engagement").json()["frequency"] == 1, "it is the other's", 20
    )
    late = [
        samples.event("mail.clicked", id=uuid.uuid4().hex, subject=f"email:{address}")
        for address in (shared, own)
    ]

    def judged() -> bool:
        found = api.post("/v1/events", json=late).json()["outcomes"]
        return [one["status"] for one in found] == ["accepted", "refused"]

    stack.eventually(judged, "only the one that is erased is refused", 10, 0.2)


def test_the_log_read_anew_says_the_same(cluster: clusters.Cluster) -> None:
    done = heed(cluster, "replay", "--check")
    assert done.returncode == 0, done.stdout + done.stderr
    done = heed(cluster, "replay")
    assert done.returncode == 0, done.stdout + done.stderr
    assert held(cluster, MARK) == []
    gone = cluster.sql("select count(*) as n from heed_data.erased")
    assert gone[0]["n"] >= 4
    assert cluster.sql("select from heed_data.fact join heed_data.erased using (subject)") == []
