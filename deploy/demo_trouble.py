"""What goes wrong in the demo's history: what comes late, twice, otherwise than before, and rubbish.

Promises: rubbish of every kind that a public door can be sent; none of it is a fact.

Called by `deploy.demo_history`.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final

import msgspec

from deploy.demo_events import DAY, HOUR, MINUTE, Event, Writer, say
from schemas import topics

LATE: Final = 1 / 50
TWICE: Final = 1 / 100
OTHERWISE: Final = 1 / 1000
RUBBISH: Final = 1 / 5000
NO_JSON: Final = (b"\xff\xfe\x00 not JSON", b'{"specversion":"1.0","id":"cut-off', b"[" * 2000, b"")


def copies(writer: Writer) -> None:
    """Some letters come late; some twice, half of these by the other way; a few contradict the first."""
    dice, letters = writer.dice, writer.letters
    number = len(letters)
    for index in dice.sample(range(number), int(number * LATE)):
        letter = letters[index]
        letters[index] = letter._replace(sent=letter.sent + int(dice.random() * 3 * DAY))
    for letter in dice.sample(letters, int(number * TWICE)):
        by_http = letter.by_http ^ (dice.random() < 0.5)
        letters.append(letter._replace(sent=letter.sent + int(dice.random() * DAY), by_http=by_http))
    for letter in dice.sample(letters, int(number * OTHERWISE)):
        event = msgspec.json.decode(letter.value, type=Event)
        at = int(datetime.fromisoformat(event.time).timestamp() * 1000) + dice.choice((-1, 1)) * MINUTE
        event.time = say(min(at, writer.anchor))
        letters.append(letter._replace(sent=letter.sent + HOUR, value=writer.encode(event)))


def rubbish(writer: Writer, subjects: list[str]) -> None:
    """Some of each kind; what is no JSON, or at the wrong door, can only come by Kafka."""
    for number in range(max(1, int(len(writer.letters) * RUBBISH))):
        subject = writer.dice.choice(subjects)
        for event in _unfit(writer, subject, f"mail:someone-{number}@example.org"):
            by_http = writer.dice.random() < 0.5
            writer.send(writer.any_time(), by_http, topics.EMAIL_ACTIVITY, None, writer.encode(event))
        for raw in NO_JSON:
            writer.send(writer.any_time(), False, topics.EMAIL_ACTIVITY, None, raw)
        lost = writer.encode(writer.event("contact.deleted", subject, writer.start, {}))
        writer.send(writer.any_time(), False, topics.EMAIL_ACTIVITY, None, lost)


def _unfit(writer: Writer, subject: str, address: str) -> Iterator[Event]:
    data = {"mailing_id": "news", "url": "https://example.org/"}
    at = writer.any_time()
    yield writer.event("mail.forwarded", subject, at, data)
    newer = writer.event("mail.clicked", subject, at, data)
    newer.dataschema = "urn:heed:mail.clicked:9"
    yield newer
    yield writer.event("mail.delivered", subject, at, {"mailing_id": ""})
    yield writer.event("mail.clicked", subject, at, {**data, "mailing_id": "nul\x00"})
    yield writer.event("mail.opened", "contact:someone@example.org", at, data)
    yield writer.event("mail.opened", address, at, data)
    yield writer.event("segment.entered", subject, at, data)
    yield writer.event("mail.clicked", subject, writer.anchor + 30 * DAY, data)
