"""The demo's history: a year and more of an organisation that mails people, made up and always the same.

Promises: equal options and anchor give equal bytes in an equal order, so a history sent again is only
duplicates. People differ (few click much, most rarely); an open goes before its click; nights are quiet.
Among the good events are copies, late ones, copies that contradict, test mailings, deletions, restores, and
rubbish of every kind.

Limits: everything stands in memory, some 450 bytes an event. Nobody in it is real: contacts are numbers,
addresses end in example.org.

Called by `deploy.demo`.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

import msgspec

from schemas import envelope, topics

# Part of every id: a history that is made otherwise is another history.
EDITION: Final = 1
MAIL: Final = "urn:example.org:mail"
CRM: Final = "urn:example.org:crm"
SECOND: Final = 1000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR
MONTH: Final = 2_629_800 * SECOND


@dataclass(frozen=True, slots=True)
class Options:
    contacts: int = 5000
    mailings: int = 200
    months: int = 14
    seed: int = 2026


class Event(msgspec.Struct, omit_defaults=True):
    """A CloudEvent as a producer writes it."""

    specversion: str
    id: str
    source: str
    type: str
    subject: str | None
    time: str
    data: dict[str, Any]
    dataschema: str | None = None


class Letter(NamedTuple):
    """An event on its way: when it is sent (only the order counts), through which door, and its bytes."""

    sent: int
    by_http: bool
    door: str
    key: bytes | None
    value: bytes


@dataclass(slots=True)
class Contact:
    subject: str
    joined: int
    appetite: float
    opens: float
    clicks: float
    gone: int | None = None


@dataclass(frozen=True, slots=True)
class Mailing:
    id: str
    at: int
    share: float
    by_http: bool
    pull: float


@dataclass(slots=True)
class History:
    """What is sent, in order: bodies by HTTP, (door, key, value) by Kafka."""

    by_http: list[bytes] = field(default_factory=list)
    by_kafka: list[tuple[str, bytes | None, bytes]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.by_http) + len(self.by_kafka)


def tell(options: Options, anchor: datetime) -> History:
    """The whole history up to the anchor instant; takes some seconds for 250,000 events."""
    letters = _Author(options, anchor).letters()
    letters.sort(key=lambda letter: letter.sent)
    history = History()
    for letter in letters:
        if letter.by_http:
            history.by_http.append(letter.value)
        else:
            history.by_kafka.append((letter.door, letter.key, letter.value))
    return history


class _Author:
    """Writes the letters, all chance drawn from one seed in one order."""

    def __init__(self, options: Options, anchor: datetime) -> None:
        self.options = options
        self.dice = random.Random(options.seed)
        self.anchor = int(anchor.timestamp() * 1000)
        self.start = self.anchor - options.months * MONTH
        self.count = 0
        self.written: list[Letter] = []
        self.encode = msgspec.json.Encoder().encode

    def letters(self) -> list[Letter]:
        contacts = self._contacts()
        for mailing in self._mailings():
            self._mailing(mailing, contacts)
            self._test_sends(mailing, contacts)
        self._presence(contacts)
        self._copies()
        self._rubbish(contacts)
        return self.written

    # -- who and what

    def _contacts(self) -> list[Contact]:
        """Zipf-like: the few at the head open nearly all and click much, the long tail hardly ever."""
        dice, number = self.dice, self.options.contacts
        places = list(range(1, number + 1))
        dice.shuffle(places)
        contacts = []
        for index, place in enumerate(places):
            zeal = (place / number) ** -0.45
            early = dice.random() < 0.7
            contacts.append(
                Contact(
                    subject=f"contact:c-{index + 1:05d}",
                    joined=self.start
                    if early
                    else self.start + int(dice.random() * self.options.months * MONTH),
                    appetite=min(4.0, 0.6 + 0.4 * zeal * (0.8 + 0.4 * dice.random())),
                    opens=min(0.95, 0.22 * zeal**0.7 * (0.7 + 0.6 * dice.random())),
                    clicks=min(0.75, 0.11 * zeal**0.8 * (0.5 + dice.random())),
                )
            )
        return contacts

    def _mailings(self) -> list[Mailing]:
        """Newsletters to many, appeals to some, invitations to few; mostly on weekdays, in working hours."""
        dice, mailings = self.dice, []
        for index in range(self.options.mailings):
            kind, share, pull = dice.choices(
                [("news", 0.13, 1.0), ("appeal", 0.075, 1.3), ("event", 0.03, 1.7)], [5, 3, 2]
            )[0]
            at = self.start + int(
                (index + dice.random()) / self.options.mailings * (self.anchor - self.start)
            )
            at = _at_work(at, dice)
            if at >= self.anchor:
                at -= 7 * DAY
            day = datetime.fromtimestamp(at / 1000, UTC).date().isoformat()
            mailings.append(Mailing(f"{kind}-{day}-{index + 1:03d}", at, share, index % 2 == 0, pull))
        return mailings

    # -- what happens

    def _mailing(self, mailing: Mailing, contacts: list[Contact]) -> None:
        chance = self.dice.random
        length = 20 * MINUTE
        for contact in contacts:
            if chance() >= mailing.share * contact.appetite or contact.joined > mailing.at:
                continue
            if contact.gone is not None and contact.gone <= mailing.at:
                continue
            at = mailing.at + int(chance() * length)
            self._mail("sent", mailing, contact, at)
            luck = chance()
            if luck < 0.98:
                arrived = at + SECOND + int(chance() * 90 * SECOND)
                self._mail("delivered", mailing, contact, arrived)
                self._reading(mailing, contact, arrived)
            if luck > 0.975:  # some come back after they were taken
                kind = "hard" if luck > 0.997 else "soft"
                self._mail("bounced", mailing, contact, at + 2 * MINUTE + int(chance() * HOUR), kind=kind)
                if kind == "hard":
                    contact.gone = at

    def _reading(self, mailing: Mailing, contact: Contact, arrived: int) -> None:
        dice = self.dice
        if dice.random() >= contact.opens:
            return
        opened = _awake(arrived + int(math.exp(dice.gauss(0.6, 1.6)) * HOUR), dice)
        self._mail("opened", mailing, contact, opened)
        if dice.random() < contact.clicks * mailing.pull:
            clicked = opened
            for _ in range(dice.choice((1, 1, 1, 1, 2, 2, 3))):
                clicked += 3 * SECOND + int(dice.expovariate(1 / 40) * SECOND)
                self._click(mailing, contact, clicked)
        luck = dice.random()
        if luck < 0.004:
            self._mail("unsubscribed", mailing, contact, opened + MINUTE)
            contact.gone = opened
        elif luck < 0.0045:
            self._mail("complained", mailing, contact, opened + MINUTE)
            contact.gone = opened

    def _click(self, mailing: Mailing, contact: Contact, at: int) -> None:
        url = f"https://example.org/{mailing.id}/{self.dice.choice(('read', 'give', 'join', 'share'))}"
        if self.dice.random() < 0.005:  # a link in a page's footer: no mailing is known
            self._write("mail.clicked", contact.subject, at, {"url": url}, mailing.by_http)
        else:
            self._mail("clicked", mailing, contact, at, url=url)

    def _test_sends(self, mailing: Mailing, contacts: list[Contact]) -> None:
        """The staff look at each mailing before it goes out, and click in it."""
        for contact in contacts[:3]:
            at = mailing.at - HOUR - int(self.dice.random() * HOUR)
            self._mail("delivered", mailing, contact, at, test=True)
            self._mail("opened", mailing, contact, at + MINUTE, test=True)
            self._mail("clicked", mailing, contact, at + 2 * MINUTE, test=True, url="https://example.org/")

    def _presence(self, contacts: list[Contact]) -> None:
        """One contact in a hundred is deleted some day; of these every third comes back."""
        dice = self.dice
        for contact in dice.sample(contacts, max(1, len(contacts) // 100)):
            at = max(contact.joined, self.start) + int(dice.random() * (self.anchor - contact.joined))
            by_http = dice.random() < 0.5
            self._write("contact.deleted", contact.subject, at, {}, by_http)
            if dice.random() < 0.35:
                back = at + int(dice.random() * 30 * DAY)
                self._write("contact.restored", contact.subject, back, {}, by_http)

    # -- what goes wrong

    def _copies(self) -> None:
        """Some are late; a hundredth comes twice, half of it by the other way; a few copies contradict."""
        dice = self.dice
        for index in dice.sample(range(len(self.written)), len(self.written) // 50):
            letter = self.written[index]
            self.written[index] = letter._replace(sent=letter.sent + int(dice.random() * 3 * DAY))
        for letter in dice.sample(self.written, len(self.written) // 100):
            other = dice.random() < 0.5
            self.written.append(
                letter._replace(sent=letter.sent + int(dice.random() * DAY), by_http=letter.by_http ^ other)
            )
        for letter in dice.sample(self.written, len(self.written) // 1000):
            event = msgspec.json.decode(letter.value, type=Event)
            at = int(datetime.fromisoformat(event.time).timestamp() * 1000) + dice.choice((-1, 1)) * MINUTE
            event.time = _say(min(at, self.anchor))
            self.written.append(letter._replace(sent=letter.sent + HOUR, value=self.encode(event)))

    def _rubbish(self, contacts: list[Contact]) -> None:
        for _ in range(max(1, self.count // 5000)):
            for event in self._unfit(self.dice.choice(contacts).subject):
                at, by_http = self._any_time(), self.dice.random() < 0.5
                self._send(at, by_http, topics.EMAIL_ACTIVITY, None, self.encode(event))
            for raw in (b"\xff\xfe\x00 not JSON", b'{"specversion":"1.0","id":"cut-off', b"[" * 2000, b""):
                self._send(self._any_time(), False, topics.EMAIL_ACTIVITY, None, raw)
            deleted = self._event("contact.deleted", contacts[0].subject, self.start, {})
            self._send(self._any_time(), False, topics.EMAIL_ACTIVITY, None, self.encode(deleted))

    def _unfit(self, subject: str) -> Iterator[Event]:
        """Events that no admission may take, one of each kind."""
        data = {"mailing_id": "news", "url": "https://example.org/"}
        address = f"email:someone-{self.count}@example.org"
        at = self._any_time()
        yield self._event("mail.forwarded", subject, at, data)
        newer = self._event("mail.clicked", subject, at, data)
        newer.dataschema = "urn:heed:mail.clicked:9"
        yield newer
        yield self._event("mail.delivered", subject, at, {"mailing_id": ""})
        yield self._event("mail.clicked", subject, at, {**data, "mailing_id": "nul\x00"})
        yield self._event("mail.opened", "contact:someone@example.org", at, data)
        yield self._event("mail.opened", address, at, data)
        yield self._event("segment.entered", subject, at, data)
        yield self._event("mail.clicked", subject, self.anchor + 30 * DAY, data)

    # -- writing it down

    def _mail(self, what: str, mailing: Mailing, contact: Contact, at: int, **more: Any) -> None:
        number = contact.subject[-5:]
        data = {"mailing_id": mailing.id, "message_id": f"{mailing.id}.{number}", **more}
        self._write(f"mail.{what}", contact.subject, at, data, mailing.by_http)

    def _write(self, kind: str, subject: str, at: int, data: dict[str, Any], by_http: bool) -> None:
        if at > self.anchor:
            return
        door = topics.EMAIL_ACTIVITY if kind.startswith("mail.") else topics.CONTACT_IDENTITY
        self._send(at, by_http, door, subject.encode(), self.encode(self._event(kind, subject, at, data)))

    def _event(self, kind: str, subject: str, at: int, data: dict[str, Any]) -> Event:
        self.count += 1
        source = MAIL if kind.startswith("mail.") else CRM
        name = f"{EDITION}-{self.options.seed}-{self.count:07d}"
        return Event("1.0", name, source, kind, subject, _say(at), data)

    def _send(self, at: int, by_http: bool, door: str, key: bytes | None, value: bytes) -> None:
        self.written.append(Letter(at, by_http, door, key, value))

    def _any_time(self) -> int:
        return self.start + int(self.dice.random() * (self.anchor - self.start))


def _at_work(at: int, dice: random.Random) -> int:
    """Moved to between 8 and 17 UTC, and seldom on a weekend."""
    moment = datetime.fromtimestamp(at / 1000, UTC)
    if moment.weekday() > 4 and dice.random() < 0.85:
        moment -= timedelta(days=moment.weekday() - dice.choice((1, 2, 3)))
    moment = moment.replace(
        hour=dice.choice((8, 9, 9, 10, 10, 11, 13, 14, 15, 16)), minute=dice.randrange(60)
    )
    return int(moment.timestamp() * 1000)


def _awake(at: int, dice: random.Random) -> int:
    """Most of what would fall into the night waits for the morning."""
    hour = at // HOUR % 24
    if hour < 6 and dice.random() < 0.85:
        return at + (6 - hour) * HOUR + int(dice.random() * 3 * HOUR)
    return at


def _say(at: int) -> str:
    return envelope.format_time(datetime.fromtimestamp(at / 1000, UTC))
