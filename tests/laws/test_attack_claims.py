"""Doubts that were none: a predecessor that reads on while its successor asks, a clock that runs behind."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from faust.types import TP

from projections import positions, records, shadow
from streams import batches, claims, lanes, log

TP0 = TP("facts", 0)
AHEAD = """
insert into heed_data.position
    (reader, topic, part, epoch, next_offset, as_of, log_end, log_end_at, claimed_at)
values ('fold', 'facts', 0, 1, 0, %s, 0, now(), now())
"""


class _Inspector(log.Inspector):
    def __init__(self) -> None:
        self.end = 4

    def ends(self, tps: Any) -> dict[TP, log.Ends]:
        self.end += 1
        return {tp: log.Ends(0, self.end) for tp in tps}


class _Lane(lanes.Lane):
    reader = path = "fold"

    def owns(self, tp: TP) -> bool:
        return True

    def look(self) -> bool:
        return False

    def work(self, claim: claims.Claim, spans: Mapping[TP, Any]) -> bool:
        return False

    def _connected(self) -> Any:
        return None


def _held(*_: Any) -> dict[TP, positions.Held]:
    return {TP0: positions.Held(2, 6, None)}


def test_a_predecessor_that_reads_on_while_we_ask_is_no_replaced_topic(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The log ended at 5 when we asked, at 6 when the predecessor's last transaction let us claim."""
    monkeypatch.setattr(claims.Claimer, "take", _held)
    lane = _Lane("fold-0", "w", "", _Inspector(), lambda: None)
    lane.assign(frozenset({TP0}))
    lane._take_over(1, frozenset({TP0}))
    assert lane.claimed() == (1, {TP0: 6})


def test_a_topic_that_ends_before_our_position_is_doubt_still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims.Claimer, "take", lambda *_: {TP0: positions.Held(2, 9, None)})
    lane = _Lane("fold-0", "w", "", _Inspector(), lambda: None)
    lane.assign(frozenset({TP0}))
    with pytest.raises(log.Replaced):
        lane._take_over(1, frozenset({TP0}))


def _claimed(monkeypatch: pytest.MonkeyPatch) -> _Lane:
    monkeypatch.setattr(claims.Claimer, "take", _held)
    lane = _Lane("fold-0", "w", "", _Inspector(), lambda: None)
    _claim_anew(lane)
    return lane


def _claim_anew(lane: _Lane) -> None:
    lane.assign(frozenset({TP0}))
    lane._take_over(lane._wanted_number, lane._wanted)


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
