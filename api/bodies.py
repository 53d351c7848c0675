"""What stands in a request body: its kind, its bytes, and the events in it, one by one.

Promises: whatever is sent, the caller gets a `Problem` or a list of events in the order sent, each as the
bytes of one structured CloudEvent. One bad event spoils no other, also when it breaks the JSON of its batch.
Inflating stops at the limit, so a bomb costs no more than a large request.

Limits: 512,000 bytes a request, as sent and inflated. Events are cut out here and judged in
`schemas.admission`.

Called by `api.ingest`.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Mapping
from enum import Enum
from urllib.parse import unquote_to_bytes

import msgspec

from api import problems

MAX_BYTES = 512_000

_GZIP_WINDOW = 31
_RAW = msgspec.json.Decoder(msgspec.Raw)
_RAW_LIST = msgspec.json.Decoder(list[msgspec.Raw])
_MARKS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[\]{},]', re.DOTALL)
_JSON_TYPE = re.compile(r"application/json|[a-z0-9!#$&^_.+-]+/[a-z0-9!#$&^_.-]+\+json")
_SPACE = b" \t\r\n"


class Mode(Enum):
    """How events stand in a body (CloudEvents over HTTP, and plain JSON)."""

    ONE = "structured"
    MANY = "batched"
    HEADERS = "binary"
    PLAIN = "plain"


def mode_of(content_type: str, headers: Iterable[str]) -> Mode:
    """Which mode a request is in. Raises `Problem` (415) when it is none.

    `content_type` is the header as sent, with its parameters; `headers` are the names of all headers.
    """
    media, charset = _media_type(content_type)
    binary = any(name == "ce-specversion" or name == "ce-type" for name in headers)
    if charset not in ("", "utf-8", "utf8", "us-ascii"):
        raise problems.Problem(problems.MEDIA, "The body's charset is not UTF-8.")
    if media == "application/cloudevents+json":
        return Mode.ONE
    if media == "application/cloudevents-batch+json":
        return Mode.MANY
    if binary and (
        not media or (_JSON_TYPE.fullmatch(media) and not media.startswith("application/cloudevents"))
    ):
        return Mode.HEADERS
    if media == "application/json":
        return Mode.PLAIN
    raise problems.Problem(
        problems.MEDIA,
        "The body is neither application/json nor one of the JSON types of CloudEvents.",
    )


def _media_type(header: str) -> tuple[str, str]:
    media, *parameters = header.split(";")
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset":
            return media.strip().lower(), value.strip().strip('"').lower()
    return media.strip().lower(), ""


def inflate(body: bytes, encoding: str) -> bytes:
    """The body without its content coding. Raises `Problem`: 415 unknown, 413 too large, 400 broken."""
    coding = encoding.strip().lower()
    if coding in ("", "identity"):
        return body
    if coding not in ("gzip", "x-gzip"):
        raise problems.Problem(
            problems.MEDIA, "The body's Content-Encoding is not gzip.", headers={"Accept-Encoding": "gzip"}
        )
    parts: list[bytes] = []
    room = MAX_BYTES + 1
    while True:
        member = zlib.decompressobj(wbits=_GZIP_WINDOW)
        try:
            part = member.decompress(body, room)
        except zlib.error:
            raise problems.Problem(problems.UNREADABLE_BODY, "The body is not whole gzip.") from None
        parts.append(part)
        room -= len(part)
        if room <= 0:
            raise problems.Problem(problems.TOO_LARGE, "The inflated body is larger than 512,000 bytes.")
        if not member.eof:
            raise problems.Problem(problems.UNREADABLE_BODY, "The body is not whole gzip.")
        body = member.unused_data
        if not body:
            return b"".join(parts)


def split(body: bytes, mode: Mode) -> list[bytes] | None:
    """The events of a body that is not binary, as bytes; None when it should be an array and is none.

    Decodes nothing of an event. Takes up to 0.3 s for 512,000 bytes that are no JSON, microseconds otherwise.
    """
    if mode is Mode.ONE or (mode is Mode.PLAIN and body.lstrip(_SPACE)[:1] != b"["):
        return [body]
    try:
        return [bytes(item) for item in _RAW_LIST.decode(body)]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, MemoryError):
        return _cut(body)


def _cut(body: bytes) -> list[bytes] | None:
    """Cuts an array whose JSON is broken at its own commas, so that only the broken items are lost."""
    body = body.strip(_SPACE)
    if body[:1] != b"[" or body[-1:] != b"]":
        return None
    depth, start, items = 0, 1, []
    last = len(body) - 1
    for mark in _MARKS.finditer(body):
        sign = mark[0]
        if sign in (b"[", b"{"):
            depth += 1
        elif sign in (b"]", b"}"):
            depth -= 1
            if depth == 0 and mark.start() != last:
                return None
        elif sign == b"," and depth == 1:
            items.append(body[start : mark.start()])
            start = mark.end()
    if depth != 0:
        return None
    return [item.strip(_SPACE) for item in [*items, body[start:last]]]


def from_headers(headers: Mapping[str, str], body: bytes) -> bytes:
    """The structured CloudEvent of a binary one: attributes from `ce-` headers, data from the body.

    A body that is no JSON, or a header that is no UTF-8, comes back as bytes that admission finds
    undecodable.
    """
    event: dict[str, object] = {}
    for name, value in headers.items():
        if name.startswith("ce-"):
            text = _header_text(value)
            if text is None:
                return b""
            event[name[3:]] = text
    event.pop("data", None)
    event.pop("data_base64", None)
    if "content-type" in headers:
        event["datacontenttype"] = "application/json"
    if body.strip(_SPACE):
        try:
            event["data"] = _RAW.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, MemoryError):
            return body
    return msgspec.json.encode(event)


def _header_text(value: str) -> str | None:
    """A `ce-` header's text: quotes taken off, then percent-decoded, as CloudEvents' HTTP binding says."""
    if len(value) >= 2 and value[0] == value[-1] == '"':
        value = re.sub(r"\\(.)", r"\1", value[1:-1])
    try:
        return unquote_to_bytes(value.encode("latin-1")).decode()
    except UnicodeError:
        return None
