"""Canonical form and digest, held against an independent RFC 8785; versions; JSON that may be anything."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import msgspec
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from schemas import codec, errors, events
from tests import keyring
from tests.unit import samples

hostile = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)


def fields_of(event: events.EventType) -> st.SearchStrategy[dict[str, Any]]:
    """Data of a type as it may stand in its struct, strings as hostile as JSON can carry them."""
    assert event.struct is not None
    info = msgspec.inspect.type_info(event.struct)
    assert isinstance(info, msgspec.inspect.StructType)
    required = {field.encode_name: values(field.type) for field in info.fields if field.required}
    optional = {field.encode_name: values(field.type) for field in info.fields if not field.required}
    return st.fixed_dictionaries(required, optional=optional)


def values(kind: msgspec.inspect.Type) -> st.SearchStrategy[Any]:
    match kind:
        case msgspec.inspect.Metadata():
            return values(kind.type)
        case msgspec.inspect.UnionType():
            some = [values(one) for one in kind.types if not isinstance(one, msgspec.inspect.NoneType)]
            return st.one_of(*some)
        case msgspec.inspect.LiteralType():
            return st.sampled_from(kind.values)
        case msgspec.inspect.BoolType():
            return st.booleans()
        case _:
            return hostile


@given(st.data())
@pytest.mark.parametrize("event", events.built(), ids=lambda event: event.name)
def test_canonical_form_and_digest_are_rfc_8785(event: events.EventType, data: st.DataObject) -> None:
    assert event.struct is not None
    content = data.draw(fields_of(event))
    canonical = codec.canonical(event.struct(**content))
    assert canonical == rfc8785.dumps(content)
    whole = rfc8785.dumps({"type": event.name, "data": content})
    wanted = hashlib.blake2b(whole, digest_size=16, key=keyring.SECRET).hexdigest()
    assert codec.digest(event.name, canonical, keyring.SECRET) == wanted


def digest(**changes: Any) -> str:
    whole = json.loads(samples.admitted(samples.event(**changes)).value)
    assert isinstance(whole["digest"], str)
    return whole["digest"]


def test_the_digest_depends_on_type_and_content_alone() -> None:
    data = samples.DATA["mail.clicked"]
    first = digest()
    assert digest(id="e2", source="urn:other", subject="contact:bob", time="2020-01-01T00:00:00Z") == first
    assert digest(dataschema="urn:heed:mail.clicked:1", extra="x", datacontenttype="text/json") == first
    assert digest(data=dict(reversed(data.items()))) == first
    assert digest(data={**data, "undeclared": {"deep": [1, None]}, "digest": "x"}) == first
    assert digest(data={**data, "message_id": None, "test": None}) == first
    assert digest(data={**data, "test": False}) != first
    assert digest(data={**data, "mailing_id": "m2"}) != first
    assert digest(type="mail.opened", data={"mailing_id": "m1"}) != digest(
        type="mail.sent", data={"mailing_id": "m1"}
    )


def test_the_digest_of_escapes_is_that_of_the_characters() -> None:
    plain = '{"mailing_id":"é😀/","url":"u"}'
    escaped = r'{"mailing_id":"\u00e9\ud83d\ude00\/","\u0075rl":"u"}'
    raw = json.dumps(samples.event(data=0))
    values = [
        json.loads(samples.admitted(raw.replace('"data": 0', f'"data": {data}').encode()).value)
        for data in (plain, escaped)
    ]
    assert values[0] == values[1]


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
def test_nul_is_found_and_only_nul(text: str) -> None:
    assert codec.has_nul(msgspec.json.encode([text, {text: text}])) == ("\0" in text)


@pytest.mark.parametrize("text", ["\\u0000", "\\\\u0000", "\\", "a\\", "u0000"])
def test_the_escape_of_nul_as_text_is_not_nul(text: str) -> None:
    assert not codec.has_nul(msgspec.json.encode(text))
    assert codec.has_nul(msgspec.json.encode(text + "\0"))


def test_the_key_of_a_fact_tells_source_from_id() -> None:
    assert codec.key("a", "b") == hashlib.blake2b(b"a\0b", digest_size=16).hexdigest()
    assert codec.key("ab", "c") != codec.key("a", "bc")


@pytest.mark.parametrize(
    ("raw", "deep"),
    [
        (b"", 0),
        (b"[]", 1),
        (b'{"a":[{"b":[]}]}', 4),
        (b'"[[[["', 0),
        (rb'"\"[[[["', 0),
        (rb'["\\",[]]', 2),
        (b'["[', 1),
        (b"]]][", 0),
        (b"[" * 1000, 1000),
    ],
)
def test_depth_counts_brackets_outside_strings(raw: bytes, deep: int) -> None:
    assert codec.depth(raw) == deep


@given(samples.anything)
def test_depth_is_that_of_the_value(value: Any) -> None:
    def depth(value: Any) -> int:
        if isinstance(value, dict):
            return 1 + max(map(depth, value.values()), default=0)
        return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0

    assert codec.depth(samples.encode(value)) == depth(value)


@given(samples.anything)
def test_what_is_mended_can_be_read_by_msgspec(value: Any) -> None:
    raw = json.dumps(value, allow_nan=True).encode()
    try:
        mended = codec.mended(raw)
    except ValueError:
        assert b"NaN" in raw or b"Infinity" in raw
        return
    msgspec.json.decode(mended)
    assert codec.mended(mended) == mended


def test_what_cannot_be_held_is_mended() -> None:
    raw = rb'{"a":"x\ud800","\udfff":1,"b":[1e999,-1e999],"c":"\ud83d\ude00","d":1%b}' % (b"0" * 5000)
    huge = 1e308
    wanted = {"a": "x\0", "\0": 1, "b": [huge, huge], "c": "😀", "d": huge}
    assert json.loads(codec.mended(raw)) == wanted


CLICKED = events.EVENTS["mail.clicked"]


@pytest.mark.parametrize(
    ("dataschema", "found"),
    [
        (None, 1),
        ("urn:heed:mail.clicked:1", 1),
        ("urn:heed:mail.clicked:2", errors.Reason.NEWER_VERSION),
        ("urn:heed:mail.clicked:" + "9" * 5000, errors.Reason.NEWER_VERSION),
        ("urn:heed:mail.clicked:0", errors.Reason.INVALID),
        ("urn:heed:mail.clicked:01", errors.Reason.INVALID),
        ("urn:heed:mail.clicked:-1", errors.Reason.INVALID),
        ("urn:heed:mail.clicked:1.5", errors.Reason.INVALID),
        ("urn:heed:mail.clicked:1\n", errors.Reason.INVALID),
        ("urn:heed:mail.clicked:١", errors.Reason.INVALID),
        ("urn:heed:mail.clicked", errors.Reason.INVALID),
        ("urn:heed:mail.opened:1", errors.Reason.INVALID),
        ("https://example.org/schema.json", errors.Reason.INVALID),
        ("", errors.Reason.INVALID),
    ],
)
def test_versions(dataschema: str | None, found: int | errors.Reason) -> None:
    if isinstance(found, int):
        assert codec.version(dataschema, CLICKED) == found
        return
    with pytest.raises(codec.Unreadable) as refused:
        codec.version(dataschema, CLICKED)
    assert refused.value.reason == found


def test_numbers_out_of_range_are_unstorable() -> None:
    class Counted(msgspec.Struct):
        count: codec.Int64

    counted = events.EventType("test.counted", "email-activity", struct=Counted)
    assert codec.content(counted, 1, b'{"count":9223372036854775807}') == Counted(2**63 - 1)
    for number in ("9223372036854775808", "-9223372036854775809", "1" * 5000):
        with pytest.raises(codec.Unreadable) as refused:
            codec.content(counted, 1, b'{"count":%b}' % number.encode())
        assert refused.value.reason == errors.Reason.UNSTORABLE
        assert refused.value.detail == "data.count is a number out of range."
    for wrong in ("1.5", "1e3", '"1"', "true", "null"):
        with pytest.raises(codec.Unreadable) as refused:
            codec.content(counted, 1, b'{"count":%b}' % wrong.encode())
        assert refused.value.detail == "data.count must be a whole number."
