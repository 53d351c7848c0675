"""The table of activities: what it names exists, and what it shows is not personal."""

from __future__ import annotations

import msgspec
import pytest

from schemas import activity, events, topics
from tests.oracle import timeline


@pytest.mark.capability("ACT-1")
@pytest.mark.parametrize("name", activity.KINDS)
def test_each_names_a_type_that_is_there_and_fields_that_are_not_personal(name: str) -> None:
    kind, event = activity.KINDS[name], events.EVENTS[name]
    assert event.struct is not None
    fields = {field.name for field in msgspec.structs.fields(event.struct)}
    assert set(kind.told) <= fields - {*event.personal, "url", "message_id"}
    assert event.topic in (topics.FACTS, topics.REGISTRY)


def test_the_words_are_those_of_the_specification() -> None:
    """TRK-4: a dispatch, and its opening."""
    sent, opened = activity.KINDS["mail.sent"], activity.KINDS["mail.opened"]
    assert (sent.type, sent.action, sent.feature) == ("Email", "Output", "Serial Mail & Tracking")
    assert (opened.type, opened.action, opened.feature) == ("System", "Email Open", "Tracking")


@pytest.mark.capability("ACT-1", "IDN-6")
def test_the_oracle_has_written_the_same_table_apart() -> None:
    assert {
        name: (one.type, one.action, one.feature, one.text, one.status)
        for name, one in activity.KINDS.items()
    } == timeline.NAMES
    assert {name for name, one in activity.KINDS.items() if one.behaviour} == timeline.WATCHED
