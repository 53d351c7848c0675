"""Records of the log as the fold takes them: lines for COPY, what is touched, set aside, or came twice."""

from __future__ import annotations

import itertools
import json
from datetime import datetime, timedelta
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from projections import records
from schemas import topics
from tests.laws import generator, world

NOW = generator.NOW
GOOD = world.click(NOW, "ada", id="e1")


def entry(value: bytes | None, offset: int = 0) -> world.Entry:
    return world.Entry(topics.FACTS, 1, offset, 1_700_000_000_000, value)


def decode(*envelopes: dict[str, Any]) -> records.Decoded:
    told = [entry(world.encode(envelope), offset) for offset, envelope in enumerate(envelopes)]
    return records.decode(told, world.HOMES)


def fields(decoded: records.Decoded) -> list[list[str]]:
    return [line.split("\t") for line in decoded.text().decode().splitlines()]


def test_a_fact_is_one_line_with_its_provenance() -> None:
    [line] = fields(decode(GOOD))
    subject, key, source, id, kind, time, data = (*world.content(GOOD)[:6], json.loads(line[14]))
    assert line[:5] == [subject, key.replace("-", ""), source, id, kind]
    assert (datetime.fromisoformat(line[5]), line[9:13], data) == (
        time,
        ["f", "1", "0", "m1"],
        GOOD["data"],
    )


@pytest.mark.parametrize("data", [{}, {"level": "maybe"}, {"level": 1}, {"level": None}])
def test_a_strangers_word_on_consent_that_says_nothing_is_set_aside(data: dict[str, Any]) -> None:
    decoded = decode({**world.told("contact.consent_changed", NOW), "data": data}, GOOD)
    assert [aside.reason for aside in decoded.asides] == ["invalid"]
    assert len(decoded.lines) == 1


def test_lines_come_in_the_order_of_their_keys() -> None:
    told = [world.click(NOW, f"c{number}", id=f"e{number}") for number in range(20)]
    keys = [(line[0], line[1]) for line in fields(decode(*told))]
    assert keys == sorted(keys)
    assert len(keys) == 20


@pytest.mark.parametrize(
    ("envelope", "touches"),
    [
        (world.click(NOW), True),
        (world.delivery(NOW), True),
        (world.told("contact.deleted", NOW), True),
        (world.told("contact.restored", NOW), True),
        (world.told("contact.consent_changed", NOW), True),
        (world.click(NOW, mailing=None), False),
        (world.click(NOW, test=True), False),
        (world.told("mail.opened", NOW), False),
        (world.told("mail.bounced", NOW), False),
    ],
)
def test_only_what_can_move_a_row_touches_its_subject(envelope: dict[str, Any], touches: bool) -> None:
    decoded = decode(envelope)
    assert decoded.touched == ({"contact:ada": topics.home("contact:ada", world.HOMES)} if touches else {})
    assert len(decoded.lines) == 1


def test_a_copy_is_counted_and_changes_nothing() -> None:
    once, twice = decode(GOOD), decode(GOOD, GOOD, GOOD)
    assert (twice.text(), twice.duplicates, twice.conflicts) == (once.text(), 2, 0)
    assert len(twice.accepted) == 1


def test_of_contradictions_the_smaller_stands_in_any_order() -> None:
    others = [
        world.click(NOW - timedelta(milliseconds=1), "ada", id="e1"),
        world.click(NOW, "ada", mailing="m2", id="e1"),
        world.click(NOW, "ada", test=True, id="e1"),
    ]
    for order in itertools.permutations([GOOD, *others]):
        decoded = decode(*order)
        [line] = fields(decoded)
        assert line[7] == others[0]["digest"]
        assert decoded.touched, "what gave way may have been counted before"
        assert decoded.conflicts == 3


def test_one_id_of_two_sources_or_subjects_is_two_facts() -> None:
    told = [
        world.click(NOW, contact, id="e1", source=source) for contact in "ab" for source in ("urn:a", "urn:b")
    ]
    assert len(decode(*told).lines) == 4


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "undecodable"),
        (b"", "undecodable"),
        (b"{}", "undecodable"),
        (b"\xff", "undecodable"),
        (b"[" * 100_000, "undecodable"),
        (b'{"data":' * 100_000, "undecodable"),
        (world.encode(GOOD).replace(b"https://example.org/", b"\xff\xfe"), "undecodable"),
        (world.encode(GOOD).replace(b"https://example.org/", b"\\ud800"), "undecodable"),
        (world.encode(GOOD).replace(b"https://example.org/", b"\\u0000"), "undecodable"),
        (world.encode(GOOD).replace(b'"m1"', b"7"), "undecodable"),
        *(
            (world.encode(GOOD | {"digest": digest}), "undecodable")
            for digest in ("B0" * 16, "b0" * 15, "b0 " * 16, "b0" * 16 + "\n", "")
        ),
        (world.encode(GOOD).replace(b'"m1"', b"[" * 5_000 + b"]" * 5_000), "undecodable"),
        (world.encode(GOOD).replace(b'"data":{', b'"data":[{').replace(b"},", b"}],"), "undecodable"),
        (json.dumps(GOOD, indent=1).encode(), "undecodable"),
        (world.encode(GOOD).replace(b':1","data"', b':2","data"'), "newer_version"),
        (world.encode(GOOD).replace(b"mail.clicked", b"mail.forwarded"), "unknown_type"),
        (world.encode(GOOD).replace(b"mail.clicked", b"order.placed"), "unknown_type"),
    ],
)
def test_what_cannot_be_read_is_set_aside_and_the_next_goes_on(value: bytes | None, reason: str) -> None:
    decoded = records.decode([entry(value, 7), entry(world.encode(GOOD), 8)], world.HOMES)
    [aside] = decoded.asides
    assert (aside.reason, aside.topic, aside.part, aside.off, aside.raw) == (
        reason,
        "facts",
        1,
        7,
        value or b"",
    )
    assert len(decoded.lines) == 1


