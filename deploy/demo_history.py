"""The demo's history: a year and more of an organisation that mails people, made up and always the same.

Promises: equal options and anchor give equal bytes in an equal order, so a history sent again is only
duplicates. People differ (few click much, most rarely); an open goes before its click; nights are quiet.
Among the good events are copies, late ones, copies that contradict, test mailings, deletions, restores,
visits of nobody known, merges, consents (`demo_people`), and rubbish of every kind.

Limits: everything stands in memory, some 450 bytes an event. Nobody in it is real: contacts are numbers,
addresses end in example.org.

Called by `deploy.demo`.
"""

from __future__ import annotations

import gc
import math
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from deploy import demo_people, demo_trouble
from deploy.demo_events import DAY, HOUR, MINUTE, MONTH, SECOND, Letter, Writer


@dataclass(frozen=True, slots=True)
class Options:
    contacts: int = 5000
    mailings: int = 200
    months: int = 14
    seed: int = 2026


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
    gc.disable()  # all of it stays: looking for garbage meanwhile finds none and takes two fifths of the time
    try:
        letters = _Author(options, int(anchor.timestamp() * 1000)).letters()
    finally:
        gc.enable()
    letters.sort(key=lambda letter: letter.sent)
    history = History()
    for letter in letters:
        if letter.by_http:
            history.by_http.append(letter.value)
        else:
            history.by_kafka.append((letter.door, letter.key, letter.value))
    return history


class _Author:
    """Knows who there is, what is mailed, and what comes of it."""

    def __init__(self, options: Options, anchor: int) -> None:
        self.options = options
        self.start, self.anchor = anchor - options.months * MONTH, anchor
        self.writer = Writer(options.seed, self.start, anchor)
        self.dice = self.writer.dice

    def letters(self) -> list[Letter]:
        contacts = self._contacts()
        mailings = self._mailings()
        for mailing in mailings:
            self._mailing(mailing, contacts)
            self._test_sends(mailing, contacts)
        self._presence(contacts)
        people = [(contact.subject, contact.joined) for contact in contacts]
        demo_people.tell(self.writer, people, [(mailing.id, mailing.at) for mailing in mailings])
        demo_trouble.copies(self.writer)
        demo_trouble.rubbish(self.writer, [contact.subject for contact in contacts])
        return self.writer.letters

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
            self.writer.write("mail.clicked", contact.subject, at, {"url": url}, mailing.by_http)
        else:
            self._mail("clicked", mailing, contact, at, url=url)
        if self.dice.random() < 0.1:  # who came by the mail looks around
            page = {"referrer": url, "title": "What we do", "url": "https://example.org/about"}
            self.writer.write("page.viewed", contact.subject, at + 30 * SECOND, page, mailing.by_http)

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
            self.writer.write("contact.deleted", contact.subject, at, {}, by_http)
            if dice.random() < 0.35:
                back = at + int(dice.random() * 30 * DAY)
                self.writer.write("contact.restored", contact.subject, back, {}, by_http)

    def _mail(self, what: str, mailing: Mailing, contact: Contact, at: int, **more: Any) -> None:
        number = contact.subject[-5:]
        data = {"mailing_id": mailing.id, "message_id": f"{mailing.id}.{number}", **more}
        self.writer.write(f"mail.{what}", contact.subject, at, data, mailing.by_http)


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
