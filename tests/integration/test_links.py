"""Contacts merged and sessions linked, on real servers, by every way in, and all of it taken back."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
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


def told(kind: str, subject: str, data: dict[str, Any], id: str | None = None) -> bytes:
    event = {
        "specversion": "1.0", "id": id or uuid.uuid4().hex, "source": "urn:test", "type": kind,
        "subject": subject, "time": NOW.isoformat(), "data": data,
    }  # fmt: skip
    return json.dumps(event).encode()


def clicked(subject: str, mailing: str, days: int = 1) -> tuple[str, bytes]:
    event = json.loads(traffic.click("x", time=NOW - timedelta(days=days), mailing=mailing))
    return topics.EMAIL_ACTIVITY, json.dumps(event | {"subject": subject}).encode()


def engagement(api: httpx.Client, contact: str, **asked: str) -> dict[str, Any]:
    answer = api.get(f"/v1/contacts/{contact}/engagement", params=asked)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def comes_to(api: httpx.Client, contact: str, frequency: int | None, into: str | None = None) -> float:
    def there() -> bool:
        found = engagement(api, contact)
        return (found["frequency"], found.get("merged_into")) == (frequency, into)

    return stack.eventually(there, f"{contact} has {frequency}, of {into}", 20)


@pytest.mark.capability("CEE-11", "IDN-4", "IDN-5", "LAW-3")
def test_merged_by_api_and_taken_back(cluster: clusters.Cluster, api: httpx.Client) -> None:
    into, merged, event = fresh("into"), fresh("merged"), f"contact:{fresh('event')}"
    sent = [clicked(f"contact:{into}", "m1", 3), clicked(f"contact:{merged}", "m1"),
            clicked(f"contact:{merged}", "m2", 2)]  # fmt: skip
    traffic.send_all(cluster.bootstrap, sent)
    comes_to(api, into, 1)
    comes_to(api, merged, 2)
    before = engagement(api, into), engagement(api, merged)

    answer = api.post(f"/v1/contacts/{merged}/merge", json={"into": into})
    assert answer.status_code == 200, answer.text
    assert answer.json()["merged_into"] == into
    assert len(answer.json()["events"]) == 1
    assert comes_to(api, into, 2) < clusters.patience(1.0)
    found = engagement(api, merged)
    assert (found["contact_id"], found["merged_into"], found["frequency"]) == (into, into, 2)
    assert cluster.row(merged) is None, "no view shows who was merged"
    again = api.post(f"/v1/contacts/{merged}/merge", json={"into": into})
    assert (again.status_code, again.json()["events"]) == (200, []), "merged there already"
    calculated = api.post(f"/v1/contacts/{merged}/engagement/calculate").json()
    assert (calculated["id"], calculated["merged_into"], calculated["differs"]) == (into, into, False)
    explained = api.get(f"/v1/contacts/{merged}/engagement/explain").json()
    assert (explained["contact_id"], explained["merged_into"]) == (into, into)
    then = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    assert engagement(api, merged, as_of=then)["frequency"] == 2, "as of then it was a contact of its own"
    assert "merged_into" not in engagement(api, merged, as_of=then)
    [who] = cluster.sql(
        "select actor from heed_data.registry where subject = %s and type = 'contact.merged'",
        f"contact:{merged}",
    )
    assert who["actor"].startswith("local:")

    # What comes later counts for the other, and is nobody else's once they are parted.
    traffic.send_all(cluster.bootstrap, [clicked(f"contact:{merged}", "m3"), clicked(event, "m1")])
    comes_to(api, into, 3)
    parted = api.post(f"/v1/contacts/{merged}/unmerge", json={"into": into})
    assert (parted.status_code, parted.json()["merged_into"]) == (200, None)
    comes_to(api, into, 1)
    comes_to(api, merged, 3)
    assert engagement(api, into)["date_last_click"] == before[0]["date_last_click"]
    cluster.settle()
    cluster.check()
    cluster.replay_check()


@pytest.mark.capability("IDN-4")
def test_merged_elsewhere_and_back_again(api: httpx.Client) -> None:
    """An older merge of the pair stands still, but is not the one that holds."""
    who, first, second = fresh("who"), fresh("first"), fresh("second")
    told = [
        api.post(f"/v1/contacts/{who}/merge", json={"into": into}) for into in (first, second, first, first)
    ]
    assert [one.json()["merged_into"] for one in told] == [first, second, first, first]
    assert [len(one.json()["events"]) for one in told] == [1, 1, 1, 0]
    back = api.post(f"/v1/contacts/{who}/unmerge", json={"into": first}).json()
    assert (back["merged_into"], len(back["events"])) == (second, 2)
    assert api.post(f"/v1/contacts/{who}/unmerge", json={"into": second}).json()["merged_into"] is None


@pytest.mark.capability("IDN-4", "LAW-1", "LAW-3")
def test_a_session_by_the_doors_in_the_wrong_order(cluster: clusters.Cluster, api: httpx.Client) -> None:
    """The undo first, then the link that it takes back, then one that stands, and clicks all the while."""
    contact, session, first = fresh("who"), f"session:{fresh('visit')}", uuid.uuid4().hex
    door = topics.CONTACT_IDENTITY
    undone = told("session.unlinked", session, {"link": {"source": "urn:test", "id": first}})
    traffic.send_all(cluster.bootstrap, [clicked(session, "m1"), (door, undone)])
    cluster.settle()
    assert engagement(api, contact)["frequency"] is None
    linked = told("session.linked", session, {"contact_id": contact}, first)
    traffic.send_all(cluster.bootstrap, [(door, linked), clicked(session, "m2")])
    cluster.settle()
    assert engagement(api, contact)["frequency"] is None, "the link was taken back before it came"
    answer = api.post(
        "/v1/events",
        content=told("session.linked", session, {"contact_id": contact}),
        headers={"Content-Type": "application/json"},
    )
    assert answer.status_code == 202, answer.text
    assert comes_to(api, contact, 2) < clusters.patience(1.0)
    traffic.send_all(cluster.bootstrap, [clicked(session, "m3")])
    comes_to(api, contact, 3)
    cluster.settle()
    cluster.check()
    cluster.replay_check()


@pytest.mark.capability("IDN-4")
def test_bad_input_is_told_what_to_do(cluster: clusters.Cluster, api: httpx.Client) -> None:
    contact = fresh("bad")
    for body in ({"into": contact}, {"into": "a@b"}, {"into": ""}):
        answer = api.post(f"/v1/contacts/{contact}/merge", json=body)
        assert answer.status_code == 400, answer.text
        assert "another contact" in answer.json()["detail"]
    assert api.post(f"/v1/contacts/{contact}/merge", json={}).status_code == 400
    assert api.post("/v1/contacts/a@b/merge", json={"into": "ada"}).status_code == 404
    nothing = api.post(f"/v1/contacts/{contact}/unmerge", json={"into": "ada"})
    assert (nothing.status_code, nothing.json()["events"]) == (200, [])
    refused = api.post(
        "/v1/events",
        content=told("contact.merged", f"contact:{contact}", {"into": contact}),
        headers={"Content-Type": "application/json"},
    )
    assert (refused.status_code, refused.json()["outcomes"][0]["reason"]) == (400, "invalid")
    began = time.monotonic()
    traffic.send_all(
        cluster.bootstrap,
        [
            (topics.CONTACT_IDENTITY, told("session.linked", f"contact:{contact}", {"contact_id": contact})),
            (topics.CONTACT_IDENTITY, told("contact.merged", "session:s", {"into": contact})),
            (topics.CONTACT_IDENTITY, told("contact.unmerged", f"contact:{contact}", {"link": {"id": "x"}})),
        ],
    )
    cluster.settle()
    assert time.monotonic() - began < 60
    reasons = [one["reason"] for one in cluster.parked() if one["door"] == topics.CONTACT_IDENTITY]
    assert reasons == ["invalid"] * 3
    cluster.assert_alive()
