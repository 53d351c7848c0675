"""Times are cut to the millisecond and kept in UTC; facts are read back as they were written."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest
from cloudevents.v1.http import from_json
from hypothesis import given
from hypothesis import strategies as st

from schemas import codec, envelope, errors, events
from tests import keyring
from tests.unit import samples

RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


def reason(text: str) -> errors.Reason:
    with pytest.raises(codec.Unreadable) as found:
        envelope.parse_time(text)
    assert text not in found.value.detail
    return found.value.reason


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ("2026-11-22T14:39:47.123Z", "2026-11-22T14:39:47.123Z"),
        ("2026-11-22T14:39:47Z", "2026-11-22T14:39:47.000Z"),
        ("2026-11-22t14:39:47.5z", "2026-11-22T14:39:47.500Z"),
        ("2026-11-22 14:39:47.123Z", "2026-11-22T14:39:47.123Z"),
        ("2026-11-22T14:39:47.1239999999999Z", "2026-11-22T14:39:47.123Z"),
        ("2026-12-31T23:59:59.999999999Z", "2026-12-31T23:59:59.999Z"),
        ("2026-11-22T14:39:47.123+05:30", "2026-11-22T09:09:47.123Z"),
        ("2026-11-22T14:39:47.123-00:00", "2026-11-22T14:39:47.123Z"),
        ("2024-02-29T00:00:00.000+23:59", "2024-02-28T00:01:00.000Z"),
        ("0001-01-01T00:00:00.000Z", "0001-01-01T00:00:00.000Z"),
        ("9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59.999Z"),
    ],
)
def test_times_that_are_read(told: str, kept: str) -> None:
    assert envelope.format_time(envelope.parse_time(told)) == kept


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "1700000000",
        "2026-11-22",
        "2026-11-22T14:39:47",
        "2026-11-22T14:39:47.123",
        "2026-11-22T14:39Z",
        "2026-11-22T14:39:47,123Z",
        "2026-11-22T14:39:60Z",
        "2026-11-22T24:00:00Z",
        "2026-02-29T00:00:00Z",
        "2026-13-01T00:00:00.000Z",
        "2026-11-22T14:39:47+24:00",
        "2026-11-22T14:39:47+0530",
        "2026-11-22T14:39:47.123Z\n",
        "2026-W47-7T14:39:47.123Z",
        "٢٠٢٦-11-22T14:39:47.123Z",
        "2026-11-22T14:39:47.12٣Z",
        "2026-11-22x14:39:47.123Z",
    ],
)
def test_times_that_are_not_told_well(text: str) -> None:
    with pytest.raises(codec.Unreadable) as found:
        envelope.parse_time(text)
    assert found.value.reason == errors.Reason.INVALID


@pytest.mark.parametrize(
    "text",
    [
        "0000-01-01T00:00:00Z",
        "-0001-01-01T00:00:00Z",
        "10000-01-01T00:00:00Z",
        "+12026-01-01T00:00:00Z",
        "0001-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59.999-00:01",
    ],
)
def test_times_out_of_range(text: str) -> None:
    assert reason(text) == errors.Reason.UNSTORABLE


@given(st.datetimes(timezones=st.timezones() | st.just(UTC)))
def test_any_time_is_cut_and_comes_back(moment: datetime) -> None:
    try:
        utc = moment.astimezone(UTC)
    except OverflowError:
        return
    cut = utc.replace(microsecond=utc.microsecond // 1000 * 1000)
    text = envelope.format_time(utc)
    assert len(text) == 24
    assert envelope.is_canonical(text)
    assert envelope.parse_time(text) == cut
    offset = moment.utcoffset() or timedelta()
    if not offset % timedelta(minutes=1):
        local = utc.astimezone(timezone(offset)).isoformat()
        assert envelope.parse_time(local) == cut


@given(st.from_regex(RFC3339, fullmatch=True) | st.text(max_size=30) | st.from_regex(r"[\d:.TZ+-]{24}"))
def test_what_is_read_is_rfc_3339_and_nothing_else_is(text: str) -> None:
    try:
        moment = envelope.parse_time(text)
    except codec.Unreadable:
        return
    assert RFC3339.fullmatch(text)
    assert moment.tzinfo is UTC
    assert moment.microsecond % 1000 == 0


def test_a_fact_has_the_order_and_the_members_of_the_log() -> None:
    value = samples.admitted(samples.event(extra=1, datacontenttype="application/json")).value
    assert list(json.loads(value)) == [
        "specversion",
        "id",
        "source",
        "type",
        "subject",
        "time",
        "dataschema",
        "data",
        "digest",
        "accepted",
    ]


@pytest.mark.parametrize("name", samples.DATA)
def test_a_fact_is_read_as_it_was_told(name: str) -> None:
    admitted = keyring.sealed(samples.admitted(samples.event(name), samples.door(name)))
    fact = envelope.read_fact(admitted.value)
    assert (fact.id, fact.source, fact.type, fact.subject) == ("e1", "urn:test", name, admitted.subject)
    assert fact.subject == samples.subject(name) or fact.subject.startswith("email:")
    assert (fact.time, fact.accepted) == (admitted.time, samples.AT)
    assert (fact.dataschema, fact.version) == (f"urn:heed:{name}:1", 1)
    assert msgspec.to_builtins(envelope.read_content(fact, keyring.opened(fact))) == samples.DATA[name]
    personal = set(events.EVENTS[name].personal) & samples.DATA[name].keys()
    assert msgspec.json.decode(fact.data).keys() == samples.DATA[name].keys() - personal
    assert (fact.actor, fact.sealed is None, fact.kid is None) == (None, not personal, not personal)


def test_who_decided_is_read() -> None:
    value = json.loads(samples.admitted(samples.event()).value)
    assert envelope.read_fact(samples.encode({**value, "actor": "key:1"})).actor == "key:1"


def test_others_read_a_fact_as_a_cloudevent() -> None:
    read = from_json(samples.admitted(samples.event()).value)
    assert read["type"] == "mail.clicked"
    assert read["subject"] == "contact:ada"
    assert read.data == {"mailing_id": "m1"}


FACT = json.loads(samples.admitted(samples.event()).value)


@pytest.mark.parametrize(
    "change",
    [
        {"id": ""},
        {"id": "x" * 257},
        {"id": "a\0b"},
        {"source": None},
        {"subject": "contact:" + "a" * 200},
        {"subject": ...},
        {"time": "2026-11-22T14:39:47"},
        {"time": 5},
        {"accepted": "soon"},
        {"digest": "x" * 32},
        {"digest": " " * 32},
        {"digest": "ab"},
        {"dataschema": ...},
        {"data": ...},
    ],
)
def test_a_stranger_on_the_log_is_unreadable(change: dict[str, object]) -> None:
    whole = {name: member for name, member in {**FACT, **change}.items() if member is not ...}
    with pytest.raises(codec.Unreadable) as found:
        envelope.read_fact(samples.encode(whole))
    assert found.value.reason == errors.Reason.UNDECODABLE


@given(st.binary(max_size=60) | samples.anything.map(samples.encode))
def test_read_fact_raises_nothing_else(value: bytes) -> None:
    with pytest.raises(codec.Unreadable):
        envelope.read_fact(value)


@pytest.mark.parametrize("value", [b"[" * 1_000_000, b'{"a":' * 200_000, b'{"id":' + b"[" * 100_000])
def test_a_depth_bomb_on_the_log_is_unreadable(value: bytes) -> None:
    with pytest.raises(codec.Unreadable):
        envelope.read_fact(value)


def test_the_content_of_an_unknown_or_newer_fact_is_unreadable() -> None:
    for change, wanted in (
        ({"type": "mail.dreamt", "dataschema": "urn:heed:mail.dreamt:1"}, errors.Reason.UNKNOWN_TYPE),
        ({"type": "order.placed", "dataschema": "urn:heed:order.placed:1"}, errors.Reason.UNKNOWN_TYPE),
        ({"dataschema": "urn:heed:mail.clicked:2"}, errors.Reason.NEWER_VERSION),
        ({"data": {"url": 5}}, errors.Reason.INVALID),
    ):
        fact = envelope.read_fact(samples.encode({**FACT, **change}))
        with pytest.raises(codec.Unreadable) as found:
            envelope.read_content(fact)
        assert found.value.reason == wanted


@pytest.mark.parametrize("moment", ["2026-11-22T10:00:00.000+02:00", "2026-11-22T10:00:00.000"])
def test_a_fact_that_is_not_in_utc_is_none_of_ours(moment: str) -> None:
    with pytest.raises(codec.Unreadable):
        envelope.read_fact(samples.encode({**FACT, "time": moment}))
