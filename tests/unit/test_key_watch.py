"""What a lane asks of the topic `keys`: read so far, and having every key that a fact names."""

from __future__ import annotations

from typing import Any

import pytest

from projections import data_keys
from schemas import errors
from streams import key_watch, log

ADA, BOB = "contact:ada#0123456789abcdef", "contact:bob#0123456789abcdef"


class Topic:
    """Where the topic ends, how far it was read, and what had been read when it was asked so often."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.end, self.read, self.there, self.asked = 5, 5, {ADA}, 0
        self.appears: dict[int, str] = {}
        monkeypatch.setattr(data_keys, "read_to", lambda _: self.read)
        monkeypatch.setattr(data_keys, "missing", self.missing)
        monkeypatch.setattr(key_watch, "SECONDS", 0.05)
        monkeypatch.setattr(key_watch, "SOON_SECONDS", 0.05)
        monkeypatch.setattr(key_watch, "PAUSE", 0.001)

    def ends(self, tps: Any) -> dict[Any, log.Ends]:
        return {tp: log.Ends(0, self.end) for tp in tps}

    def missing(self, _: object, kids: set[str]) -> set[str]:
        self.asked += 1
        if self.asked in self.appears:
            self.there.add(self.appears[self.asked])
        return set(kids) - self.there


@pytest.fixture
def topic(monkeypatch: pytest.MonkeyPatch) -> Topic:
    return Topic(monkeypatch)


NOBODY: Any = None


def watch(topic: Any) -> key_watch.KeyWatch:
    return key_watch.KeyWatch(topic)


def test_a_known_key_is_asked_for_once(topic: Topic) -> None:
    mine = watch(topic)
    mine.demand(NOBODY, set())
    assert topic.asked == 0
    mine.demand(NOBODY, {ADA})
    mine.demand(NOBODY, {ADA})
    assert topic.asked == 1


def test_a_key_that_is_just_being_read_is_waited_for(topic: Topic) -> None:
    topic.appears = {4: BOB}
    watch(topic).demand(NOBODY, {ADA, BOB})
    assert topic.asked == 4


def test_a_key_that_the_topic_does_not_have_is_doubt(topic: Topic) -> None:
    with pytest.raises(key_watch.Missing, match="name 1 keys that the topic keys does not have") as stopped:
        watch(topic).demand(NOBODY, {ADA, BOB})
    assert stopped.value.exit_code == 3
    assert "bob" not in str(stopped.value)


def test_it_is_no_doubt_before_the_topic_was_read_to_its_end(topic: Topic) -> None:
    topic.read = 4
    with pytest.raises(errors.Away):
        watch(topic).demand(NOBODY, {BOB})


def test_a_reader_begins_when_the_topic_was_read_to_its_end(topic: Topic) -> None:
    topic.read, mine = 4, watch(topic)
    with pytest.raises(errors.Away):
        mine.begin(NOBODY)
    topic.read = 5
    mine.begin(NOBODY)
    topic.end = 9
    mine.begin(NOBODY)


def test_so_many_keys_are_known_by_heart(topic: Topic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_watch, "MOST", 1)
    topic.there.add(BOB)
    mine = watch(topic)
    mine.demand(NOBODY, {ADA})
    mine.demand(NOBODY, {BOB})
    mine.demand(NOBODY, {ADA})
    assert topic.asked == 3
