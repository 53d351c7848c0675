"""A replay in trouble, on a real PostgreSQL, without Kafka: nothing is forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from projections import next_pair, swap
from schemas import errors
from tests import swaps
from tests.laws import world

BROKEN = """
create or replace function heed_data_next.engagement_at(contacts text[], at timestamptz, upto timestamptz)
returns table (contact_id text, date_first_click timestamptz, date_last_click timestamptz, frequency int,
    volume int, volume_last_30 int, period_months int, valid_until timestamptz)
language plpgsql stable as $$ begin raise exception 'this model is broken'; end $$
"""


@pytest.fixture
def stand(database: str) -> Iterator[swaps.Stand]:
    with swaps.standing(database) as made:
        yield made


def test_a_replay_that_was_refused_for_its_errors_is_refused_again(stand: swaps.Stand) -> None:
    """Who goes on with it meets none of those errors himself: they stand behind him, in the pair."""
    stand.tell(next_pair.ERRORS[0], "more")
    stand.worker.advance()
    stand.built.begin()
    stand.catch_up(swap.read_up_to(stand.sql))
    stand.built.enter(next_pair.Phase.INDEXES)
    stand.built.index()
    stand.sql.execute(BROKEN.encode())
    every = 60 + next_pair.ERRORS[0]
    assert sum(stand.built.bring(datetime.now(UTC))) == every
    with pytest.raises(errors.Doubt, match=f"{every} of {every} contacts cannot be computed, as "):
        stand.built.failed()

    stand.built.connection.close()
    with next_pair.Next(stand.dsn, world.HOMES) as again:
        assert again.find() is not None
        assert list(again.bring(datetime.now(UTC))) == []
        with pytest.raises(errors.Doubt, match="nothing was swapped"):
            again.failed()


def test_a_pair_that_an_older_version_began_is_begun_anew(stand: swaps.Stand) -> None:
    stand.built.begin()
    stand.sql.execute("alter table heed_data_next.replay drop column contacts")
    assert stand.built.find() is None
