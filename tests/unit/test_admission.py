"""Admission: every reason, the order of the checks, and what HTTP completes."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from schemas import admission, completion, envelope, topics
from schemas.errors import Reason
from tests.unit import samples

SECRET = samples.SECRET
FILL = completion.Fill()


def test_an_admitted_event_is_a_record_of_the_log() -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    found = samples.admitted(samples.event(traceparent=trace))
    assert (found.id, found.source, found.type, found.subject) == (
        "e1",
        "urn:test",
        "mail.clicked",
        "contact:ada",
    )
    assert found.time == datetime(2026, 11, 22, 14, 39, 46, 999_000, tzinfo=UTC)
    assert found.partition == topics.home("contact:ada", samples.HOMES)
    assert (found.door, found.traceparent) == ("email-activity", trace)
    assert envelope.read_fact(found.value).accepted == samples.AT


@pytest.mark.parametrize("trace", ["", "x", "00-" + "A" * 32 + "-" + "b" * 16 + "-01", None])
def test_a_traceparent_that_is_none_is_dropped(trace: str | None) -> None:
    assert samples.admitted(samples.event(traceparent=trace)).traceparent is None


# (what is wrong, reason): each event has this one fault and, in the test of the order, all later ones too.
FAULTS: list[tuple[str, dict[str, Any], Reason]] = [
    ("specversion missing", {"specversion": ...}, Reason.INVALID),
    ("specversion other", {"specversion": "0.3"}, Reason.INVALID),
    ("specversion a number", {"specversion": 1.0}, Reason.INVALID),
    ("source missing", {"source": ...}, Reason.INVALID),
    ("source null", {"source": None}, Reason.INVALID),
    ("source empty", {"source": ""}, Reason.INVALID),
    ("source too long", {"source": "s" * 257}, Reason.INVALID),
    ("source no string", {"source": {"a": 1}}, Reason.INVALID),
    ("id empty", {"id": ""}, Reason.INVALID),
    ("id too long", {"id": "i" * 257}, Reason.INVALID),
    ("id a number", {"id": 7}, Reason.INVALID),
    ("type missing", {"type": ...}, Reason.INVALID),
    ("type no string", {"type": ["mail.clicked"]}, Reason.INVALID),
    ("time no string", {"time": 1_700_000_000}, Reason.INVALID),
    ("subject no string", {"subject": 5}, Reason.INVALID),
    ("dataschema no string", {"dataschema": 1}, Reason.INVALID),
    ("traceparent no string", {"traceparent": 1}, Reason.INVALID),
    ("source with NUL", {"source": "a\0"}, Reason.UNSTORABLE),
    ("source with half a pair", {"source": "a\ud800"}, Reason.UNSTORABLE),
    ("id with NUL", {"id": "\0"}, Reason.UNSTORABLE),
    ("id with half a pair", {"id": "\udfff"}, Reason.UNSTORABLE),
    ("type unknown", {"type": "mail.dreamt"}, Reason.UNKNOWN_TYPE),
    ("type empty", {"type": ""}, Reason.UNKNOWN_TYPE),
    ("type with NUL", {"type": "mail.clicked\0"}, Reason.UNKNOWN_TYPE),
    ("type of another case", {"type": "Mail.Clicked"}, Reason.UNKNOWN_TYPE),
    ("type not built", {"type": "order.placed"}, Reason.UNKNOWN_TYPE),
    ("type of Heed", {"type": "contact.erased"}, Reason.WRONG_DOOR),
    ("type of Heed's timers", {"type": "engagement.expire"}, Reason.WRONG_DOOR),
    ("type of Heed's campaigns", {"type": "campaign.started"}, Reason.WRONG_DOOR),
    ("version newer", {"dataschema": "urn:heed:mail.clicked:2"}, Reason.NEWER_VERSION),
    ("version none", {"dataschema": "urn:heed:mail.clicked:0"}, Reason.INVALID),
    ("version of another type", {"dataschema": "urn:heed:mail.opened:1"}, Reason.INVALID),
    ("data missing", {"data": ...}, Reason.INVALID),
    ("data null", {"data": None}, Reason.INVALID),
    ("data a list", {"data": []}, Reason.INVALID),
    ("data a string", {"data": "{}"}, Reason.INVALID),
    ("a field missing", {"data": {"mailing_id": "m1"}}, Reason.INVALID),
    ("a field of another type", {"data": {"mailing_id": 2**63, "url": "u"}}, Reason.INVALID),
    ("a field with NUL", {"data": {"mailing_id": "m\0", "url": "u"}}, Reason.UNSTORABLE),
    ("a field with half a pair", {"data": {"mailing_id": "\ud800", "url": "u"}}, Reason.UNSTORABLE),
    ("time empty", {"time": ""}, Reason.INVALID),
    ("time without a zone", {"time": "2026-11-22T14:39:46"}, Reason.INVALID),
    ("time that is none", {"time": "yesterday"}, Reason.INVALID),
    ("year 0", {"time": "0000-01-01T00:00:00Z"}, Reason.UNSTORABLE),
    ("year 1 in the east", {"time": "0001-01-01T00:00:00+14:00"}, Reason.UNSTORABLE),
    ("year 9999 in the west", {"time": "9999-12-31T23:59:59-14:00"}, Reason.UNSTORABLE),
    ("year 10000", {"time": "10000-01-01T00:00:00Z"}, Reason.UNSTORABLE),
    ("contact empty", {"subject": "contact:"}, Reason.INVALID),
    ("contact an address", {"subject": f"contact:{SECRET}"}, Reason.INVALID),
    ("contact with NUL", {"subject": "contact:a\0"}, Reason.INVALID),
    ("contact with a line break", {"subject": "contact:a\n"}, Reason.INVALID),
    ("contact too long", {"subject": "contact:" + "a" * 65}, Reason.INVALID),
    ("subject missing", {"subject": ...}, Reason.NO_SUBJECT),
    ("subject null", {"subject": None}, Reason.NO_SUBJECT),
    ("subject empty", {"subject": ""}, Reason.NO_SUBJECT),
    ("subject no address", {"subject": "email:nobody"}, Reason.INVALID),
    ("subject a session without an id", {"subject": "session:"}, Reason.INVALID),
    ("subject a session with an address", {"subject": f"session:{SECRET}"}, Reason.INVALID),
    ("subject of another case", {"subject": "Contact:ada"}, Reason.NO_SUBJECT),
    ("subject half a pair", {"subject": "\ud800"}, Reason.NO_SUBJECT),
    ("year 9999", {"time": "9999-12-31T23:59:59.999Z"}, Reason.FUTURE),
    ("a millisecond too far ahead", {"time": "2026-11-22T14:44:47.124Z"}, Reason.FUTURE),
]


@pytest.mark.capability("LAW-7")
@pytest.mark.parametrize(("change", "reason"), [fault[1:] for fault in FAULTS], ids=[f[0] for f in FAULTS])
def test_every_fault_has_its_reason(change: dict[str, Any], reason: Reason) -> None:
    for door, fill in (("email-activity", None), (None, FILL)):
        found = samples.rejected(samples.event(**change), door, fill)
        assert found.reason == reason
        assert found.detail.endswith(".")
        assert SECRET not in found.detail
        assert found.id in ("e1", None)
        assert found.source in ("urn:test", None)
        if reason not in admission.PARKED_BY_HTTP or door:
            assert found.raw == samples.encode(samples.event(**change))


# The order of the checks: one fault of each step, and the reason that it gives.
STEPS: list[tuple[dict[str, Any], Reason]] = [
    ({"specversion": "2.0"}, Reason.INVALID),
    ({"source": "a\0"}, Reason.UNSTORABLE),
    ({"type": "mail.dreamt"}, Reason.UNKNOWN_TYPE),
    ({"dataschema": "urn:heed:mail.clicked:7"}, Reason.NEWER_VERSION),
    ({"data": {"mailing_id": "m1"}}, Reason.INVALID),
    ({"time": "10000-01-01T00:00:00Z"}, Reason.UNSTORABLE),
    ({"subject": "contact:" + SECRET}, Reason.INVALID),
]
LAST: list[tuple[dict[str, Any], Reason]] = [
    ({"subject": f"email:{SECRET}@x"}, Reason.INVALID),
    ({"subject": f"mail:{SECRET}"}, Reason.NO_SUBJECT),
    ({"time": "2027-01-01T00:00:00Z"}, Reason.FUTURE),
]


def test_the_first_fault_decides() -> None:
    for steps in (STEPS, LAST):
        for first in range(len(steps)):
            changes: dict[str, Any] = {}
            for change, _ in reversed(steps[first:]):
                changes.update(change)
            assert samples.rejected(samples.event(**changes)).reason == steps[first][1]


@pytest.mark.parametrize("reason", sorted(set(Reason) - {Reason.UNDEFINED_EVENT, Reason.ERASED}))
def test_every_reason_that_is_built_is_given(reason: Reason) -> None:
    assert reason in {fault[2] for fault in FAULTS} | {Reason.UNDECODABLE}


@pytest.mark.parametrize("name", samples.DATA)
def test_each_type_comes_by_its_door_alone(name: str) -> None:
    for door in (*topics.DOORS, "snooze-changes", "facts"):
        outcome = samples.admit(samples.event(name), door)
        if door == samples.door(name):
            assert isinstance(outcome, admission.Admitted)
            assert outcome.door == door
        else:
            assert isinstance(outcome, admission.Rejected)
            assert (outcome.reason, outcome.door) == (Reason.WRONG_DOOR, door)
    assert samples.admitted(samples.event(name), None, FILL).door == samples.door(name)


def test_an_event_without_data_is_one_with_none() -> None:
    nothing: list[Any] = [..., None, {}]
    for none in nothing:
        found = samples.admitted(samples.event("contact.deleted", data=none), "contact-identity")
        assert json.loads(found.value)["data"] == {}


@pytest.mark.parametrize("missing", ["id", "time"])
def test_a_door_requires_id_and_time(missing: str) -> None:
    nothing: list[Any] = [..., None]
    for none in nothing:
        found = samples.rejected(samples.event(**{missing: none}))
        assert found.reason == Reason.INVALID
        assert found.detail.startswith(f"{missing} is required")


def test_by_http_id_and_time_may_be_left_out() -> None:
    found = samples.admitted(samples.event(id=..., time=...), None, FILL)
    made = uuid.UUID(found.id)
    assert made.version == 7
    assert made.int >> 80 == int(samples.AT.timestamp() * 1000)
    assert found.time == samples.AT
    assert samples.admitted(samples.event(id=None, time=None), None, FILL).id != found.id


def test_by_http_a_key_gives_the_same_id_again() -> None:
    def made(key: str, index: int) -> str:
        return samples.admitted(samples.event(id=...), None, completion.Fill(key, index)).id

    assert made("k", 0) == made("k", 0)
    assert uuid.UUID(made("k", 0)).version == 5
    assert len({made("k", 0), made("k", 1), made("j", 0), made("", 0), made("\udc80", 0)}) == 5
    assert samples.admitted(samples.event(), None, completion.Fill("k", 0)).id == "e1"


def test_by_http_the_time_of_a_uuid7_counts() -> None:
    id = "018f9a3e-7b1c-7e55-9d2f-3b1c5a7e9d2f"
    wanted = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=0x018F9A3E7B1C)
    assert samples.admitted(samples.event(id=id, time=...), None, FILL).time == wanted
    assert samples.admitted(samples.event(id=id.upper(), time=...), None, FILL).time == wanted
    told = samples.admitted(samples.event(id=id), None, FILL).time
    assert told == datetime(2026, 11, 22, 14, 39, 46, 999_000, tzinfo=UTC)
    for other in ("018f9a3e-7b1c-4e55-9d2f-3b1c5a7e9d2f", "018f9a3e-7b1c-7e55-1d2f-3b1c5a7e9d2f", id + "0"):
        assert samples.admitted(samples.event(id=other, time=...), None, FILL).time == samples.AT
    far = samples.rejected(samples.event(id="ffffffff-ffff-7e55-9d2f-3b1c5a7e9d2f", time=...), None, FILL)
    assert far.reason == Reason.UNSTORABLE


@pytest.mark.parametrize("subject", [..., f"mail:{SECRET}", "contact:ada"])
def test_what_http_parks_is_complete_and_judged_alike_at_the_door(subject: Any) -> None:
    # A UUIDv7 of the year 2527: future.
    id = "0fff0000-0000-7000-8000-000000000000" if subject == "contact:ada" else ...
    event = samples.event(id=id, time=..., subject=subject, extra={"a": "\ud800"}, digest="x")
    found = samples.rejected(event, None, completion.Fill("k", 3))
    assert found.reason in admission.PARKED_BY_HTTP
    assert found.door == "email-activity"
    again = samples.rejected(found.raw, found.door)
    assert (again.reason, again.id, again.time, again.source) == (
        found.reason,
        found.id,
        found.time,
        found.source,
    )
    assert again.raw == found.raw
    assert json.loads(found.raw)["data"] == samples.DATA["mail.clicked"]


def test_what_http_parks_fits_the_door() -> None:
    event = samples.event(id=..., time=..., subject=..., extra="")
    room = admission.MAX_BYTES - len(samples.encode(event))
    found = samples.rejected({**event, "extra": "x" * room}, None, FILL)
    assert found.reason == Reason.INVALID


@pytest.mark.parametrize(
    ("ms", "counts"), [(-1, True), (0, True), (299_999, True), (300_000, True), (300_001, False)]
)
def test_ahead_of_its_time(ms: int, counts: bool) -> None:
    time = envelope.format_time(samples.AT + timedelta(milliseconds=ms))
    outcome = samples.admit(samples.event(time=time))
    assert isinstance(outcome, admission.Admitted) == counts
    if isinstance(outcome, admission.Rejected):
        assert outcome.reason == Reason.FUTURE
    # Cut, not rounded: what is told more finely than a millisecond is not later.
    finer = samples.admit(samples.event(time=time.replace("Z", "999Z")))
    assert isinstance(finer, admission.Admitted) == counts


@pytest.mark.parametrize("name", ["contact.merged", "contact.unmerged", "session.linked", "session.unlinked"])
def test_a_link_goes_into_the_registry_with_whoever_asks_by_a_key(name: str) -> None:
    found = samples.admitted(samples.event(name), None, completion.Fill(actor="key:k1"))
    assert (found.topic, found.partition) == (topics.REGISTRY, 0)
    assert envelope.read_fact(found.value).actor == "key:k1"
    of_a_door = samples.admitted(samples.event(name), "contact-identity")
    assert envelope.read_fact(of_a_door.value).actor is None


def test_a_fact_names_no_key() -> None:
    found = samples.admitted(samples.event(), None, completion.Fill(actor="key:k1"))
    assert (found.topic, envelope.read_fact(found.value).actor) == (topics.FACTS, None)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"data": {"into": "ada"}}, "data.into must be another contact"),
        ({"subject": "session:s1"}, "subject of contact.merged must be contact:<id>"),
        ({"data": {"into": SECRET}}, "data.into must be a string of 1 to 64 characters in its usual form"),
        ({"data": {}}, "data.into must be"),
    ],
)
def test_a_merge_that_cannot_be(changes: dict[str, Any], says: str) -> None:
    found = samples.rejected(samples.event("contact.merged", **changes), "contact-identity")
    assert found.reason is Reason.INVALID
    assert found.detail.startswith(says)
    assert SECRET not in found.detail


@pytest.mark.parametrize("link", [None, {}, {"id": "e0"}, {"id": "", "source": "urn:a"}, "e0", ["e0"]])
def test_an_undo_names_a_link(link: Any) -> None:
    found = samples.rejected(samples.event("session.unlinked", data={"link": link}), "contact-identity")
    assert found.reason is Reason.INVALID
    assert found.detail.startswith("data.link must be an object with id (a string of 1 to 256 characters)")


@pytest.mark.capability("EVT-1")
def test_an_event_that_nobody_has_defined_waits_whole() -> None:
    raw = samples.event("custom.received", data={"event": "seat_booked", "params": {"row": 5}})
    found = samples.rejected(raw, "custom-events")
    assert (found.reason, found.door, found.raw) == (
        Reason.UNDEFINED_EVENT, "custom-events", samples.encode(raw)
    )  # fmt: skip
    by_http = samples.rejected(samples.event("custom.received", id=...), None)
    assert by_http.reason in admission.PARKED_BY_HTTP
    assert by_http.id is not None
    assert samples.rejected(raw, "email-activity").reason == Reason.WRONG_DOOR
    nobody = samples.rejected(samples.event("custom.received", subject=...), "custom-events")
    assert nobody.reason == Reason.NO_SUBJECT
