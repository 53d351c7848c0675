"""From a record at a door to a record of the log, or to what is parked.

Promises: judged by the one admission function; nothing goes on before it was sealed (`streams.vault`); where
an event came from travels with it, in headers.
Called by: intake, the API, `heed parked redrive`.
"""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Final

from projections import records
from schemas import admission, errors, topics
from streams import producer

ERASED: Final = "whom it is about is erased: nothing of it is kept."


def record(
    found: records.Record, door: str, homes: int, ahead: timedelta, secret: bytes
) -> admission.Admitted | records.Aside:
    """One record of a door: admitted, yet to be sealed, or aside with the reason."""
    if isinstance(found.value, records.Unread):
        return unread(found, door)
    appended = datetime.fromtimestamp(found.timestamp / 1000, UTC)
    outcome = admission.admit(
        found.value or b"", at=appended, door=door, homes=homes, ahead=ahead, secret=secret
    )
    if isinstance(outcome, admission.Admitted):
        return outcome
    return rejected(outcome, found.topic, found.partition, found.offset)


def fact_record(
    outcome: admission.Admitted,
    part: int | None = None,
    offset: int | None = None,
    trace: str | None = None,
) -> producer.Record:
    """An admitted event, sealed, as a record of the log: keyed by subject, in its place, with where it came
    from.

    The event's own `traceparent` goes before the `trace` of the request that brought it.
    """
    assert not outcome.personal, "a fact enters the log sealed"
    headers = [("door", outcome.door.encode())]
    if part is not None and offset is not None:
        headers += [("partition", b"%d" % part), ("offset", b"%d" % offset)]
    if outcome.traceparent or trace:
        headers.append(("traceparent", (outcome.traceparent or trace or "").encode()))
    return producer.Record(outcome.topic, outcome.partition, outcome.subject.encode(), outcome.value, headers)


def fact_records(
    outcome: admission.Admitted,
    part: int | None = None,
    offset: int | None = None,
    trace: str | None = None,
) -> list[producer.Record]:
    """`fact_record`, and what goes onto the registry with it: the links that it makes."""
    fact = fact_record(outcome, part, offset, trace)
    return [
        fact,
        *(
            producer.Record(topics.REGISTRY, 0, link.subject.encode(), link.value, fact.headers)
            for link in outcome.links
        ),
    ]


def unread(found: records.Record, door: str) -> records.Aside:
    """A batch of a door that cannot be read, in one piece."""
    return dataclasses.replace(records.aside(found, errors.Reason.UNDECODABLE, ""), door=door)


def erased(topic: str, part: int, offset: int) -> records.Aside:
    """An event about somebody who is erased, as it is parked: where it stood, and nothing of it (LAW-6)."""
    return records.Aside(errors.Reason.ERASED, ERASED, topic, part, offset, b"", door=topic)


def rejected(outcome: admission.Rejected, topic: str, part: int, offset: int) -> records.Aside:
    """A rejected event as it is parked."""
    return records.Aside(
        outcome.reason, outcome.detail, topic, part, offset, outcome.raw,
        outcome.type, outcome.source, outcome.id, outcome.time, topic, outcome.subject,
    )  # fmt: skip
