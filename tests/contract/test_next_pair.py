"""A replay in trouble, on a real PostgreSQL, without Kafka: nothing is passed over, nothing forgotten."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest

from projections import database, next_pair, pairs, records, registry, swap
from schemas import errors
from streams import broker, replay_log
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


def test_a_batch_that_could_not_be_taken_in_is_not_passed_over(
    stand: swaps.Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The swap tries again when its last catching up fails: what was read from the log must not be gone."""
    stand.build()
    with fed(stand) as (source, feed):
        stand.tell(5, "first")
        stand.worker.advance()
        feed()

        def read(bounds: swap.Offsets) -> None:
            stand.built.claim()
            for taken in source.upto(bounds, 2.0):
                stand.built.take(*taken)

        real, full = database.connect, errors.Away("too many clients already")

        def refused(*_: object, **__: object) -> None:
            raise full

        monkeypatch.setattr(database, "connect", refused)
        with pytest.raises(errors.Away, match="too many clients"):
            read(swap.read_up_to(stand.sql))
        monkeypatch.setattr(database, "connect", real)
        stand.tell(5, "second")
        stand.worker.advance()
        feed()
        swap.swap(stand.dsn, pairs.NEXT, read)
    stand.check()


@contextmanager
def fed(stand: swaps.Stand) -> Iterator[tuple[replay_log.Source, Callable[[], None]]]:
    """A source that reads the stand's log, and what has it read on."""
    at = stand.built.read_to()
    source = replay_log.Source(broker.Broker("127.0.0.1:1"), world.HOMES, at)

    def feed() -> None:
        ends = {name: end for name, end in stand.log.ends.items() if name in at}
        spans = {name: stand.log.span(name, at[name], end - at[name]) for name, end in ends.items()}
        told = [record for span in spans.values() for record in span.records]
        source._taken.put((records.decode(told, world.HOMES), registry.Batch({}), ends))
        at.update(ends)

    yield source, feed
