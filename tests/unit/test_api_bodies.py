"""What stands in a body: media types, gzip in bounds, batches that are broken in one place."""

from __future__ import annotations

import gzip
import json
import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api import bodies, problems
from api.bodies import Mode


@pytest.mark.parametrize(
    ("content_type", "headers", "mode"),
    [
        ("application/cloudevents+json", [], Mode.ONE),
        ("Application/CloudEvents+JSON; charset=UTF-8", [], Mode.ONE),
        ('application/cloudevents+json;charset="utf-8";x=1', ["ce-type"], Mode.ONE),
        ("application/cloudevents-batch+json ; charset=utf-8", [], Mode.MANY),
        ("application/json", [], Mode.PLAIN),
        ("application/json;profile=x", [], Mode.PLAIN),
        ("application/json", ["ce-type"], Mode.HEADERS),
        ("application/vnd.mail+json", ["ce-specversion"], Mode.HEADERS),
        ("", ["ce-specversion"], Mode.HEADERS),
    ],
)
def test_the_mode_is_told_by_media_type_and_headers(
    content_type: str, headers: list[str], mode: Mode
) -> None:
    assert bodies.mode_of(content_type, headers) is mode


@pytest.mark.parametrize(
    ("content_type", "headers"),
    [
        ("", []),
        ("text/plain", []),
        ("text/plain", ["ce-type"]),
        ("application/xml", ["ce-type"]),
        ("application/cloudevents+xml", []),
        ("application/cloudevents+avro", ["ce-type"]),
        ("application/json; charset=latin-1", []),
        ("multipart/form-data; boundary=application/json", []),
        ("application/vnd.mail+json", []),
    ],
)
def test_other_kinds_of_body_are_415(content_type: str, headers: list[str]) -> None:
    with pytest.raises(problems.Problem) as caught:
        bodies.mode_of(content_type, headers)
    assert caught.value.kind is problems.MEDIA


def test_gzip_is_inflated_also_in_several_members() -> None:
    body = gzip.compress(b"[1,") + gzip.compress(b"2]")
    assert bodies.inflate(body, "gzip") == b"[1,2]"
    assert bodies.inflate(body, " X-GZIP ") == b"[1,2]"
    assert bodies.inflate(b"as it is", "") == bodies.inflate(b"as it is", "identity") == b"as it is"


def test_gzip_may_fill_the_limit_and_not_a_byte_more() -> None:
    assert len(bodies.inflate(gzip.compress(b"x" * bodies.MAX_BYTES), "gzip")) == bodies.MAX_BYTES
    with pytest.raises(problems.Problem) as caught:
        bodies.inflate(gzip.compress(b"x" * (bodies.MAX_BYTES + 1)), "gzip")
    assert caught.value.kind is problems.TOO_LARGE


def test_a_gzip_bomb_is_stopped_at_the_limit() -> None:
    bomb = gzip.compress(b"\0" * 200_000_000, compresslevel=6)
    assert len(bomb) < bodies.MAX_BYTES
    began = time.perf_counter()
    with pytest.raises(problems.Problem) as caught:
        bodies.inflate(bomb, "gzip")
    assert caught.value.kind is problems.TOO_LARGE
    assert time.perf_counter() - began < 0.5  # all of it would be 200 MB


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no gzip",
        gzip.compress(b"whole")[:-1],
        gzip.compress(b"whole") + b"rest",
        gzip.compress(b"x" * 999)[:20],
    ],
    ids=["empty", "none", "cut short", "more after it", "cut in its header"],
)
def test_broken_gzip_is_a_400(body: bytes) -> None:
    with pytest.raises(problems.Problem) as caught:
        bodies.inflate(body, "gzip")
    assert caught.value.kind is problems.UNREADABLE_BODY


@pytest.mark.parametrize("coding", ["br", "deflate", "gzip, gzip", "zstd"])
def test_another_coding_is_415_and_says_which_is_taken(coding: str) -> None:
    with pytest.raises(problems.Problem) as caught:
        bodies.inflate(b"", coding)
    assert caught.value.kind is problems.MEDIA
    assert caught.value.headers["Accept-Encoding"] == "gzip"


