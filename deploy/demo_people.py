"""Who they turn out to be: visits of nobody known that later are somebody's, contacts that are one, consent.

Promises: as `deploy.demo_history`. One visit in twenty was somebody else's after all, one merge in five is
taken back: the rows are as had they never been told.
Called by `deploy.demo_history`.
"""

from __future__ import annotations

from collections.abc import Sequence

from deploy.demo_events import DAY, MINUTE, SECOND, Writer

SITE = "https://example.org"


def tell(writer: Writer, people: Sequence[tuple[str, int]], mailings: Sequence[tuple[str, int]]) -> None:
    """Tell of these contacts (subject, since when there is one); `mailings` are told apart by id and time."""
    _visits(writer, people, mailings)
    _merges(writer, people)
    _consents(writer, people)


def _visits(writer: Writer, people: Sequence[tuple[str, int]], mailings: Sequence[tuple[str, int]]) -> None:
    """One contact in ten comes by the site before it says who it is; most of them do then."""
    dice = writer.dice
    for number, (subject, since) in enumerate(dice.sample(people, max(1, len(people) // 10))):
        session, by_http = f"session:v-{number + 1:05d}", dice.random() < 0.5
        at = _when(writer, since)
        writer.write("session.created", session, at, {}, by_http)
        _visit(writer, session, at + SECOND, by_http)
        before = [name for name, sent in mailings if at - 30 * DAY < sent < at]
        if before and dice.random() < 0.3:  # a mail opened where nobody is logged in
            data = {"mailing_id": dice.choice(before), "url": f"{SITE}/give"}
            writer.write("mail.clicked", session, at + MINUTE, data, by_http)
        if dice.random() < 0.7:
            named = {"contact_id": subject.removeprefix("contact:")}
            link = writer.write("session.linked", session, at + 10 * MINUTE, named, by_http)
            if dice.random() < 0.05:
                _take_back(writer, "session.unlinked", session, link, at + DAY, by_http)
        _visit(writer, session, at + 3 * DAY, by_http)


def _visit(writer: Writer, session: str, at: int, by_http: bool) -> None:
    writer.write("session.started", session, at, {}, by_http)
    for page in range(writer.dice.choice((1, 1, 2, 3, 5))):
        at += 5 * SECOND + int(writer.dice.expovariate(1 / 40) * SECOND)
        data = {
            "url": f"{SITE}/{writer.dice.choice(('about', 'give', 'news', 'join'))}",
            "title": f"Page {page + 1}",
        }
        writer.write("page.viewed", session, at, data, by_http)


def _merges(writer: Writer, people: Sequence[tuple[str, int]]) -> None:
    """One contact in two hundred is found to be another one."""
    dice = writer.dice
    found = dice.sample(people, 2 * max(1, len(people) // 200))
    for (subject, since), (other, also) in zip(found[::2], found[1::2], strict=True):
        at, by_http = _when(writer, max(since, also)), dice.random() < 0.5
        into = {"into": other.removeprefix("contact:")}
        link = writer.write("contact.merged", subject, at, into, by_http)
        if dice.random() < 0.2:
            back = at + int(dice.random() * 30 * DAY)
            _take_back(writer, "contact.unmerged", subject, link, back, by_http)


def _consents(writer: Writer, people: Sequence[tuple[str, int]]) -> None:
    """One contact in fifty says what may be kept of it; every third thinks again."""
    dice = writer.dice
    for subject, since in dice.sample(people, max(1, len(people) // 50)):
        at, by_http = _when(writer, since), dice.random() < 0.5
        level = dice.choice(("refused", "aggregate", "individual"))
        writer.write("contact.consent_changed", subject, at, {"level": level}, by_http)
        if dice.random() < 0.33:
            later = at + int(dice.random() * 60 * DAY)
            writer.write("contact.consent_changed", subject, later, {"level": "individual"}, by_http)


def _take_back(
    writer: Writer, kind: str, subject: str, link: tuple[str, str] | None, at: int, by_http: bool
) -> None:
    if link is not None:
        source, id = link
        writer.write(kind, subject, at, {"link": {"source": source, "id": id}}, by_http)


def _when(writer: Writer, since: int) -> int:
    since = max(since, writer.start)
    return since + int(writer.dice.random() * (writer.anchor - since))
