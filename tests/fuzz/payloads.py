"""Hostile payloads from a seed: four of five are valid events with one mutation, the rest are worse.

Promises: one seed gives one list; each payload says which mutation made it. Ids are told apart by seed and
number, so that what was taken can be found again, unless the mutation is of the id itself.
Called by the fuzz tests.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tests.unit import samples

Event = dict[str, Any]
# fmt: off
ODD_TEXTS = (
    "", " ", "\0", "a\0b", "\ud800", "x\udc00\ud800", "\u202eevil", "é" * 64, "😀" * 32, "\ufeffid",
    "\uffff", "�", "'; drop table fact; --", "../../etc/passwd", "${jndi:x}", "%00", "\\u0000", "null",
    "NaN", "\r\nX: y", "\x7f", "a" * 64, "a" * 65, "a" * 128, "a" * 129, "a" * 256, "a" * 257, "a" * 2_048,
    "a" * 2_049, "a" * 33_000,
)
ODD_NUMBERS = (
    0, -1, 1, 2**31, 2**53 + 1, 2**63 - 1, 2**63, -(2**70), 10**400, 0.1, 1e308, -0.0,
)
ODD_VALUES: tuple[Any, ...] = (
    None, True, False, [], {}, [None], {"a": 1}, [[]], *ODD_NUMBERS, *ODD_TEXTS[:8],
)
ODD_TIMES = (
    "2026-02-29T00:00:00Z", "2024-02-29T23:59:59.999999Z", "0001-01-01T00:00:00Z",
    "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59Z", "9999-12-31T23:59:59-01:00",
    "0000-01-01T00:00:00Z", "10000-01-01T00:00:00Z", "2026-06-30T23:59:60Z", "2026-01-01T24:00:00Z",
    "2026-13-01T00:00:00Z", "2026-01-01", "2026-01-01T00:00:00", "2026-01-01t00:00:00z",
    "2026-01-01 00:00:00+00:00", "2026-01-01T00:00:00.1Z", "2026-01-01T00:00:00,5Z",
    "2026-01-01T00:00:00.Z", "2026-01-01T00:00:00+24:00", "2026-01-01T00:00:00+23:59",
    "2026-01-01T00:00:00-00:00", "20260101T000000Z", "2026-W01-1T00:00:00Z", "1735689600", "now",
    "٢٠٢٦-01-01T00:00:00Z", "2026-01-01T00:00:00.123456789012Z", "2026-1-1T0:0:0Z", " 2026-01-01T00:00:00Z",
    "2026-01-01T00:00:00Z\n", "1969-12-31T23:59:59.999Z", "2026-01-01T00:00:00+0000",
    "+2026-01-01T00:00:00Z", "2026-01-01T00:00Z",
)
ODD_SUBJECTS = (
    "contact:", "contact:a@b", "contact:a b", "contact:" + "a" * 64, "contact:" + "a" * 65, "CONTACT:ada",
    "contact", "email:a@example.org", "phone:+49301234567", "custom:a",
    "session:1", "contact:é", "contact:a\n", "contact:\0", "home:1",
    "contact:.", "contact:~-_",
)
ODD_SCHEMAS = (
    "urn:heed:{t}:1", "urn:heed:{t}:2", "urn:heed:{t}:0", "urn:heed:{t}:01", "urn:heed:{t}", "urn:heed:x:1",
    "urn:heed:{t}:99999999999", "",
)
ODD_TYPES = (
    "mail.forwarded", "setting.changed", "campaign.started", "snooze.set", "mail.Clicked", "",
    "engagement.expire", "contact.merged", "mail.clicked\0", "identifier.linked",
)
DECLARED = (
    "digest", "accepted", "actor", "sealed", "kid", "data_base64", "partitionkey", "traceparent",
    "datacontenttype",
)
BYTES = (
    b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\x00", b"\x1f", b'"', b"{", b"}", b"[", b",", b"\\u", b"1e999",
    b"NaN", b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"//", b"\\ud800", b"\\x", b"0", b"-", b"\t", b"\n",
)
# fmt: on


@dataclass(frozen=True, slots=True)
class Payload:
    """One hostile event: what was done to it, its bytes, and the door of the type that it began as."""

    number: int
    mutation: str
    raw: bytes
    door: str


def payloads(seed: int, count: int) -> Iterator[Payload]:
    """So many payloads; the n-th of a seed is always the same."""
    for number in range(count):
        choice = random.Random(f"{seed}:{number}")
        event = valid(choice, f"fuzz-{seed}-{number}")
        door = samples.door(event["type"])
        if choice.random() < 0.85:
            name = choice.choice(NAMES)
            yield Payload(number, name, _one(name, event, choice), door)
        else:
            name, raw = _worse(event, choice)
            yield Payload(number, name, raw, door)


def valid(choice: random.Random, id: str) -> Event:
    """A valid event of any type."""
    kind = choice.choice(sorted(samples.DATA))
    who = f"{samples.subject(kind).split(':')[0]}:fuzz-{choice.randrange(2_000)}"
    day = f"20{choice.randrange(10, 26)}-{choice.randrange(1, 13):02}-{choice.randrange(1, 29):02}"
    data = copy.deepcopy(samples.DATA[kind])
    if "mailing_id" in data:
        data["mailing_id"] = f"m{choice.randrange(50)}"
    return samples.event(kind, id=id, source="urn:fuzz", subject=who, time=f"{day}T10:11:12.345Z", data=data)


def _one(name: str, event: Event, choice: random.Random) -> bytes:
    if name in OF_VALUES:
        OF_VALUES[name](event, choice)
        return samples.encode(event)
    return OF_BYTES[name](samples.encode(event), choice)


def _place(event: Event, choice: random.Random) -> tuple[Event, str]:
    """A member of the envelope or of data."""
    inside = event["data"] if isinstance(event.get("data"), dict) and choice.random() < 0.5 else event
    inside = inside or event
    return inside, choice.choice(sorted(inside))


def _odd(choice: random.Random) -> Any:
    """A value of its own: what is shared would be changed by the next mutation, or put into itself."""
    return copy.deepcopy(choice.choice(ODD_VALUES))


def _removed(event: Event, choice: random.Random) -> None:
    inside, name = _place(event, choice)
    del inside[name]


def _retyped(event: Event, choice: random.Random) -> None:
    inside, name = _place(event, choice)
    inside[name] = _odd(choice)


def _odd_text(event: Event, choice: random.Random) -> None:
    inside, name = _place(event, choice)
    inside[name] = choice.choice(ODD_TEXTS)


def _odd_tail(event: Event, choice: random.Random) -> None:
    inside, name = _place(event, choice)
    if isinstance(inside[name], str):
        inside[name] += choice.choice(ODD_TEXTS)


def _nested(event: Event, choice: random.Random) -> None:
    inside, name = _place(event, choice)
    deep: Any = 1
    for _ in range(choice.choice((1, 10, 29, 30, 31, 32, 33, 100, 400))):
        deep = [deep] if choice.random() < 0.5 else {"a": deep}
    inside[choice.choice((name, "extra"))] = deep


def _many_members(event: Event, choice: random.Random) -> None:
    inside, _ = _place(event, choice)
    inside |= {
        f"extra{n}": choice.choice(ODD_VALUES[:12]) for n in range(choice.choice((1, 50, 1_000, 3_000)))
    }


def _other_case(event: Event, choice: random.Random) -> None:
    inside, name = _place(event, choice)
    inside[choice.choice((name.upper(), name + " ", " " + name, name + "\0"))] = inside.pop(name)


def _set(name: str, values: tuple[Any, ...]) -> Callable[[Event, random.Random], None]:
    def change(event: Event, choice: random.Random) -> None:
        value = choice.choice(values)
        event[name] = value.replace("{t}", str(event.get("type"))) if isinstance(value, str) else value

    return change


def _declared(event: Event, choice: random.Random) -> None:
    event[choice.choice(DECLARED)] = copy.deepcopy(choice.choice(ODD_VALUES + ODD_TEXTS))


OF_VALUES: dict[str, Callable[[Event, random.Random], None]] = {
    "a member removed": _removed,
    "a member retyped": _retyped,
    "a text replaced": _odd_text,
    "a text with a tail": _odd_tail,
    "nested": _nested,
    "members added": _many_members,
    "a name in another case": _other_case,
    "an odd time": _set("time", ODD_TIMES),
    "an odd subject": _set("subject", ODD_SUBJECTS),
    "an odd version": _set("dataschema", ODD_SCHEMAS),
    "an odd type": _set("type", ODD_TYPES),
    "an odd specversion": _set("specversion", ("0.3", "1", "1.0.0", 1.0, " 1.0", None)),
    "what Heed writes itself": _declared,
}


def _truncated(raw: bytes, choice: random.Random) -> bytes:
    return raw[: choice.randrange(len(raw))]


def _flipped(raw: bytes, choice: random.Random) -> bytes:
    found = bytearray(raw)
    for _ in range(choice.randrange(1, 4)):
        found[choice.randrange(len(found))] ^= 1 << choice.randrange(8)
    return bytes(found)


def _inserted(raw: bytes, choice: random.Random) -> bytes:
    at = choice.randrange(len(raw) + 1)
    return raw[:at] + choice.choice(BYTES) + raw[at:]


def _cut_out(raw: bytes, choice: random.Random) -> bytes:
    at = choice.randrange(len(raw))
    return raw[:at] + raw[at + choice.randrange(1, 9) :]


def _twice(raw: bytes, choice: random.Random) -> bytes:
    """A member of the envelope stands twice, with another value before or behind."""
    event = json.loads(raw)
    name = choice.choice(sorted(event))
    other = samples.encode({name: choice.choice((event[name], *ODD_VALUES))})[1:-1]
    return b"{" + other + b", " + raw[1:] if choice.random() < 0.5 else raw[:-1] + b", " + other + b"}"


def _number(raw: bytes, choice: random.Random) -> bytes:
    odd = (
        b"1e999",
        b"-1e999",
        b"00",
        b"0x1",
        b"NaN",
        b"-Infinity",
        b"1.",
        b".5",
        b"+1",
        b"1e",
        b"9" * 5_000,
        b"-0",
        b"1E+2",
    )
    name = choice.choice((b"extra", b"traceparent", b"kid", b"id"))
    return raw[:-1] + b', "' + name + b'": ' + choice.choice(odd) + b"}"


def _encoded(raw: bytes, choice: random.Random) -> bytes:
    text = json.dumps(json.loads(raw), ensure_ascii=False)
    return text.encode(
        choice.choice(("utf-16", "utf-16-le", "utf-32", "utf-8-sig", "latin-1", "utf-8")), "replace"
    )


def _surrounded(raw: bytes, choice: random.Random) -> bytes:
    before, after = choice.choice(
        (
            (b" \n", b"\t"),
            (b"", b"\0"),
            (b"[", b"]"),
            (b"\xef\xbb\xbf", b""),
            (b"", b"x"),
            (b"", b"\n\n"),
            (b"\x0b", b""),
            (b"", b"{}"),
            (b"'", b"'"),
            (b"(", b")"),
        )
    )
    return before + raw + after


OF_BYTES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "truncated": _truncated,
    "bits flipped": _flipped,
    "bytes inserted": _inserted,
    "bytes cut out": _cut_out,
    "a member twice": _twice,
    "an odd number": _number,
    "another encoding": _encoded,
    "surrounded": _surrounded,
}
NAMES = (*OF_VALUES, *OF_BYTES)


def _worse(event: Event, choice: random.Random) -> tuple[str, bytes]:
    """Several mutations at once, or bytes that never were an event."""
    if choice.random() < 0.6:
        raw = b""
        for name in choice.sample(list(OF_VALUES), choice.randrange(2, 5)):
            raw = _one(name, event, choice) if event else raw
        return "several", choice.choice(list(OF_BYTES.values()))(raw, choice) if raw else raw
    return "no event", choice.choice(
        (
            b"",
            choice.randbytes(choice.choice((1, 50, 2_000))),
            b"[" * choice.choice((10, 40, 30_000)),
            b'{"a":' * choice.choice((10, 6_000)),
            samples.encode(_odd(choice)),
            b"x" * choice.choice((32_768, 32_769, 100_000)),
            b'"' + b"\\" * 999,
        )
    )
