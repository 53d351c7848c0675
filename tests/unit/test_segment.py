"""Segment's messages: what they become, that one sent again is the same fact, and what is refused and why."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from litestar.testing import TestClient

from api import auth, ingest, problems
from schemas import admission, envelope, errors, segment, topics
from tests import keyring
from tests.unit import test_api_events, test_auth
from tests.unit.test_api_events import Kept

GOLDEN = Path(__file__).parent.parent / "golden" / "segment"
AT = datetime(2026, 3, 1, 9, 11, 14, tzinfo=UTC)
TIME = "2026-03-01T09:11:12.345Z"
SESSION = "3f6c1d2a-77aa-4b31-9a52-1c0d9b3e2f10"
WORD = "tattle-9f3@example.org"  # is sent in what is refused, and answered nowhere


def recorded(route: str) -> dict[str, Any]:
    """A request of Segment's Python SDK (2.4.0): the batch, and its messages one by one."""
    found: dict[str, Any] = json.loads((GOLDEN / f"{route}.json").read_bytes())
    return found


def told(message: Any, kind: str | None = None, **more: Any) -> list[dict[str, Any]]:
    raw = message if isinstance(message, bytes) else json.dumps(message).encode()
    return [
        json.loads(one) for one in segment.told(raw, kind, **{"at": AT, "made_id": "made", **more}).events
    ]


def event(type: str, subject: str, n: int, data: dict[str, Any]) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "source": "urn:segment",
        "id": f"0b5d7c2e-1f3a-4e57-9c8d-00000000000{n}",
        "time": TIME,
        "type": type,
        "subject": subject,
        "data": data,
    }


MADE: dict[str, list[dict[str, Any]]] = {
    "track": [
        event(
            "custom.received", "contact:ada", 1,
            {
                "event": "Order Completed",
                "params": {"order": "4711", "total": 39.9, "items": [{"sku": "a", "n": 2}]},
            },
        )
    ],
    "page": [
        event(
            "page.viewed", "contact:ada", 2,
            {"referrer": "https://example.org/", "title": "Spring", "url": "https://example.org/spring"},
        )
    ],
    "identify": [
        event("session.linked", f"session:{SESSION}", 3, {"contact_id": "ada"}),
        event(
            "contact.identified", "contact:ada", 3,
            {
                "primary_email": "ada@example.org",
                "phones": ["+31201234567"],
                "first_name": "Ada",
                "last_name": "Lovelace",
                "attributes": {"plan": "pro", "logins": 5},
            },
        ),
    ],
    "alias": [
        event("session.linked", "session:visitor.77", 4, {"contact_id": "ada"}),
        event("contact.merged", "contact:visitor.77", 4, {"into": "ada"}),
    ],
}  # fmt: skip


@pytest.mark.capability("EVT-1")
@pytest.mark.parametrize("route", MADE)
def test_a_recorded_message_becomes_these_events(route: str) -> None:
    message = recorded(route)
    assert told(message, route) == MADE[route]
    assert told(message) == MADE[route], "by its own type, as in a batch"


def test_a_batch_is_its_messages() -> None:
    batch = recorded("batch")
    made = [one for message in batch["batch"] for one in told(message, sent_at=batch["sentAt"])]
    assert made == [one for events in MADE.values() for one in events]


def message(**more: Any) -> dict[str, Any]:
    return {"type": "track", "userId": "ada", "event": "Signed Up", "messageId": "m1", **more}


def test_whom_a_message_tells_of() -> None:
    def subject(**more: Any) -> str:
        return str(told(message(**more))[0]["subject"])

    assert subject() == subject(anonymousId="s1") == "contact:ada"
    assert subject(userId=None, anonymousId="s1") == subject(userId="", anonymousId="s1") == "session:s1"
    assert subject(userId=4711) == "contact:4711"


def test_what_a_page_says_beside_its_properties() -> None:
    around = {"page": {"url": "https://example.org/a", "title": "A", "referrer": ""}, "ip": "192.0.2.7"}
    [seen] = told(message(type="page", name="Home", context=around))
    assert seen["data"] == {"url": "https://example.org/a", "title": "A"}
    [seen] = told(message(type="page", name="Home", properties={"url": "https://example.org/b"}))
    assert seen["data"] == {"url": "https://example.org/b", "title": "Home"}


