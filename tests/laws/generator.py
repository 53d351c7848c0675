"""Histories for the laws: what was told at the doors, and the ledger of what must have become of it.

Promises: the ledger is written apart from Heed (own month arithmetic, own digest), envelope by envelope, so
that the oracle can be asked about it. Instants lie where mistakes live: at both ends of a window to the
millisecond, at month ends, in leap years, a little ahead. Ids are few, so that copies and contradictions
are common.

Limits: `histories` and `seeded` tell of contacts alone, `linked` also of what belongs to them. What draws is
for hypothesis and shrinks; `seeded` makes large histories cheaply.

Called by the law tests, the fault tests and the integration tests.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, TypeVar

import rfc8785
from hypothesis import strategies as st
from whenever import PlainDateTime

from tests import keyring

MAIL_DOOR, IDENTITY_DOOR = "email-activity", "contact-identity"
KINDS = (
    "mail.clicked", "mail.clicked", "mail.clicked", "mail.delivered", "mail.delivered", "mail.opened",
    "mail.bounced", "mail.sent", "mail.unsubscribed", "contact.deleted", "contact.restored",
    "contact.consent_changed",
)  # fmt: skip
AHEAD = timedelta(minutes=5)
MS = timedelta(milliseconds=1)
DAY = timedelta(days=1)
NOW = datetime(2096, 11, 22, 14, 39, 47, 123000, UTC)  # a fold's T is never before the clock
NOWS = (
    NOW,
    datetime(2096, 2, 29, 12, 0, tzinfo=UTC),
    datetime(2097, 2, 28, 9, 0, tzinfo=UTC),
    datetime(2097, 3, 1, 0, 0, 0, 1000, UTC),
    datetime(2096, 3, 31, 23, 59, 59, 999000, UTC),
    datetime(2092, 2, 29, 0, 0, tzinfo=UTC),
)
STYLES = 5
LEVELS = ("refused", "aggregate", *("individual",) * 4)
INDIA = timezone(timedelta(hours=5, minutes=30))
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Told:
    """A good event, before it is written down; `style` is how, and changes nothing about it."""

    kind: str
    contact: str
    time: datetime
    id: str
    source: str = "urn:a"
    mailing: str | None = "m1"
    test: bool | None = None
    style: int = 0
    to: str | None = None  # of a link
    takes_back: tuple[str, str] | None = None  # of an undo: source and id of a link
    level: str = "individual"  # of consent
    covers: tuple[str, ...] = ()  # of an erasure

    @property
    def subject(self) -> str:
        """Whom it is about: `contact`, which may also be a session, written out."""
        return self.contact if ":" in self.contact else f"contact:{self.contact}"

    @property
    def door(self) -> str:
        return MAIL_DOOR if self.kind.startswith("mail.") else IDENTITY_DOOR

    @property
    def data(self) -> dict[str, Any]:
        """The declared fields that have a value."""
        if self.covers:
            return {"covers": list(self.covers)}
        if self.takes_back is not None:
            return {"link": {"id": self.takes_back[1], "source": self.takes_back[0]}}
        if self.to is not None:
            return {"into" if self.kind == "contact.merged" else "contact_id": self.to}
        if self.kind == "contact.consent_changed":
            return {"level": self.level}
        if self.door == IDENTITY_DOOR:
            return {}
        data: dict[str, Any] = {}
        if self.mailing is not None or self.kind not in ("mail.clicked", "mail.opened"):
            data["mailing_id"] = self.mailing or "m0"
        if self.test is not None:
            data["test"] = self.test
        if self.kind == "mail.clicked":
            data["url"] = "https://example.org/"
        if self.kind == "mail.bounced":
            data["kind"] = "soft"
        return data


@dataclass(frozen=True, slots=True, repr=False)
class Sent:
    """A record at a door: what stands there, when it was appended, why it is parked (None: it is a fact)."""

    door: str
    raw: bytes
    at: datetime
    reason: str | None = None

    def __repr__(self) -> str:
        raw = repr(self.raw) if len(self.raw) < 400 else f"{self.raw[:60]!r}…"
        return f"Sent({self.door}, {raw}, {self.at.isoformat()}, {self.reason})"


@dataclass(frozen=True, slots=True)
class History:
    """What was sent up to `now`, and the envelopes (copies too) that have to be in the log."""

    now: datetime
    sent: tuple[Sent, ...]
    ledger: tuple[dict[str, Any], ...]


def history(told: Sequence[Told], rubbish: Sequence[Sent] = (), now: datetime = NOW) -> History:
    """Everything appended at `now`; what is too far ahead of it is no fact yet."""
    sent, ledger = [], []
    for event in told:
        future = event.time > now + AHEAD
        sent.append(Sent(event.door, write(event), now, "future" if future else None))
        if not future:
            ledger.append(envelope(event, now))
    return History(now, (*sent, *rubbish), tuple(ledger))


def write(event: Told) -> bytes:
    """The event as a producer may send it; every style says the same."""
    data: dict[str, Any] = dict(event.data)
    document: dict[str, Any] = {
        "specversion": "1.0",
        "type": event.kind,
        "source": event.source,
        "id": event.id,
        "subject": event.subject,
        "time": _utc(event.time),
    }
    if event.style == 1:
        document["time"] = event.time.astimezone(INDIA).isoformat(timespec="milliseconds")
    elif event.style == 2:
        document["time"] = _utc(event.time)[:-1] + "999Z"
        document["dataschema"] = f"urn:heed:{event.kind}:1"
    elif event.style == 3:
        document |= {"digest": "0" * 32, "accepted": "yesterday", "kid": "k", "traceparent": "00-1-2-01"}
        data["colour"] = {"deep": [1, 2.5, None]}
    elif event.style == 4 and event.door == MAIL_DOOR:
        data = {"message_id": None, "test": None, **data}
    return json.dumps({**document, "data": data}).encode()


def envelope(event: Told, accepted: datetime) -> dict[str, Any]:
    """The event as it has to stand on the log."""
    return {
        "specversion": "1.0",
        "id": event.id,
        "source": event.source,
        "type": event.kind,
        "subject": event.subject,
        "time": _utc(event.time),
        "dataschema": f"urn:heed:{event.kind}:1",
        "data": event.data,
        "digest": digest(event.kind, event.data),
        "accepted": _utc(accepted),
    }


def digest(kind: str, data: dict[str, Any]) -> str:
    """BLAKE2b-128 over the canonical JSON of type and data, keyed."""
    whole = rfc8785.dumps({"data": data, "type": kind})
    return hashlib.blake2b(whole, digest_size=16, key=keyring.SECRET).hexdigest()


def rubbish(now: datetime = NOW) -> list[Sent]:
    """One record of every kind that no reader may fold, with the reason it is parked for."""
    good = json.loads(write(Told("mail.clicked", "ada", now, "r")))

    def bad(reason: str, **changed: Any) -> Sent:
        left = {name: value for name, value in {**good, **changed}.items() if value is not ...}
        return Sent(MAIL_DOOR, json.dumps(left).encode(), now, reason)

    raws = (b"", b"\xff\xfe", b"{", b'{"specversion":"1.0"', b'{"a":' * 1_000, b"NaN")
    return [
        *(Sent(MAIL_DOOR, raw, now, "undecodable") for raw in raws),
        *(Sent(MAIL_DOOR, raw, now, "invalid") for raw in (b"[]", b"null", b"7")),
        bad("invalid", specversion="0.3"),
        bad("invalid", id=...),
        bad("invalid", source=""),
        bad("invalid", time=...),
        bad("invalid", time="yesterday"),
        bad("invalid", time="2026-02-30T00:00:00Z"),
        bad("invalid", subject="contact:someone@example.org"),
        bad("invalid", data={"url": 7}),
        bad("invalid", data={"url": "x" * 33_000}),
        bad("unknown_type", type="mail.forwarded"),
        bad("unknown_type", type="order.placed"),
        bad("newer_version", dataschema="urn:heed:mail.clicked:2"),
        bad("unstorable", id="half a pair: \ud800"),
        bad("unstorable", time="10000-01-01T00:00:00Z"),
        bad("unstorable", data={"mailing_id": "nul\x00", "url": "https://example.org/"}),
        bad("wrong_door", type="contact.deleted", data={}),
        bad("wrong_door", type="segment.entered"),
        bad("no_subject", subject=...),
        bad("no_subject", subject="mail:someone@example.org"),
        bad("invalid", subject="phone:30123456"),
        bad("future", time=_utc(now + AHEAD + MS)),
    ]


# -- instants where mistakes live


def edges(now: datetime, months: int) -> list[datetime]:
    """Instants at an end of a window, of `months` and of 30 days: the last milliseconds in, the first out."""
    plain = PlainDateTime.parse_iso(now.replace(tzinfo=None).isoformat()).subtract(months=months)
    began = plain.to_stdlib().replace(tzinfo=UTC)
    near = (-2 * MS, -MS, timedelta(0), MS, 2 * MS)
    around = (began, began + DAY, began + 2 * DAY, began + 3 * DAY, began - DAY, now - 30 * DAY)
    return [moment + step for moment in around for step in near]


def month_ends(now: datetime) -> list[datetime]:
    """The last days of the months around: the days that are clamped."""
    found = []
    for back in range(16):
        year, month = divmod(now.year * 12 + now.month - 1 - back, 12)
        first = datetime(year, month + 1, 1, 9, tzinfo=UTC)
        found += [first - DAY, first - DAY + timedelta(hours=1), first - MS - timedelta(hours=9)]
    return [moment for moment in found if moment <= now]


def times(now: datetime, months: int) -> st.SearchStrategy[datetime]:
    """Instants up to a little too far ahead of `now`."""
    span = timedelta(days=430) // MS
    return st.one_of(
        st.sampled_from([now, *edges(now, months)]),
        st.sampled_from([now + AHEAD, now + AHEAD + MS, now + timedelta(minutes=2), now + MS]),
        st.sampled_from(month_ends(now)),
        st.integers(0, span).map(lambda back: now - back * MS),
    )


def events(now: datetime = NOW, months: int = 12, contacts: int = 3) -> st.SearchStrategy[Told]:
    """One good event; few contacts, mailings, ids and sources, so that they meet."""
    return st.builds(
        Told,
        kind=st.sampled_from(KINDS),
        contact=st.sampled_from([f"c{n}" for n in range(contacts)]),
        time=times(now, months),
        id=st.sampled_from([f"e{n}" for n in range(12)]),
        source=st.sampled_from(["urn:a", "urn:b"]),
        mailing=st.sampled_from(["m1", "m2", "m3", None]),
        test=st.sampled_from([None, None, None, True, False]),
        style=st.integers(0, STYLES - 1),
        level=st.sampled_from(LEVELS),
    )


@st.composite
def histories(
    draw: st.DrawFn, months: int = 12, contacts: int = 3, most: int = 40, now: datetime | None = None
) -> History:
    """A history with copies, contradictions, late and early ones, and some rubbish between."""
    at = draw(st.sampled_from(NOWS)) if now is None else now
    told = draw(st.lists(events(at, months, contacts), max_size=most))
    copied = draw(st.lists(st.sampled_from(told), max_size=5)) if told else []
    styles = draw(st.lists(st.integers(0, STYLES - 1), min_size=len(copied), max_size=len(copied)))
    copies = [replace(event, style=style) for event, style in zip(copied, styles, strict=True)]
    between = draw(st.lists(st.sampled_from(rubbish(at)), max_size=3))
    return history([*told, *copies], between, at)


@st.composite
def linked(
    draw: st.DrawFn, contacts: int = 4, sessions: int = 2, now: datetime = NOW, erasures: int = 0
) -> list[Told]:
    """Events of contacts and sessions, links between them, and undos of links that may not be there; at most
    so many erasures."""
    names = [f"c{n}" for n in range(contacts)]
    visits = [f"session:s{n}" for n in range(sessions)]
    when = st.integers(0, 40).map(lambda back: now - back * DAY)
    ids, sources = st.sampled_from([f"l{n}" for n in range(6)]), st.sampled_from(["urn:a", "urn:b"])
    common = {"time": when, "id": ids, "source": sources}
    back = st.tuples(sources, ids)
    link = st.one_of(
        st.builds(
            Told, st.just("contact.merged"), st.sampled_from(names), to=st.sampled_from(names), **common
        ),
        st.builds(
            Told, st.just("session.linked"), st.sampled_from(visits), to=st.sampled_from(names), **common
        ),
        st.builds(Told, st.just("contact.unmerged"), st.sampled_from(names), takes_back=back, **common),
        st.builds(Told, st.just("session.unlinked"), st.sampled_from(visits), takes_back=back, **common),
    )
    word = st.builds(
        Told,
        st.sampled_from(["contact.deleted", "contact.restored", "contact.consent_changed"]),
        st.sampled_from(names),
        level=st.sampled_from(LEVELS),
        **common,
    )
    event = st.builds(
        Told,
        kind=st.sampled_from(["mail.clicked", "mail.clicked", "mail.delivered"]),
        contact=st.sampled_from([*names, *visits]),
        time=when,
        id=st.sampled_from([f"e{n}" for n in range(9)]),
        mailing=st.sampled_from(["m1", "m2", "m3"]),
    )
    told = draw(st.lists(st.one_of(event, event, link, link, word), min_size=1, max_size=24))
    everyone = [f"contact:{name}" for name in names] + visits
    erasure = st.builds(
        Told,
        st.just("contact.erased"),
        st.sampled_from(names),
        covers=st.lists(st.sampled_from(everyone), min_size=1, max_size=3, unique=True).map(tuple),
        **common,
    )
    told += draw(st.lists(erasure, max_size=erasures))
    return [one for one in told if one.to != one.contact]


def orders(items: Sequence[Item]) -> st.SearchStrategy[list[Item]]:
    """Every item at least once, some more often, in any order."""
    again = st.lists(st.sampled_from(items), max_size=5) if items else st.just([])
    return again.flatmap(lambda more: st.permutations([*items, *more]))


@st.composite
def batches(draw: st.DrawFn, items: Sequence[Item]) -> list[list[Item]]:
    """The items in their order, cut into batches; some are empty."""
    cuts = sorted(draw(st.lists(st.integers(0, len(items)), max_size=8)))
    return [list(items[a:b]) for a, b in zip([0, *cuts], [*cuts, len(items)], strict=True)]


def seeded(
    seed: int, size: int = 2_000, contacts: int = 50, now: datetime = NOW, months: int = 12, name: str = "e"
) -> History:
    """A large history from a seed: the same kinds of trouble, at real proportions, in a shuffled order."""
    dice = random.Random(seed)
    special = [*edges(now, months), *month_ends(now), now, now + AHEAD, now + AHEAD + MS]
    span = timedelta(days=430) // MS
    told: list[Told] = []
    for number in range(size):
        luck = dice.random()
        time = dice.choice(special) if luck < 0.2 else now - dice.randrange(span) * MS
        event = Told(
            kind=dice.choice(KINDS),
            contact=f"c{int(contacts * dice.random() ** 2)}",
            time=time,
            id=f"{name}{number}",
            source=dice.choice(("urn:a", "urn:b")),
            mailing=dice.choice((None, *(f"m{n}" for n in range(30)))),
            test=dice.choice((None,) * 8 + (True, False)),
            style=dice.randrange(STYLES),
            level=dice.choice(LEVELS),
        )
        told.append(event)
        if luck > 0.95:
            told.append(replace(event, style=dice.randrange(STYLES)))
        if luck > 0.98:
            told.append(replace(event, time=dice.choice([time - MS, time + MS, time]), mailing="m9"))
    between = [dice.choice(rubbish(now)) for _ in range(size // 100)]
    whole = history(told, between, now)
    return replace(whole, sent=tuple(dice.sample(whole.sent, len(whole.sent))))


def _utc(moment: datetime) -> str:
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"
