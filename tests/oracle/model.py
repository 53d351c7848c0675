"""The rules of engagement, each as a sentence of the specification, over a list of facts.

Promises: `expected` depends on the set of facts, the instant and the rule; on nothing else. Instants are
whole milliseconds since 1970 inside, aware datetimes outside.

Limits: works each row out anew from all facts; some 200,000 facts a second.

Called by the tests directly and by `oracle.compare` for a running stack.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from whenever import PlainDateTime

from tests.oracle import identifiers, links
from tests.oracle.instants import instant

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
DAY = 86_400_000
LAST = (datetime.max.replace(tzinfo=UTC) - EPOCH) // timedelta(milliseconds=1)
NEVER = LAST + 1

CONTACT = "contact:"
CLICKED, DELIVERED = "mail.clicked", "mail.delivered"
DELETED, RESTORED = "contact.deleted", "contact.restored"
CONSENT = "contact.consent_changed"


class Fact(NamedTuple):
    """What counts of an envelope: enough to work out rows, small enough to hold millions."""

    subject: str
    source: str
    id: str
    type: str
    time: int
    digest: str
    mailing: str | None
    test: bool
    consent: str | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """The stored columns of one contact's engagement; what depends on the clock is no part of it."""

    contact_id: str
    date_first_click: datetime | None
    date_last_click: datetime | None
    frequency: int
    volume: int
    volume_last_30: int
    period_months: int


@dataclass(frozen=True, slots=True)
class Rule:
    period_months: int = 12
    keep_row_without_clicks: bool = False


def expected(
    facts: Iterable[Mapping[str, Any]],
    at: datetime,
    period_months: int = 12,
    keep_row_without_clicks: bool = False,
    upto: datetime | None = None,
) -> dict[str, Row]:
    """The rows at the instant `at`, by contact id; a contact without a row is left out.

    `facts` are envelopes as they stand on the log, in any order and any number of copies. With `upto` the
    facts dated later are not looked at (a reading *as of* then, by today's knowledge).
    """
    rule = Rule(period_months, keep_row_without_clicks)
    rows = {}
    envelopes, gone = links.without_erased(facts)
    told = [links.read(one) for one in envelopes if one["type"] in links.TYPES]
    until = None if upto is None else _cut(upto)
    root_of = identifiers.roots(envelopes, links.roots(told, until, gone), until, gone)
    events = [read(one) for one in envelopes if one["type"] not in identifiers.REGISTERED]
    for contact_id, history in histories(events, root_of).items():
        found = row(contact_id, history, at, rule, upto)
        if found is not None:
            rows[contact_id] = found
    return rows


def read(envelope: Mapping[str, Any]) -> Fact:
    """The fact that an envelope tells of; KeyError or ValueError when it is no envelope."""
    data = envelope["data"]
    return Fact(
        subject=envelope["subject"],
        source=envelope["source"],
        id=envelope["id"],
        type=sys.intern(envelope["type"]),
        time=instant(envelope["time"]),
        digest=envelope["digest"],
        mailing=data.get("mailing_id"),
        test=data.get("test") is True,
        consent=data["level"] if envelope["type"] == CONSENT else None,
    )


def histories(
    facts: Iterable[Fact], root_of: Callable[[str], str] = lambda subject: subject
) -> dict[str, list[Fact]]:
    """The facts of each contact and of what belongs to it, one for each subject, source and id.

    Of two contents under one key the one with the smaller (time, digest) holds, whichever came first.
    """
    held: dict[tuple[str, str, str], Fact] = {}
    for fact in facts:
        key = (fact.subject, fact.source, fact.id)
        other = held.get(key)
        if other is None or (fact.time, fact.digest) < (other.time, other.digest):
            held[key] = fact
    by_contact: dict[str, list[Fact]] = defaultdict(list)
    for fact in held.values():
        root = root_of(fact.subject)
        if root.startswith(CONTACT):
            by_contact[root.removeprefix(CONTACT)].append(fact)
    return dict(by_contact)


