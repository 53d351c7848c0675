"""The shadow and live at one instant: a contact that cannot be computed is named, the others are compared."""

from __future__ import annotations

from typing import Any

import pytest

from projections import comparison, records, registry, shadow
from schemas import topics
from tests.laws import generator, world

NOW = generator.NOW
# The one function of either pair raises for one contact.
BROKEN = """
create or replace function {data}.engagement_at(contacts text[], at timestamptz, upto timestamptz)
returns table (contact_id text, date_first_click timestamptz, date_last_click timestamptz, frequency int,
    volume int, volume_last_30 int, period_months int, valid_until timestamptz)
language plpgsql stable as $$ begin
    if 'c7' = any(contacts) then
        raise exception 'this contact is broken';
    end if;
    return query select * from {data}.engagement_then(contacts, at, upto);
end $$
"""


def break_one(connection: Any, data: str) -> None:
    connection.execute(f"alter function {data}.engagement_at rename to engagement_then".encode())
    connection.execute(BROKEN.format(data=data).encode())


@pytest.fixture
def told(worker: world.Worker) -> world.Worker:
    for number in range(20):
        worker.log.tell(world.click(NOW, f"c{number}"))
    worker.advance(at=NOW)
    return worker


def compared(worker: world.Worker, *, broken: bool) -> tuple[dict[str, str], dict[str, str], int, list[str]]:
    """Who failed in the shadow, who failed of live, how many were carried, and whose rows differ."""
    spans = {part: worker.log.span((topics.FACTS, part), 0) for part in range(world.HOMES)}
    differing: list[str] = []
    dsn = worker.dsn
    with shadow.Shadow(dsn, world.HOMES) as built, shadow.Live(dsn, world.HOMES) as live:
        if broken:
            break_one(built.connection, shadow.PAIR.data)
        live.snapshot()
        every = [record for span in spans.values() for record in span.records]
        ends = {(topics.FACTS, part): span.end for part, span in spans.items()}
        built.take(records.decode(every, world.HOMES), registry.decode([]), ends)
        at = live.instant()
        assert sum(built.bring(at)) == 20
        carried = live.carry(at)
        comparison.compare(live, lambda one: differing.append(one.name))
        return built.failed, live.failed, carried, differing


def test_a_contact_that_raises_is_named_and_the_others_are_compared(
    told: world.Worker, observer: world.Observer
) -> None:
    nudge = "insert into heed_data.nudge (home, subject, reason) values (%s, %s, 'test')"
    for number in range(20):
        observer.connection.execute(nudge, (0, f"contact:c{number}"))
    break_one(observer.connection, "heed_data")
    try:
        failed, live_failed, carried, differing = compared(told, broken=True)
    finally:
        observer.connection.execute("drop function heed_data.engagement_at")
        observer.connection.execute("alter function heed_data.engagement_then rename to engagement_at")
    assert failed == live_failed == {"c7": "RaiseException: this contact is broken"}
    assert carried == 20
    assert differing == []


def test_a_nudge_in_a_foreign_home_makes_no_difference(told: world.Worker, observer: world.Observer) -> None:
    """Its owner only hands it on: the row is the contact's own home's."""
    nudge = "insert into heed_data.nudge (home, subject, reason) values (%s, 'contact:c7', 'test')"
    for home in range(world.HOMES):
        observer.connection.execute(nudge, (home,))
    assert compared(told, broken=False) == ({}, {}, 1, [])