def test_what_copy_would_take_for_its_own_is_escaped() -> None:
    odd = "a\tb\nc\\d\re\\N\\."
    [line] = fields(decode(world.click(NOW, mailing=odd, id=odd, source=odd)))
    escaped = "a\\tb\\nc\\\\d\\re\\\\N\\\\."
    assert (line[2], line[3], line[12]) == (escaped, escaped, escaped)
    assert len(line) == 17


KID = f"{GOOD['subject']}#0123456789abcdef"


def test_a_sealed_part_is_kept_with_the_name_of_its_key() -> None:
    decoded = decode(GOOD | {"sealed": "c2VhbGVk", "kid": KID}, GOOD | {"id": "other"})
    assert decoded.kids == {KID}
    assert sorted((line[15], line[16]) for line in fields(decoded)) == [("\\N", "\\N"), ("c2VhbGVk", KID)]


@pytest.mark.parametrize(
    "change",
    [
        {"sealed": "c2VhbGVk"},
        {"kid": KID},
        {"sealed": "", "kid": KID},
        {"sealed": "c2VhbGVk", "kid": "contact:somebody-else#0123456789abcdef"},
        {"sealed": "c2VhbGVk", "kid": f"{GOOD['subject']}#1"},
        {"sealed": "c2VhbGVk", "kid": "installation#0123456789abcdef"},
    ],
)
def test_a_sealed_part_names_a_key_of_its_own_subject(change: dict[str, str]) -> None:
    decoded = decode(GOOD | change)
    assert [aside.reason for aside in decoded.asides] == ["invalid"]
    assert not decoded.lines
    assert not decoded.kids


def test_what_it_was_sealed_with_does_not_tell_facts_apart() -> None:
    other = {"sealed": "YW5vdGhlcg==", "kid": KID.replace("0", "1")}
    decoded = decode(GOOD | {"sealed": "c2VhbGVk", "kid": KID}, GOOD | other, GOOD)
    assert (len(decoded.lines), decoded.duplicates, decoded.conflicts) == (1, 2, 0)


@hypothesis.given(
    st.sampled_from([GOOD, world.delivery(NOW), world.told("contact.deleted", NOW)]),
    st.sampled_from(["time", "accepted", "digest", "dataschema", "type", "data", "subject", ""]),
    st.data(),
)
def test_the_short_way_reads_a_fact_as_the_long_way_does(
    envelope: dict[str, Any], member: str, data: st.DataObject
) -> None:
    """Any change to what Heed wrote: the short way either leaves it to the long one or agrees with it."""
    told = json.dumps(envelope[member]) if member else ""
    at = data.draw(st.integers(0, max(0, len(told) - 1)))
    told = told[:at] + data.draw(st.text(max_size=2)) + told[at + data.draw(st.integers(0, 2)) :]
    value = world.encode(envelope)
    if member:
        value = value.replace(json.dumps(envelope[member], separators=(",", ":")).encode(), told.encode())
    short = None if b"\\" in value else records._as_written(value)
    if short is None:
        assert member, "what Heed writes goes the short way"
        return
    long = records._restated(value)
    assert short == long


def test_a_record_is_known_by_offset_time_and_bytes() -> None:
    same, other = entry(b"a", 1), entry(b"b", 1)
    assert records.identity(same) == records.identity(entry(b"a", 1))
    assert len({records.identity(one) for one in (same, other, entry(b"a", 2), entry(None, 1))}) == 4


@pytest.mark.parametrize(
    "subject", ["contact:ä", "contact:", "contact:ada@example.org", "contact:" + "a" * 65]
)
def test_a_contact_id_that_heed_never_admits_is_set_aside(subject: str) -> None:
    """Its row could be told of in no command."""
    decoded = decode(GOOD | {"subject": subject})
    assert not decoded.lines
    assert [aside.reason for aside in decoded.asides] == ["invalid"]
