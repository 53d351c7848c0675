"""Contacts and sessions changed by API and by command line: it holds, and who did it stays on record."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import orjson
import pytest

from deploy.processes import free_ports
from schemas import topics
from tests import cluster as clusters
from tests import stack, traffic

NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture(scope="module")
def api(cluster: clusters.Cluster) -> Iterator[httpx.Client]:
    [port] = free_ports(1)
    cluster.launch.api(cluster.bootstrap, cluster.dsn, port).wait_for("listening")
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10) as client:
        yield client


def fresh(name: str) -> str:
    return f"{name}-{uuid.uuid4().hex[:8]}"


def clicked(subject: str, mailing: str) -> tuple[str, bytes]:
    event = orjson.loads(traffic.click("x", time=NOW - timedelta(days=1), mailing=mailing))
    return topics.EMAIL_ACTIVITY, orjson.dumps(event | {"subject": subject})


def ask(api: httpx.Client, method: str, path: str, body: Any = None, **headers: str) -> dict[str, Any]:
    answer = api.request(method, f"/v1/{path}", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def comes_to(api: httpx.Client, contact: str, frequency: int | None) -> None:
    def there() -> bool:
        return bool(ask(api, "GET", f"contacts/{contact}/engagement")["frequency"] == frequency)

    stack.eventually(there, f"{contact} has {frequency}", 20)


def heed(cluster: clusters.Cluster, *arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [stack.HEED, *arguments, "--json"],
        env=stack.clean_env(stack.servers_env(cluster.bootstrap, cluster.dsn) | cluster.env),
        capture_output=True, text=True, timeout=clusters.patience(60), check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = orjson.loads(done.stdout)
    return found


@pytest.mark.capability("CEE-12", "IDN-4", "EVT-14")
def test_deleted_and_restored(cluster: clusters.Cluster, api: httpx.Client) -> None:
    contact = fresh("gone")
    assert ask(api, "GET", f"contacts/{contact}")["known"] is False
    traffic.send_all(cluster.bootstrap, [clicked(f"contact:{contact}", "m1")])
    comes_to(api, contact, 1)
    gone = ask(api, "DELETE", f"contacts/{contact}")
    assert (gone["deleted"], len(gone["events"])) == (True, 1)
    known = ask(api, "GET", f"contacts/{contact}")
    assert known["known"] is True
    assert known["deleted"] | {"time": None} == {
        **gone["events"][0],
        "time": None,
        "actor": known["deleted"]["actor"],
    }
    assert known["deleted"]["actor"].startswith("local:")
    assert ask(api, "DELETE", f"contacts/{contact}")["events"] == [], "deleted already"
    comes_to(api, contact, None)
    traffic.send_all(cluster.bootstrap, [clicked(f"contact:{contact}", "m2")])
    back = heed(cluster, "contact", "restore", contact)
    assert (back["deleted"], len(back["events"])) == (False, 1)
    comes_to(api, contact, 2)
    assert ask(api, "GET", f"contacts/{contact}")["deleted"] is None
    [who] = cluster.sql(
        "select actor from heed_data.fact where subject = %s and type = 'contact.restored'",
        f"contact:{contact}",
    )
    assert who["actor"].startswith("cli:")
    shown = heed(cluster, "contact", contact)
    assert shown == heed(cluster, "contact", "show", contact) | {"owner": shown["owner"], "row": shown["row"]}
    assert [one["type"] for one in shown["facts"]["items"]][:2] == ["contact.restored", "contact.deleted"]


@pytest.mark.capability("CEE-12", "LAW-1")
def test_deleted_though_a_word_dated_later_stands(cluster: clusters.Cluster, api: httpx.Client) -> None:
    """Admission takes what is up to five minutes ahead; what is answered holds all the same."""
    contact = fresh("ahead")
    restored = {
        "specversion": "1.0", "id": uuid.uuid4().hex, "source": "urn:test", "type": "contact.restored",
        "subject": f"contact:{contact}", "time": (datetime.now(UTC) + timedelta(minutes=4)).isoformat(),
    }  # fmt: skip
    traffic.send_all(
        cluster.bootstrap,
        [(topics.CONTACT_IDENTITY, orjson.dumps(restored)), clicked(f"contact:{contact}", "m1")],
    )
    comes_to(api, contact, 1)
    cluster.settle()
    ask(api, "DELETE", f"contacts/{contact}")
    comes_to(api, contact, None)
    assert ask(api, "GET", f"contacts/{contact}")["deleted"] is not None


@pytest.mark.capability("IDN-5", "IDN-6")
def test_consent_refused_and_given_again(cluster: clusters.Cluster, api: httpx.Client) -> None:
    contact, other = fresh("shy"), fresh("open")
    traffic.send_all(cluster.bootstrap, [clicked(f"contact:{one}", f"m-{one}") for one in (contact, other)])
    comes_to(api, contact, 1)
    refused = ask(api, "POST", f"contacts/{contact}/consent", {"level": "refused"})
    assert (refused["level"], len(refused["events"])) == ("refused", 1)
    comes_to(api, contact, None)
    assert ask(api, "POST", f"contacts/{contact}/consent", {"level": "refused"})["events"] == []
    heed(cluster, "contact", "consent", other, "individual")
    merged = heed(cluster, "contact", "merge", other, "--into", contact)
    assert merged["merged_into"] == contact
    comes_to(api, contact, None)
    found = ask(api, "GET", f"contacts/{other}")
    assert (found["contact_id"], found["merged_into"]) == (contact, contact)
    assert (found["consent"]["level"], found["consent"]["subject"]) == ("refused", f"contact:{contact}")
    assert [(one["subject"], one["contact_id"]) for one in found["links"]] == [(f"contact:{other}", contact)]
    given = ask(api, "POST", f"contacts/{contact}/consent", {"level": "individual"})
    assert len(given["events"]) == 1
    comes_to(api, contact, 2)
    heed(cluster, "contact", "unmerge", other, "--into", contact)
    comes_to(api, other, 1)
    cluster.settle()
    cluster.check()
    cluster.replay_check()


@pytest.mark.capability("EVT-5", "EVT-6", "IDN-4", "LAW-3")
def test_a_session_from_its_creation_to_its_parting(cluster: clusters.Cluster, api: httpx.Client) -> None:
    contact = fresh("visitor")
    made = ask(api, "POST", "sessions", {}, **{"Idempotency-Key": contact})
    session = made["session_id"]
    again = ask(api, "POST", "sessions", {}, **{"Idempotency-Key": contact})
    assert again == {"session_id": session, "events": []}
    traffic.send_all(cluster.bootstrap, [clicked(f"session:{session}", "m1")])
    ask(api, "POST", f"sessions/{session}/start")
    heed(cluster, "session", "start", session)
    known = ask(api, "GET", f"sessions/{session}")
    assert (known["contact_id"], known["starts"]) == (None, 2)
    assert known["created_at"] <= known["started_at"]
    comes_to(api, contact, None)
    linked = ask(api, "POST", f"sessions/{session}/link", {"contact_id": contact})
    assert linked["contact_id"] == contact
    comes_to(api, contact, 1)
    assert heed(cluster, "session", "link", session, "--to", contact)["events"] == []
    assert heed(cluster, "session", "show", session)["contact_id"] == contact
    parted = heed(cluster, "session", "unlink", session, "--to", contact)
    assert (parted["contact_id"], len(parted["events"])) == (None, 1)
    comes_to(api, contact, None)
    named = ask(api, "POST", "sessions", {"session_id": fresh("given")})
    assert named["session_id"].startswith("given-")


@pytest.mark.capability("IDN-4", "EVT-5")
def test_bad_input_is_told_what_to_do(api: httpx.Client) -> None:
    for method, path, body, status, says in (
        ("GET", "contacts/a@b", None, 404, "1 to 64"),
        ("DELETE", "contacts/a%20b", None, 404, "1 to 64"),
        ("DELETE", "contacts//restore", None, 405, "method"),
        ("POST", "contacts/ada/consent", {"level": "maybe"}, 400, "level"),
        ("POST", "contacts/ada/consent", {}, 400, "level"),
        ("POST", "contacts/ada/consent", {"level": "refused", "why": 1}, 400, "level"),
        ("GET", f"sessions/{fresh('never')}", None, 404, "Nothing was ever told"),
        ("POST", "sessions", {"session_id": "a b"}, 400, "1 to 64"),
        ("POST", "sessions/s/link", {"contact_id": "a@b"}, 400, "1 to 64"),
        ("POST", "sessions/s/link", {}, 400, "contact_id"),
    ):
        answer = api.request(method, f"/v1/{path}", json=body)
        assert answer.status_code == status, (path, answer.text)
        assert says in answer.text, (path, answer.text)
