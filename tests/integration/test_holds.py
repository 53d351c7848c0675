"""Holds, opt-outs and do-not-email by API, command line and bounce: reasons show, addresses are sealed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import orjson
import pytest

from schemas import topics
from tests import cluster as clusters
from tests import stack, traffic
from tests.integration.test_contacts import api, ask, fresh, heed

NOW = datetime.now(UTC).replace(microsecond=0)
__all__ = ["api"]


def bounced(contact: str, days: int, kind: str, email: str | None) -> tuple[str, bytes]:
    event = orjson.loads(traffic.click(contact, time=NOW - timedelta(days=days), mailing=f"m{days}"))
    data = {"mailing_id": f"m{days}", "kind": kind} | ({"email": email} if email else {})
    return topics.EMAIL_ACTIVITY, orjson.dumps(
        event | {"type": "mail.bounced", "id": f"{contact}-{days}", "data": data}
    )


def holding(found: dict[str, Any], kind: str) -> list[tuple[str | None, str]]:
    return [(one["email"], one["because"]) for one in found["hold"][kind]]


@pytest.mark.capability("IDN-2", "LAW-6")
def test_what_bounced_and_what_was_told_holds_until_it_is_lifted(
    cluster: clusters.Cluster, api: httpx.Client
) -> None:
    contact, address = fresh("held"), f"{fresh('marker')}@example.org"
    other = f"{fresh('other')}@example.org"
    soft = [bounced(contact, days, "soft", address) for days in (4, 5, 6, 7)]
    traffic.send_all(cluster.bootstrap, [*soft, bounced(contact, 9, "hard", other)])

    def known() -> dict[str, Any]:
        return ask(api, "GET", f"contacts/{contact}")

    stack.eventually(lambda: holding(known(), "hold") == [(other, "hard_bounce")], "the bounce holds", 20)
    traffic.send_all(cluster.bootstrap, [bounced(contact, 3, "soft", address.upper())])
    stack.eventually(lambda: len(known()["hold"]["hold"]) == 2, "the fifth soft one holds", 20)
    assert holding(known(), "hold") == [(other, "hard_bounce"), (address.upper(), "soft_bounces")]

    lifted = ask(api, "POST", f"contacts/{contact}/hold", {"kind": "hold", "on": False, "email": address})
    assert len(lifted["events"]) == 1
    assert holding(known(), "hold") == [(other, "hard_bounce")]
    again = ask(api, "POST", f"contacts/{contact}/hold", {"kind": "hold", "on": False, "email": address})
    assert again["events"] == []
    told = heed(cluster, "contact", "opt-out", contact)
    assert (told["kind"], told["on"], len(told["events"])) == ("opt_out", True, 1)
    heed(cluster, "contact", "do-not-email", contact, "--email", address)
    found = heed(cluster, "contact", "show", contact)
    assert found["hold"] == known()["hold"]
    [why] = found["hold"]["do_not_email"]
    assert (why["email"], why["because"], why["actor"][:4]) == (address, "told", "cli:")
    heed(cluster, "contact", "opt-out", contact, "--off")
    assert known()["hold"]["opt_out"] == []
    then = (NOW - timedelta(days=8)).isoformat().replace("+00:00", "Z")
    past = ask(api, "GET", f"contacts/{contact}/hold?as_of={then}")
    assert [one["email"] for one in past["hold"]] == [other] and past["do_not_email"] == []
    lines = ask(api, "GET", f"contacts/{contact}/activity?action=Hold")["items"]
    assert {one["text"] for one in lines} == {
        "Hold changed: hold, false", "Hold changed: opt_out, true", "Hold changed: opt_out, false",
        "Hold changed: do_not_email, true",
    }  # fmt: skip
    kept = cluster.sql(
        "select count(*) as n from heed_data.fact where subject = %s and position(%s in data) > 0",
        f"contact:{contact}", address,
    )  # fmt: skip
    assert kept[0]["n"] == 0
    cluster.settle()
    cluster.check()


@pytest.mark.capability("IDN-2")
def test_bad_input_is_told_what_to_do(api: httpx.Client) -> None:
    for body, says in (
        ({"kind": "snooze", "on": True}, "kind"),
        ({"kind": "hold"}, "on"),
        ({"kind": "hold", "on": "yes"}, "on"),
        ({"kind": "hold", "on": True, "email": "nobody"}, "email"),
        ({"kind": "hold", "on": True, "email": "a" * 10_000 + "@example.org"}, "email"),
        ({"kind": "hold", "on": True, "mail": "a@b"}, "mail"),
    ):
        answer = api.post("/v1/contacts/ada/hold", json=body)
        assert answer.status_code == 400, answer.text
        assert says in answer.text and "nobody" not in answer.text, answer.text
    assert api.get("/v1/contacts/a@b/hold").status_code == 404
    assert api.get("/v1/contacts/ada/hold?as_of=3000-01-01T00:00:00Z").status_code == 400
