"""Stations of an event, from what was found of it; no server is asked."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from schemas import topics
from streams import event_search, event_trace

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DIGEST = uuid.UUID(int=7)
DOOR = topics.EMAIL_ACTIVITY


def fact(off: int = 10, **more: Any) -> dict[str, Any]:
    named = {"subject": "contact:ada", "source": "urn:me", "type": "mail.clicked", "topic": "facts"}
    return {**named, "time": NOW, "digest": DIGEST, "accepted": NOW, "part": 3, "off": off, **more}


def seen(topic: str, off: int, *, seconds: float = 0, part: int = 3, **more: Any) -> event_search.Seen:
    told: dict[str, Any] = {
        "headers": {}, "source": "urn:me", "subject": "contact:ada", "type": "mail.clicked", "time": NOW,
        "digest": DIGEST.hex,
    }  # fmt: skip
    return event_search.Seen((topic, part, off), NOW + timedelta(seconds=seconds), **{**told, **more})


def stations(
    facts: list[dict[str, Any]], found: list[event_search.Seen], parked: list[dict[str, Any]] | None = None
) -> list[tuple[str, str | None, int | None]]:
    told = event_trace.stations(facts, parked or [], found, {("facts", 3): 100, (DOOR, 3): 100})
    return [(one.station, one.topic, one.offset) for one in told]


def test_by_a_door() -> None:
    record = seen("facts", 10, seconds=1, headers={"door": DOOR, "partition": "3", "offset": "5"})
    way = [("door", DOOR, 5), ("log", "facts", 10), ("folded", "facts", 10)]
    assert stations([fact()], [record]) == way
    assert stations([fact()], [record, seen(DOOR, 5)]) == way  # seen at its door, too: still one station


def test_by_http() -> None:
    record = seen("facts", 10, seconds=1, headers={"door": DOOR})
    assert stations([fact()], [record]) == [
        ("http", None, None),
        ("log", "facts", 10),
        ("folded", "facts", 10),
    ]


def test_of_the_registry_what_was_told_has_a_door_and_what_was_decided_has_none() -> None:
    where: dict[str, Any] = {"topic": "registry", "part": 0, "type": "contact.merged"}
    door = topics.CONTACT_IDENTITY
    told = seen("registry", 10, part=0, headers={"door": door, "partition": "3", "offset": "5"})
    way = [("log", "registry", 10), ("folded", "registry", 10)]
    assert stations([fact(**where)], [told]) == [("door", door, 5), *way]
    assert stations([fact(**where)], [seen("registry", 10, part=0)]) == way


def test_what_kafka_does_not_tell_is_not_made_up() -> None:
    assert stations([fact()], []) == [("log", "facts", 10), ("folded", "facts", 10)]


def test_copies_and_contradictions() -> None:
    copy = seen("facts", 11, seconds=2)
    other = seen("facts", 12, seconds=3, digest="f" * 32)
    assert stations([fact()], [copy, other])[2:] == [
        ("log", "facts", 11),
        ("duplicate", "facts", 11),
        ("log", "facts", 12),
        ("conflict", "facts", 12),
    ]


def test_what_no_reader_has_read_waits() -> None:
    assert stations([], [seen(DOOR, 100)]) == [("door", DOOR, 100), ("waiting", DOOR, 100)]
    assert stations([], [seen("facts", 100)]) == [("log", "facts", 100), ("waiting", "facts", 100)]


def test_parked_with_its_reason() -> None:
    parked = {
        "reason": "future", "detail": "it waits.", "type": "mail.clicked", "source": "urn:me", "topic": DOOR,
        "part": 3, "off": 7, "parked_at": NOW + timedelta(seconds=1),
    }  # fmt: skip
    assert stations([], [seen(DOOR, 7)], [parked]) == [("door", DOOR, 7), ("parked", DOOR, 7)]


def test_the_same_id_of_two_sources_is_two_facts() -> None:
    found = stations([fact(), fact(20, source="urn:you")], [])
    assert [one for one in found if one[0] == "folded"] == [("folded", "facts", 10), ("folded", "facts", 20)]


def test_an_unknown_id_is_answered_in_words() -> None:
    trace = event_trace.Trace("x", [], ["nothing"])
    assert not trace.found
    assert "refused by HTTP" in trace.says
    assert trace.as_dict()["stations"] == []


@pytest.mark.parametrize(
    ("id", "year"),
    [
        ("019a9a3e-9f0c-7d57-8a53-6d0f3bd0a7c1", 2025),
        ("ffffffff-ffff-7fff-bfff-ffffffffffff", None),
        ("019a9a3e-9f0c-4d57-8a53-6d0f3bd0a7c1", None),
        ("anything", None),
    ],
)
def test_the_time_that_an_id_tells(id: str, year: int | None) -> None:
    told = event_trace.told_by(id)
    assert (told and told.year) == year