def test_an_identify_that_says_nothing_that_is_kept_makes_no_event() -> None:
    for traits in (None, {}, {"email": None, "name": ""}):
        assert told(message(type="identify", traits=traits)) == []
    [only] = told(message(type="identify", userId="ada", anonymousId="s1", traits={}))
    assert (only["type"], only["subject"]) == ("session.linked", "session:s1")


def test_traits_that_are_no_text_are_kept_as_their_json() -> None:
    traits = {
        "score": 0.5,
        "address": {"city": "Utrecht"},
        "tags": ["a"],
        "vip": True,
        "timezone": "Europe/Paris",
    }
    [known] = told(message(type="identify", traits=traits))
    assert known["data"] == {
        "zone": "Europe/Paris",
        "attributes": {"score": "0.5", "address": '{"city":"Utrecht"}', "tags": '["a"]', "vip": True},
    }


@pytest.mark.parametrize("wrong", [timedelta(0), timedelta(hours=3), timedelta(minutes=-20)])
def test_a_wrong_clock_is_put_right_and_a_retry_has_the_same_time(wrong: timedelta) -> None:
    """Its clock is ahead by `wrong`; each try takes its own while to come."""
    happened = AT - timedelta(seconds=2)
    times = set()
    for tried in (0.02, 4.5, 31.0, 400.0):  # seconds after it happened
        sent = happened + timedelta(seconds=tried)
        one = message(timestamp=(happened + wrong).isoformat())
        [made] = told(one, at=sent + timedelta(seconds=0.2), sent_at=(sent + wrong).isoformat())
        times.add(made["time"])
    assert times == {envelope.format_time(happened)}


def test_without_a_timestamp_or_a_message_id() -> None:
    [made] = told({"type": "track", "userId": "ada", "event": "x", "sentAt": "2026-03-01T00:00:00Z"})
    assert made["id"] == "made"
    assert "time" not in made, "the moment of acceptance, by admission"


WRONG: list[tuple[Any, str]] = [
    (message(userId=WORD), "An address is none"),
    (message(userId="a b"), "userId becomes the contact's id"),
    (message(userId={"a": WORD}), "userId becomes the contact's id"),
    (message(userId="x" * 65), "userId becomes the contact's id"),
    (message(userId=None, anonymousId=WORD), "anonymousId becomes the session's id"),
    (message(userId=None), "userId or anonymousId is required"),
    (message(event=""), "event is the name"),
    (message(event=7), "event is the name"),
    (message(event=None), "event is the name"),
    (message(properties=[WORD]), "properties is a JSON object"),
    (message(messageId=""), "messageId is a string"),
    (message(messageId="x" * 257), "messageId is a string"),
    (message(messageId=7), "messageId is a string"),
    (message(timestamp="yesterday"), "timestamp is RFC 3339"),
    (message(timestamp="2026-03-01T09:11:12"), "timestamp is RFC 3339"),
    (message(timestamp="2026-03-01T09:11:12Z", sentAt=WORD), "sentAt is RFC 3339"),
    (message(timestamp="0001-01-01T00:00:00Z", sentAt="9999-01-01T00:00:00Z"), "timestamp is RFC 3339"),
    (message(type="screen"), "type is one of track, identify, alias, page"),
    (message(type=None), "type is one of"),
    (message(type="page"), "properties.url is required"),
    (message(type="page", properties={"url": 1}), "properties is a JSON object"),
    (message(type="page", context={"page": WORD}), "context.page is a JSON object"),
    (message(type="identify", userId=None, anonymousId="s1", traits={"a": 1}), "userId is required beside"),
    (message(type="identify", traits=[WORD]), "traits is a JSON object"),
    (b'{"type": "identify", "userId": "ada", "traits": {"n": 1e999}}', "its numbers fit 64 bits"),
    (message(type="alias"), "userId and previousId are required"),
    (message(type="alias", previousId="ada"), "are not the same"),
    (message(type="alias", previousId=WORD), "previousId is the id of a contact"),
    ([], "the message must be a JSON object"),
    (b"{", "not valid JSON"),
    (b'{"userId": "\xff"}', "not valid JSON"),
    (b'{"userId": "ada", "x": "\xff"}', "not valid JSON"),
    (b'{"context": ' + b"[" * 20_000, "not valid JSON"),
    (message(properties={"x": "x" * 40_000}), "larger than 32768 bytes"),
]