def row(
    contact_id: str, history: Iterable[Fact], at: datetime, rule: Rule, upto: datetime | None = None
) -> Row | None:
    """One contact's row at an instant, from its deduplicated history; None when it has none."""
    now = _cut(at)
    told = [fact for fact in history if upto is None or fact.time <= _cut(upto)]
    hidden = {subject for subject in {fact.subject for fact in told} if _deleted(subject, told)}
    if f"{CONTACT}{contact_id}" in hidden:
        return None
    known = [fact for fact in told if fact.subject not in hidden]
    if _withheld(told):
        known = [fact for fact in known if fact.type != CLICKED]

    counted = [fact for fact in known if not fact.test and fact.mailing is not None]
    clicks = [f for f in counted if f.type == CLICKED and now <= plus_months(f.time, rule.period_months)]
    deliveries = [
        f for f in counted if f.type == DELIVERED and now <= plus_months(f.time, rule.period_months)
    ]
    recent = [f for f in counted if f.type == DELIVERED and now <= f.time + 30 * DAY]

    if not clicks and not (deliveries and rule.keep_row_without_clicks):
        return None
    times = [click.time for click in clicks]
    return Row(
        contact_id=contact_id,
        date_first_click=_datetime(min(times)) if times else None,
        date_last_click=_datetime(max(times)) if times else None,
        frequency=len({click.mailing for click in clicks}),
        volume=len({delivery.mailing for delivery in deliveries}),
        volume_last_30=len({delivery.mailing for delivery in recent}),
        period_months=rule.period_months,
    )


def recency(found: Row | None, at: datetime) -> int | None:
    """Whole 24-hour periods from the last click to `at`, never below 0; None without a click."""
    if found is None or found.date_last_click is None:
        return None
    return max(0, (_cut(at) - _cut(found.date_last_click)) // DAY)


def dropped_out(history: Iterable[Fact], at: datetime, rule: Rule) -> list[datetime]:
    """The instants after `at`, in order, at which a fact of the contact leaves a window.

    The first is the earliest at which the row can change by time alone.
    """
    now = _cut(at)
    ends = set()
    for fact in history:
        if fact.test or fact.mailing is None or fact.type not in (CLICKED, DELIVERED):
            continue
        ends.add(plus_months(fact.time, rule.period_months))
        if fact.type == DELIVERED:
            ends.add(fact.time + 30 * DAY)
    return [_datetime(end + 1) for end in sorted(ends) if now <= end < LAST]


def plus_months(time: int, months: int) -> int:
    """The instant `months` calendar months after `time`, the day clamped to the month's last; in UTC."""
    plain = PlainDateTime.parse_iso(_datetime(time).replace(tzinfo=None).isoformat())
    try:
        return plain.add(months=months).assume_utc().timestamp(unit="millisecond")
    except ValueError:  # past the year 9999: it never leaves the window
        return NEVER


def _deleted(subject: str, history: Iterable[Fact]) -> bool:
    told = [fact for fact in history if fact.subject == subject and fact.type in (DELETED, RESTORED)]
    if not told:
        return False
    return max(told, key=lambda fact: (fact.time, fact.id, fact.source)).type == DELETED


def _withheld(told: list[Fact]) -> bool:
    """Whether the last word on consent of anyone whose facts these are allows no look at what one does."""
    latest: dict[str, Fact] = {}
    for fact in sorted(told, key=lambda fact: (fact.time, fact.id, fact.source)):
        if fact.consent is not None:
            latest[fact.subject] = fact
    return any(fact.consent != "individual" for fact in latest.values())


def _cut(at: datetime) -> int:
    if at.tzinfo is None:
        raise ValueError("an instant needs a zone")
    return (at - EPOCH) // MILLISECOND


def _datetime(time: int) -> datetime:
    return EPOCH + time * MILLISECOND