def test_items_keep_their_order_and_their_bytes() -> None:
    assert bodies.split(b' [ {"a": 1} , 2,"x,]" ] ', Mode.MANY) == [b'{"a": 1}', b"2", b'"x,]"']
    assert bodies.split(b' {"a": 1}', Mode.PLAIN) == [b' {"a": 1}']
    assert bodies.split(b"[1]", Mode.ONE) == [b"[1]"]
    assert bodies.split(b"[]", Mode.PLAIN) == []


def test_a_broken_item_is_cut_out_and_the_others_stay_whole() -> None:
    deep = b"[" * 100_000 + b"]" * 100_000
    body = b'[{"a":1},{"n":NaN},' + deep + b',{"s":"a\\",]"},nonsense,{"b":2}]'
    items = bodies.split(body, Mode.PLAIN)
    assert items == [b'{"a":1}', b'{"n":NaN}', deep, b'{"s":"a\\",]"}', b"nonsense", b'{"b":2}']


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[", b"[1", b"1]", b"[1]]", b"[{]}", b"[1][2]", b'["', b"\xff"]
)
def test_what_is_no_array_is_none(body: bytes) -> None:
    assert bodies.split(body, Mode.MANY) is None


def test_the_worst_body_is_split_in_bounded_time() -> None:
    began = time.perf_counter()
    for worst in (
        b"[" * bodies.MAX_BYTES,
        b'["' + b"\\" * (bodies.MAX_BYTES - 3) + b"]",
        b"[" + b'""' * 255_998 + b"]",
    ):
        bodies.split(worst, Mode.MANY)
    assert time.perf_counter() - began < 3


_values = st.recursive(
    st.none() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=9,
)


@given(st.lists(_values, max_size=5))
def test_cutting_by_hand_agrees_with_the_decoder(values: list[object]) -> None:
    body = json.dumps(values).encode()
    whole = bodies.split(body, Mode.MANY)
    broken = bodies.split(b"[NaN," + body[1:] if values else b"[NaN]", Mode.MANY)
    assert whole is not None
    assert broken == [b"NaN", *whole]


@given(st.binary(max_size=60))
def test_any_bytes_split_without_an_error(junk: bytes) -> None:
    bodies.split(junk, Mode.PLAIN)
    bodies.split(b"[" + junk + b"]", Mode.MANY)
    bodies.from_headers({"ce-type": junk.decode("latin-1"), "content-type": "application/json"}, junk)


def test_headers_become_attributes_and_the_body_becomes_data() -> None:
    headers = {
        "ce-specversion": "1.0",
        "ce-type": "mail.clicked",
        "ce-source": "/esp/%C3%BC%20x",
        "ce-subject": '"contact:\\"1"',
        "ce-data": "no attribute",
        "content-type": "application/json",
        "accept": "*/*",
    }
    event = msgspec.json.decode(bodies.from_headers(headers, b' {"url": "u"} '))
    assert event == {
        "specversion": "1.0",
        "type": "mail.clicked",
        "source": "/esp/ü x",
        "subject": 'contact:"1',
        "datacontenttype": "application/json",
        "data": {"url": "u"},
    }
    assert "data" not in msgspec.json.decode(bodies.from_headers(headers, b""))


@pytest.mark.parametrize("body", [b"{", b'{},"id":"other"', b"[" * 100_000, b"\xff"])
def test_a_body_that_is_no_json_cannot_become_data(body: bytes) -> None:
    with pytest.raises((msgspec.DecodeError, RecursionError)):
        msgspec.json.decode(bodies.from_headers({"ce-type": "x"}, body))


def test_a_header_that_is_no_utf8_makes_an_undecodable_event() -> None:
    assert bodies.from_headers({"ce-type": "%ff"}, b"{}") == b""