@pytest.mark.parametrize(("wrong", "says"), WRONG)
def test_what_is_refused_says_why(wrong: Any, says: str) -> None:
    with pytest.raises(segment.Refused, match=says.replace(".", r"\.")) as refused:
        told(wrong)
    assert WORD not in refused.value.detail
    assert refused.value.detail.endswith(".")


_ids = st.sampled_from(["ada", "s1", "", 7, 10**30, None]) | st.text(max_size=5)
_json: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
_members = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from([*segment.KINDS, "group", 1]),
        **dict.fromkeys(("userId", "anonymousId", "previousId"), _ids),
        "messageId": st.text(min_size=1, max_size=5) | _json,
        "event": st.text(max_size=5) | _json,
        "timestamp": st.sampled_from(["2026-03-01T09:11:12Z", "0001-01-01T00:00:00Z", "soon"]) | _json,
        "sentAt": st.sampled_from(["2026-03-01T09:11:13Z", "9999-12-31T23:59:59Z"]) | _json,
        "properties": st.dictionaries(st.sampled_from(["url", "title", "x"]), _json) | _json,
        "traits": st.dictionaries(st.sampled_from(["email", "phone", "timezone", "x"]), _json) | _json,
        "context": st.fixed_dictionaries({"page": _json}) | _json,
    },
)


@given(st.binary(max_size=60) | (_members | _json).map(lambda one: json.dumps(one).encode()))
def test_whatever_is_sent_is_refused_or_becomes_events_that_admission_can_judge(raw: bytes) -> None:
    try:
        made = segment.told(raw, None, at=AT, made_id="made")
    except segment.Refused:
        return
    assert 0 < len(made.id) <= 256
    for one in made.events:
        outcome = admission.admit(
            one, at=AT, door=None, homes=8, ahead=timedelta(minutes=5), secret=keyring.SECRET
        )
        if isinstance(outcome, admission.Rejected):
            assert outcome.reason not in (errors.Reason.UNDECODABLE, errors.Reason.WRONG_DOOR)
            assert not outcome.detail.startswith(("specversion", "source", "type is", "subject")), (
                outcome.detail
            )


@pytest.fixture
def log() -> Kept:
    return Kept()


@pytest.fixture
def client(log: Kept) -> Iterator[TestClient[Any]]:
    with TestClient(test_api_events.application(log)) as client:
        yield client


def post(client: TestClient[Any], route: str, body: Any, status: int = 200, **headers: str) -> dict[str, Any]:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = {"content-type": "application/json", **headers}
    answer = client.post(f"/v1/{route}", content=content, headers=head)
    assert answer.status_code == status, answer.text
    assert WORD not in answer.text
    found: dict[str, Any] = answer.json()
    return found


ANSWERS = {"track": "parked", "page": "accepted", "identify": "accepted", "alias": "accepted"}


@pytest.mark.parametrize("route", ["page", "alias", "track", "identify"])
def test_a_recorded_request_is_on_the_log_when_it_is_answered(
    client: TestClient[Any], log: Kept, route: str
) -> None:
    answer = post(client, route, recorded(route))
    assert answer["success"] is True
    [outcome] = answer["outcomes"]
    assert (outcome["id"], outcome["status"]) == (MADE[route][0]["id"], ANSWERS[route])
    records = [one for one in log.appended[-1] if b'"identifier.linked"' not in one.value]
    assert len(records) == len(MADE[route])
    assert len(log.appended[-1]) - len(records) == (2 if route == "identify" else 0), (
        "an address and a number"
    )
    for record, made in zip(records, MADE[route], strict=True):
        kept = json.loads(record.value)
        assert (kept["id"], kept["subject"], kept["type"]) == (made["id"], made["subject"], made["type"])
        assert (record.topic == topics.CUSTOM_EVENTS) == (route == "track")
    if route == "track":
        assert json.loads(records[0].value)["data"] == MADE[route][0]["data"]
        assert outcome["reason"] == errors.Reason.UNDEFINED_EVENT


