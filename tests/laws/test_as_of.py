"""As of any past instant: windows end there, and what is dated later is not looked at (LAW-5)."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st
from psycopg.types.json import Jsonb

from tests import oracle
from tests.laws import generator, test_order, world
from tests.oracle import model

NOW = generator.NOW
MS = timedelta(milliseconds=1)
DAY = timedelta(days=1)
AHEAD = timedelta(minutes=5)
# Purpose: rows of all these contacts as of each of these instants, by the facts dated until then.
AS_OF = f"""
select t.at, {", ".join(f"e.{name}" for name in world.STORED.split(", "))}
from unnest(%s::timestamptz[]) as t(at), heed_data.engagement_at(%s::text[], t.at, t.at) e
"""

SETTING = """
insert into heed_data.registry (subject, key, source, id, type, time, version, digest, accepted, off, data)
values ('setting:engagement_period_months', %s, '/tests', %s, 'setting.changed', %s, 1, gen_random_uuid(),
    now(), 0, %s)
"""


def as_of(
    observer: world.Observer, contacts: Iterable[str], instants: Iterable[datetime]
) -> dict[datetime, dict[str, oracle.Row]]:
    found: dict[datetime, dict[str, oracle.Row]] = {at: {} for at in instants}
    for at, *row in observer.all(AS_OF, list(found), list(contacts)):
        found[at][row[0]] = oracle.Row(*row)
    return found


def edges(ledger: Iterable[dict[str, Any]], months: int) -> set[datetime]:
    """The instants at which a row may change, each with its neighbours: facts, and the ends of windows."""
    found: set[datetime] = set()
    for envelope in ledger:
        told = oracle.read(envelope).time
        for instant in (told, model.plus_months(told, months), told + 30 * model.DAY):
            found |= {model.EPOCH + (instant + step) * MS for step in (-1, 0, 1)}
    return found


def check(data: st.DataObject, observer: world.Observer, worker: world.Worker) -> None:
    rule = oracle.Rule(data.draw(st.sampled_from([1, 12])), data.draw(st.booleans()))
    ledger = data.draw(generator.histories(months=rule.period_months, most=20, now=NOW)).ledger
    test_order.fold(observer, worker, [ledger], rule, timedelta(0))
    contacts = {envelope["subject"].removeprefix("contact:") for envelope in ledger}
    for at, rows in as_of(observer, contacts, edges(ledger, rule.period_months)).items():
        assert rows == oracle.expected(
            ledger, at, rule.period_months, rule.keep_row_without_clicks, upto=at
        ), at


@pytest.mark.capability("LAW-5")
@hypothesis.settings(test_order.SETTINGS, max_examples=20, derandomize=True)
@hypothesis.given(data=st.data())
def test_at_every_edge_it_is_what_the_oracle_says(
    data: st.DataObject, observer: world.Observer, worker: world.Worker
) -> None:
    check(data, observer, worker)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@hypothesis.settings(test_order.SETTINGS, max_examples=1_000)
@hypothesis.given(data=st.data())
def test_at_every_edge_of_a_thousand_histories(
    data: st.DataObject, observer: world.Observer, worker: world.Worker
) -> None:
    check(data, observer, worker)


@pytest.mark.capability("LAW-5")
def test_the_live_row_holds_what_is_ahead_and_as_of_never_does(
    worker: world.Worker, observer: world.Observer
) -> None:
    ahead = NOW + AHEAD
    for envelope in (world.click(NOW), world.click(ahead, mailing="m2"), world.delivery(ahead)):
        worker.log.tell(envelope)
    worker.advance(at=NOW)
    assert oracle.Row(*observer.rows()["ada"][:7]) == oracle.Row("ada", NOW, ahead, 2, 1, 1, 12)
    found = as_of(observer, ["ada"], [NOW, ahead - MS, ahead])
    assert found[NOW] == found[ahead - MS] == {"ada": oracle.Row("ada", NOW, NOW, 1, 0, 0, 12)}
    assert found[ahead] == {"ada": oracle.Row("ada", NOW, ahead, 2, 1, 1, 12)}


@pytest.mark.capability("LAW-5", "CEE-12")
def test_a_deletion_hides_from_its_own_millisecond_until_the_restore(
    worker: world.Worker, observer: world.Observer
) -> None:
    gone, back = NOW - 20 * DAY, NOW - 10 * DAY
    for envelope in (
        world.click(NOW - 30 * DAY),
        world.told("contact.restored", back),
        world.told("contact.deleted", gone),
    ):
        worker.log.tell(envelope)
    worker.advance(at=NOW)
    row = {"ada": oracle.Row("ada", NOW - 30 * DAY, NOW - 30 * DAY, 1, 0, 0, 12)}
    wanted = {gone - MS: row, gone: {}, gone + MS: {}, back - MS: {}, back: row, back + MS: row, NOW: row}
    assert as_of(observer, ["ada"], wanted) == wanted


@pytest.mark.capability("LAW-5")
def test_a_fact_told_late_is_known_for_the_time_it_is_dated(
    worker: world.Worker, observer: world.Observer
) -> None:
    """By today's knowledge: what came in yesterday about last year was so last year."""
    then = NOW - 100 * DAY
    worker.log.tell(world.click(NOW, mailing="m2"))
    worker.advance(at=NOW)
    assert as_of(observer, ["ada"], [then])[then] == {}
    worker.log.tell(world.click(then))
    worker.advance(at=NOW + DAY)
    assert as_of(observer, ["ada"], [then])[then] == {"ada": oracle.Row("ada", then, then, 1, 0, 0, 12)}


@pytest.mark.capability("LAW-5")
@pytest.mark.parametrize("year", [1, 1582, 1970])
def test_any_past_instant_has_an_answer(worker: world.Worker, observer: world.Observer, year: int) -> None:
    at = datetime(year, 1, 1, tzinfo=UTC)
    worker.log.tell(world.click(at + MS))
    worker.advance(at=NOW)
    found = as_of(observer, ["ada"], [at, at + MS])
    assert found == {at: {}, at + MS: {"ada": oracle.Row("ada", at + MS, at + MS, 1, 0, 0, 12)}}


@pytest.fixture
def registry(observer: world.Observer) -> Iterator[world.Observer]:
    yield observer
    observer.connection.execute("delete from heed_data.registry")


@pytest.mark.capability("LAW-5", "CEE-7")
def test_the_rule_is_the_one_of_its_time(worker: world.Worker, registry: world.Observer) -> None:
    """A period of one month until NOW - 50 days, then of six, and since NOW - 5 days of twelve."""
    said = ((NOW - 900 * DAY, 1), (NOW - 50 * DAY, 6), (NOW - 5 * DAY, 12))
    for number, (since, value) in enumerate(said):
        registry.connection.execute(SETTING, (uuid.uuid4(), str(number), since, Jsonb({"value": value})))
    told = [world.click(NOW - 100 * DAY), world.click(NOW - 300 * DAY, mailing="m2")]
    for envelope in told:
        worker.log.tell(envelope)
    worker.advance(at=NOW)
    last = {NOW - 50 * DAY: 1, NOW - 5 * DAY: 6}
    months = {at - MS: value for at, value in last.items()} | {NOW - 50 * DAY: 6, NOW - 5 * DAY: 12}
    for at, rows in as_of(registry, ["ada"], months).items():
        assert rows == oracle.expected(told, at, months[at], upto=at)
    assert as_of(registry, ["ada"], [NOW])[NOW]["ada"].frequency == 2
