"""Bytes that may be anything: admission has an outcome for all of them, always the same, and never raises."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas import admission, completion, envelope, errors, identity, topics
from schemas.errors import Reason
from tests.unit import samples

SECRET = samples.SECRET
FILL = completion.Fill()

UNDECODABLE = [
    b"",
    b" ",
    b"{",
    b"nul",
    b"mail.clicked",
    b"\xef\xbb\xbf{}",
    b"{'specversion': '1.0'}",
    samples.encode(samples.event()) + b"x",
    samples.encode(samples.event())[:-1],
    samples.encode(samples.event(extra=float("nan"))),
    samples.encode(samples.event(data={"x": float("-inf")})),
    samples.encode(samples.event(extra="")).replace(b'""', b'"\xff"'),
    samples.encode(samples.event(extra="")).replace(b'""', b'"\xed\xa0\x80"'),
    samples.encode(samples.event(extra="")).replace(b'""', b'"\x00"'),
    samples.encode(samples.event(extra="")).replace(b'""', rb'"\x"'),
    samples.encode(samples.event(id=5)) + b"}",
    samples.encode(samples.event()).decode().encode("utf-16"),
    b"[" * 33 + b"]" * 33,
    b"[" * 32_768,
    b'{"a":' * 6_000,
    b'{"id":5,' + b"[" * 30_000,
    b'{"x":"' + b"\\" * 30_000,
    bytes(range(256)),
]


@pytest.mark.parametrize("raw", UNDECODABLE)
def test_what_is_no_json(raw: bytes) -> None:
    found = samples.rejected(raw)
    assert found.reason == Reason.UNDECODABLE
    assert (found.id, found.source, found.type, found.time) == (None, None, None, None)
    assert found.raw == raw


@pytest.mark.parametrize("raw", [b"null", b"[]", b"5", b'"x"', b"true", b"[{}]", b"{}", b" {} "])
def test_json_that_is_no_event(raw: bytes) -> None:
    assert samples.rejected(raw).reason == Reason.INVALID


def test_the_size_comes_first() -> None:
    event = samples.event(extra="")
    room = admission.MAX_BYTES - len(samples.encode(event))
    assert samples.admitted(samples.event(extra="x" * room)).id == "e1"
    for raw in (samples.encode(samples.event(extra="x" * (room + 1))), b"[" * 1_000_000, b"x" * 1_000_000):
        found = samples.rejected(raw)
        assert (found.reason, found.detail) == (Reason.INVALID, "the event is larger than 32768 bytes.")


def test_nesting_is_counted_outside_strings() -> None:
    deep: Any = "[{" * 500
    for _ in range(admission.MAX_DEPTH - 1):
        deep = [deep]
    assert samples.admitted(samples.event(extra=deep)).id == "e1"
    assert samples.rejected(samples.event(extra=[deep])).reason == Reason.UNDECODABLE


@pytest.mark.parametrize(
    "extra",
    ["\0", "\ud800", "\udc00\ud800", 2**63, 10**4000, 1e308, "x" * 10_000, {"a\ud800": ["\0", None]}],
)
def test_what_is_not_declared_is_ignored_whatever_it_holds(extra: object) -> None:
    data = {**samples.DATA["mail.clicked"], "extra": extra}
    plain = samples.admitted(samples.event()).value
    assert samples.admitted(samples.event(extra=extra, data=data)).value == plain
    huge = samples.encode(samples.event(extra="?")).replace(b'"?"', b"-1e999")
    assert samples.admitted(huge).value == plain


def test_what_heed_writes_itself_is_dropped() -> None:
    own: dict[str, Any] = {"digest": "0" * 32, "accepted": "x", "actor": "root", "sealed": {"a": 1}, "kid": 5}
    assert samples.admitted(samples.event(**own)).value == samples.admitted(samples.event()).value


def test_of_two_members_with_one_name_the_last_counts() -> None:
    raw = samples.encode(samples.event())
    for twice in (
        raw.replace(b'"id": "e1"', b'"id": "e0", "id": "e1"'),
        raw.replace(b'"id": "e1"', rb'"i\u0064": "e0", "id": "e1"'),
        raw.replace(b'"mailing_id": "m1"', b'"mailing_id": "m0", "mailing_id": "m1"'),
        raw.replace(b'"data"', b'"data": {"url": "first"}, "data"'),
        raw.replace(b'"id": "e1"', rb'"x": "\ud800", "id": "e0", "id": "e1"'),
        raw.replace(b'"id": "e1"', b'"id": 5, "id": "e1"'),
        raw.replace(b'"id": "e1"', b'"id": "", "id": "e1"'),
        raw.replace(b'"specversion"', b'"source": {}, "specversion"'),
        raw.replace(b'"mailing_id": "m1"', b'"mailing_id": 5, "mailing_id": "m1"'),
        raw.replace(b'"data"', b'"data": 5, "data"'),
    ):
        assert twice != raw
        assert samples.admitted(twice).value == samples.admitted(raw).value


def test_a_last_member_that_is_ill_formed_is_not_saved_by_the_first() -> None:
    raw = samples.encode(samples.event())
    for twice, reason in (
        (raw.replace(b'"id": "e1"', b'"id": "e1", "id": 5'), Reason.INVALID),
        (raw.replace(b'"id": "e1"', b'"id": 5, "id": 6'), Reason.INVALID),
        (raw.replace(b'"mailing_id": "m1"', b'"mailing_id": "m1", "mailing_id": 5'), Reason.INVALID),
        (raw.replace(b'"id": "e1"', b'"id": 5, "id": "e1"') + b"}", Reason.UNDECODABLE),
    ):
        assert samples.rejected(twice).reason == reason


@pytest.mark.parametrize("subject", ["contact:ada\ud800", "contact:\0", 10**400, "?"])
def test_a_subject_that_is_ill_formed_does_not_wait_for_a_contact(subject: object) -> None:
    raw = samples.encode(samples.event(subject=subject)).replace(b'"?"', b"1e999")
    assert samples.rejected(raw).reason == Reason.INVALID


def assert_sound(outcome: admission.Outcome) -> None:
    """What every outcome holds, whatever came in."""
    if isinstance(outcome, admission.Admitted):
        fact = envelope.read_fact(outcome.value)
        assert (fact.id, fact.source, fact.time) == (outcome.id, outcome.source, outcome.time)
        assert identity.is_logged(outcome.subject)
        assert outcome.time <= samples.AT + samples.AHEAD
        envelope.read_content(fact, outcome.personal or b"{}")
        return
    for text in (outcome.id, outcome.source, outcome.type, outcome.detail):
        assert text is None or (len(text) <= 256 and "\0" not in text and text.encode())
    assert outcome.detail in outcome.detail.strip()
    assert outcome.reason in errors.Reason


DOORS = st.sampled_from([*topics.DOORS, None])


@pytest.mark.capability("LAW-7")
@given(st.binary(max_size=400) | samples.anything.map(samples.encode), DOORS)
def test_admit_never_raises_for_any_bytes(raw: bytes, door: str | None) -> None:
    assert_sound(samples.admit(raw, door, None if door else FILL))


MEMBERS = st.sampled_from(
    ["specversion", "id", "source", "type", "subject", "time", "dataschema", "data", "traceparent", "x"]
)
NEAR = (
    samples.anything
    | st.sampled_from(
        ["", "\0", "contact:", "contact:b", "9999-12-31T23:59:59Z", "2026-11-22T14:39:46Z", SECRET]
    )
    | st.sampled_from(sorted(samples.DATA))
    | st.dictionaries(
        st.sampled_from(["mailing_id", "message_id", "url", "test", "kind", "email"]), samples.anything
    )
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(sorted(samples.DATA)), st.dictionaries(MEMBERS, NEAR, max_size=4), DOORS)
def test_admit_never_raises_for_mutated_events(name: str, changes: dict[str, Any], door: str | None) -> None:
    event = {**samples.event(name), **changes}
    outcome = samples.admit(event, door, completion.Fill("k", 1))
    assert_sound(outcome)
    assert samples.admit(event, door, completion.Fill("k", 1)) == outcome
    if isinstance(outcome, admission.Rejected):
        assert SECRET not in outcome.detail


@given(st.data(), st.sampled_from(sorted(samples.DATA)), DOORS)
def test_admit_never_raises_for_damaged_bytes(data: st.DataObject, name: str, door: str | None) -> None:
    raw = bytearray(samples.encode(samples.event(name)))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(raw) - 1))
        piece = data.draw(
            st.binary(max_size=3) | st.sampled_from([b'"', b"{", b"\\u0000", b"\\ud800", b"1e999"])
        )
        raw[place : place + data.draw(st.integers(0, 3))] = piece
    assert_sound(samples.admit(bytes(raw), door, FILL))


@given(samples.storable, samples.storable)
def test_whatever_can_be_kept_is_kept_as_told(id: str, mailing: str) -> None:
    found = samples.admitted(samples.event(id=id, data={"mailing_id": mailing, "url": "u"}))
    told = json.loads(found.value)
    assert (found.id, told["id"], told["data"]["mailing_id"]) == (id, id, mailing)