@pytest.mark.parametrize("coding", ["identity", "gzip"])
def test_a_recorded_batch_is_answered_message_by_message(
    client: TestClient[Any], log: Kept, coding: str
) -> None:
    body = json.dumps(recorded("batch")).encode()
    sent = gzip.compress(body) if coding == "gzip" else body
    answer = post(client, "batch", sent, 200, **{"content-encoding": coding})
    assert [one["status"] for one in answer["outcomes"]] == [ANSWERS[kind] for kind in MADE]
    assert answer["success"] is True
    kept = [(json.loads(one.value)["type"], json.loads(one.value)["subject"]) for one in log.appended[-1]]
    made = [(one["type"], one["subject"]) for events in MADE.values() for one in events]
    assert [one for one in kept if one[0] != "identifier.linked"] == made


def test_one_bad_message_refuses_no_other_and_all_bad_ones_are_a_400(
    client: TestClient[Any], log: Kept
) -> None:
    good, bad = message(), message(userId=WORD, messageId="m2")
    answer = post(client, "batch", {"batch": [bad, good, 7]})
    assert [one["status"] for one in answer["outcomes"]] == ["refused", "parked", "refused"]
    assert [one["id"] for one in answer["outcomes"]][:2] == ["m2", "m1"]
    assert answer["success"] is False
    assert len(log.appended) == 1
    problem = post(client, "batch", {"batch": [bad]}, 400)
    assert problem["type"] == problems.NOTHING_TAKEN.uri
    assert [one["status"] for one in problem["outcomes"]] == ["refused"]
    assert post(client, "batch", {"batch": []}) == {"success": True, "outcomes": []}
    assert len(log.appended) == 1


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b"{}", b'{"batch": 1}', b'{"batch": [}', b'{"batch": ["\xff"]}']
)
def test_a_batch_that_is_none(client: TestClient[Any], log: Kept, body: bytes) -> None:
    problem = post(client, "batch", body, 400)
    [outcome] = problem["outcomes"]
    assert outcome["reason"] == errors.Reason.UNDECODABLE
    assert "member batch" in outcome["detail"]
    assert log.appended == []


@pytest.mark.parametrize("route", [*MADE, "batch"])
def test_bodies_that_are_not_taken(client: TestClient[Any], log: Kept, route: str) -> None:
    body = recorded(route)
    assert post(client, route, body, 415, **{"content-type": "text/plain"})["type"] == problems.MEDIA.uri
    assert (
        post(client, route, body, 400, **{"content-encoding": "gzip"})["type"] == problems.UNREADABLE_BODY.uri
    )
    assert post(client, route, b" " * 512_001, 413)["type"] == problems.TOO_LARGE.uri
    if route != "batch":
        large = post(client, route, message(type=route, context={"x": "x" * 32_768}), 400)
        assert "larger than 32768 bytes" in large["outcomes"][0]["detail"]
    assert log.appended == []


def test_kafka_away_and_too_much_at_once_say_when_to_come_again(client: TestClient[Any], log: Kept) -> None:
    taking = client.app.state.parts.ingest
    taking._waiting = ingest.MAX_WAITING_BYTES
    answer = client.post("/v1/track", json=message())
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "2")
    taking._waiting = 0
    log.error = errors.Away()
    answer = client.post("/v1/track", json=message())
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")


def basic(user: str) -> str:
    return "Basic " + base64.b64encode(user.encode()).decode()


@pytest.mark.capability("CEE-14")
def test_the_write_key_is_a_key_in_basic_authentication_of_these_routes_alone(
    client: TestClient[Any], log: Kept
) -> None:
    keys = test_auth.known(test_auth.Servers(test_auth.ROWS))
    object.__setattr__(client.app.state.parts, "keys", keys)
    token, other = test_auth.TOKENS["ingest"], test_auth.TOKENS["access"]
    for header in (basic(f"{token}:"), basic(token), basic(f"{token}:x"), f"Bearer {token}"):
        post(client, "batch", {"batch": []}, authorization=header)
    wrong = ("Basic", "Basic é", "Basic ****", basic(""), basic(f":{token}"), basic(token + "x"))
    for _, path in auth.BASIC:
        for header, status in [*((one, 401) for one in wrong), (basic(f"{other}:"), 403)]:
            answer = client.post(path, headers=[(b"authorization", header.encode())])
            assert answer.status_code == status, header
    answer = client.post("/v1/events", json=[], headers={"authorization": basic(token)})
    assert answer.status_code == 401
    made = {**message(type="alias", previousId="v1")}
    post(client, "alias", made, authorization=basic(f"{token}:"))
    linked = [json.loads(one.value) for one in log.appended[-1]]
    assert {one["actor"] for one in linked} == {"key:ingest"}
