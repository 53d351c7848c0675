"""The log written anew, on a real PostgreSQL, without Kafka: tables that stand aside fold it as well."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from projections import swap
from schemas import topics
from streams import refill
from tests import swaps
from tests.laws import world


@pytest.fixture
def stand(database: str) -> Iterator[swaps.Stand]:
    with swaps.standing(database) as made:
        yield made


def test_old_tables_are_folded_on_though_the_log_was_written_anew(stand: swaps.Stand) -> None:
    """Their offsets were those of the lost log: read on from there, they would never get what is new."""
    stand.build()
    stand.swap()
    stand.tell(30, "after")
    stand.worker.advance()
    write_anew(stand)
    refill.begin_anew(stand.sql)
    swaps.back(stand)
    stand.worker.claim_all()
    assert {one.last_record for one in stand.worker.held.values()} == {None}, "of a record that is gone"
    stand.worker.advance()
    assert stand.ask("select count(*) from heed_data.fact") == [(90,)]
    assert stand.ask("select count(*) from heed_data.engagement") == [(90,)]


def test_a_replay_goes_on_though_the_log_was_written_anew(stand: swaps.Stand) -> None:
    stand.build()
    stand.tell(30, "after")
    stand.worker.advance()
    write_anew(stand)
    refill.begin_anew(stand.sql)
    stand.worker.claim_all()
    stand.worker.advance()
    assert stand.built.find() is not None
    stand.catch_up(swap.read_up_to(stand.sql))
    assert stand.ask("select count(*) from heed_data_next.fact") == [(90,)]
    assert stand.ask("select count(*) from heed_data_next.engagement") == [(90,)]


def write_anew(stand: swaps.Stand) -> None:
    """Every fact, the last one first."""
    for part in range(world.HOMES):
        there = stand.log.entries[(topics.FACTS, part)]
        told = [one.value for one in reversed(there)]
        there.clear()
        stand.log.ends[(topics.FACTS, part)] = 0
        for value in told:
            stand.log.append(topics.FACTS, part, value)
