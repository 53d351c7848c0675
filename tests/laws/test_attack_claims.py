"""Doubts that were none: a predecessor that reads on while its successor asks, a clock that runs behind."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from faust.types import TP

from projections import positions, records, shadow
from schemas import errors
from streams import batches, claims, lanes, log
from tests import stack

TP0 = TP("facts", 0)
AHEAD = """
insert into heed_data.position
    (reader, topic, part, epoch, next_offset, as_of, log_end, log_end_at, claimed_at)
values ('fold', 'facts', 0, 1, 0, %s, 0, now(), now())
"""


class _Inspector(log.Inspector):
    """A log that has one record more whenever it is asked; its answers come when `answers` says."""

    def __init__(self, *, answers: bool = True) -> None:
        self.end = 4
        self.answers = answers
        self.asked: list[tuple[dict[TP, positions.Held], Any]] = []

    def ends(self, tps: Any) -> dict[TP, log.Ends]:
        self.end += 1
        return {tp: log.Ends(0, self.end) for tp in tps}

    def checking(self, held: Any) -> Any:
        self.asked.append((held, concurrent.futures.Future[log.Checked]()))
        if self.answers:
            self.answer()
        return self.asked[-1][1]

    def answer(self) -> None:
        held, answer = self.asked[-1]
        ends = self.ends(held)
        try:
            answer.set_result(log.Checked(log.fit(held, ends)[0], ends))
        except log.Replaced as error:
            answer.set_exception(error)


class _Lane(lanes.Lane):
    reader = path = "fold"

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.worked: list[tuple[claims.Claim, Mapping[TP, Any]]] = []

    def owns(self, tp: TP) -> bool:
        return True

    def look(self, _: claims.Claim) -> bool:
        return True

    def work(self, claim: claims.Claim, spans: Mapping[TP, Any]) -> bool:
        self.worked.append((claim, spans))
        return False

    def _connected(self) -> Any:
        return None


def _lane(inspector: _Inspector) -> _Lane:
    lane = _Lane("fold-0", "w", "", inspector, lambda: None)
    lane.assign(frozenset({TP0}))
    return lane


def _owned(next_offset: int) -> claims.Claim:
    return claims.Claim(0, {TP0: positions.Held(2, next_offset, None)}, {TP0: next_offset})


def _take(monkeypatch: pytest.MonkeyPatch, next_offset: int = 6) -> None:
    monkeypatch.setattr(claims.Claimer, "take", lambda *_: _owned(next_offset))


def test_a_predecessor_that_reads_on_while_we_ask_is_no_replaced_topic(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The log ended at 5 when we asked, at 6 when the predecessor's last transaction let us claim."""
    _take(monkeypatch)
    lane = _lane(_Inspector())
    _claim(lane)
    assert lane.claimed() == (1, {TP0: 6})


def test_a_topic_that_ends_before_our_position_is_doubt_still(monkeypatch: pytest.MonkeyPatch) -> None:
    _take(monkeypatch, 9)
    lane = _lane(_Inspector())
    with pytest.raises(log.Replaced):
        _claim(lane)


def test_until_the_log_answers_what_needs_no_records_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kafka is away when a session is lost and made anew: nothing is fetched, and timers go on."""
    _take(monkeypatch)
    again: list[claims.Claim] = []

    def take_again(_: claims.Claimer, lost: claims.Claim) -> claims.Claim:
        again.append(lost)
        return _owned(6)

    monkeypatch.setattr(claims.Claimer, "take_again", take_again)
    inspector = _Inspector()
    lane = _lane(inspector)
    _claim(lane)
    inspector.answers = False
    lane._be_patient(psycopg.OperationalError("gone"))
    assert [lane._step(more=False) for _ in range(3)] == [True, False, False]
    assert [one.number for one in again] == [1], "owned once, by the epochs of the lost claim"
    assert lane.claimed() == (0, {}), "nothing may be fetched"
    assert [(one.number, spans) for one, spans in lane.worked[-2:]] == [(0, {}), (0, {})]
    inspector.asked[-1][1].set_exception(errors.Away("Kafka cannot be reached"))
    lane._step(more=False)
    assert lane.claimed() == (0, {})
    stack.eventually(lambda: not (lane._step(more=False) or inspector.asked[-1][1].done()), "asked again", 5)
    inspector.answer()
    lane._step(more=False)
    assert lane.claimed() == (2, {TP0: 6})
    assert [one.number for one in again] == [1]


def test_an_answer_about_a_claim_of_before_says_nothing_of_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The group gave the partitions anew while the log was asked: another may have read on meanwhile."""
    _take(monkeypatch)
    inspector = _Inspector(answers=False)
    lane = _lane(inspector)
    lane._step(more=False)
    lane._step(more=False)
    lane.assign(frozenset({TP0}))
    inspector.answer()
    lane._step(more=False)
    lane._step(more=False)
    assert len(inspector.asked) == 2
    assert lane.claimed() == (0, {})
    inspector.answer()
    lane._step(more=False)
    assert lane.claimed() == (1, {TP0: 6})


def _claimed(monkeypatch: pytest.MonkeyPatch) -> _Lane:
    _take(monkeypatch)
    lane = _lane(_Inspector())
    _claim(lane)
    return lane


def _claim(lane: _Lane) -> None:
    before = lane._claims
    while lane._claims == before:
        lane._step(more=False)


def _claim_anew(lane: _Lane) -> None:
    lane.assign(frozenset({TP0}))
    _claim(lane)


def _batch(lane: _Lane, claim: int) -> batches.Batch:
    return batches.Batch(lane, claim, {TP0: records.Span(6, 7, [])})


def test_a_late_batch_of_an_older_claim_makes_no_room_for_a_second_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two at once: one would take the other's place, and the lane would see a gap in the log."""
    lane = _claimed(monkeypatch)
    late = _batch(lane, 1)
    lane.reserve(1)
    _claim_anew(lane)
    assert lane.ready()
    lane.reserve(2)
    lane.offer(late)
    assert not lane.ready(), "the batch of claim 2 is on its way"
    lane._batch = late  # taken in just before the claim
    assert lane._next(0.0)[1] is None
    assert not lane.ready()
    mine = _batch(lane, 2)
    lane.offer(mine)
    claim, batch = lane._next(0.0)
    assert batch is mine
    assert claim is not None
    lane._turn(claim, batch, more=False)
    assert lane.ready()


def test_a_batch_sent_off_while_its_lane_claims_anew_does_not_keep_it_busy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lane = _claimed(monkeypatch)
    _claim_anew(lane)
    lane.reserve(1)
    lane.offer(_batch(lane, 1))
    assert lane.ready()


def test_a_check_is_for_no_instant_before_the_rows(database: str) -> None:
    """Rows brought by a clock that runs ahead of this machine's are compared at their instant."""
    ahead = (datetime.now(UTC) + timedelta(hours=1)).replace(microsecond=0)
    with shadow.Live(database, 8) as live:
        assert datetime.now(UTC) - live.instant() < timedelta(minutes=1), "no positions yet"
        live.connection.execute(AHEAD, (ahead,))
        assert live.instant() == ahead
