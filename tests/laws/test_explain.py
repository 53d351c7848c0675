"""Explain: a fact is listed under a number if the number would be another without it, and only then."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import hypothesis
import pytest
from hypothesis import strategies as st

from tests import oracle
from tests.laws import generator, test_order, world
from tests.oracle import model

NOW = generator.NOW
MS = timedelta(milliseconds=1)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
FIELDS = ("date_first_click", "date_last_click", "recency", "frequency", "volume", "volume_last_30")
# Purpose: the facts behind each number of a contact, in units.
BEHIND = """
select field, unit, alone, source, id, type, time, behind
from heed_data.engagement_behind(%s, %s, %s, %s) order by field, unit
"""
Name = tuple[str, str]
Told = Sequence[dict[str, Any]]


class Explained(NamedTuple):
    """Under each field: the facts listed, and those that stand together."""

    alone: dict[str, set[Name]]
    together: dict[str, list[frozenset[Name]]]


def explained(
    observer: world.Observer, contact: str, at: datetime, upto: datetime | None, most: int = 1_000
) -> Explained:
    alone: dict[str, set[Name]] = {field: set() for field in FIELDS}
    units: dict[tuple[str, int], set[Name]] = defaultdict(set)
    lines = observer.all(BEHIND, contact, at, upto or "infinity", most)
    for field, unit, single, source, id, *_ in lines:
        if single:
            assert (source, id) not in alone[field], "once"
            alone[field].add((source, id))
        else:
            assert (source, id) not in units[field, unit], "once"
            units[field, unit].add((source, id))
    together = {field: [frozenset(u) for (of, _), u in units.items() if of == field] for field in FIELDS}
    return Explained(alone, together)


class History:
    """A contact's facts, and its numbers by the oracle with some of them taken away."""

    def __init__(self, ledger: Told, contact: str, at: datetime, rule: oracle.Rule, upto: datetime | None):
        of_contact = (one for one in map(oracle.read, ledger) if one.subject == f"contact:{contact}")
        self.facts = oracle.histories(of_contact).get(contact, [])
        self.contact, self.at, self.rule, self.upto = contact, at, rule, upto
        self.names = {(one.source, one.id) for one in self.facts}
        self.numbers = self.without(())

    def without(self, taken: Iterable[Name]) -> dict[str, Any]:
        gone = set(taken)
        left = [one for one in self.facts if (one.source, one.id) not in gone]
        row = oracle.row(self.contact, left, self.at, self.rule, self.upto)
        values: dict[str, Any] = dict.fromkeys(FIELDS)
        if row is not None:
            values = {name: getattr(row, name) for name in FIELDS if name != "recency"}
            values["recency"] = oracle.recency(row, self.at)
        return values

    def changed(self, taken: Iterable[Name]) -> set[str]:
        """The fields that are others without these facts."""
        left = self.without(taken)
        return {field for field in FIELDS if left[field] != self.numbers[field]}

    def hold(self, found: Explained, draw: st.DataObject | None = None) -> None:
        """The property, in both directions, for each fact alone and for those that stand together."""
        for name in self.names:
            listed = {field for field in FIELDS if name in found.alone[field]}
            assert listed == self.changed([name]), name
        for field in FIELDS:
            assert found.alone[field] <= self.names
            for unit in found.together[field]:
                assert len(unit) > 1
                assert not unit & found.alone[field]
                assert field in self.changed(unit), unit
                for one in unit:
                    assert field not in self.changed(unit - {one}), "only all of them together"
        if self.numbers["frequency"]:
            mailings = {one.mailing for one in self.facts if one.type == model.CLICKED}
            assert self.numbers["frequency"] <= len(mailings)


def check(data: st.DataObject, observer: world.Observer, worker: world.Worker) -> None:
    rule = oracle.Rule(data.draw(st.sampled_from([1, 12])), data.draw(st.booleans()))
    ledger = data.draw(generator.histories(months=rule.period_months, contacts=2, now=NOW)).ledger
    test_order.fold(observer, worker, [ledger], rule, timedelta(0))
    times = [datetime.fromisoformat(envelope["time"]) for envelope in ledger]
    at = data.draw(st.sampled_from([NOW, *times, *(time + 30 * DAY for time in times)]))
    upto = data.draw(st.sampled_from([None, at]))
    for contact in ("c0", "c1"):
        history = History(ledger, contact, at, rule, upto)
        found = explained(observer, contact, at, upto)
        history.hold(found)
        some = data.draw(st.sets(st.sampled_from(sorted(history.names)))) if history.names else set()
        hold_some(history, found, some)


def hold_some(history: History, found: Explained, taken: set[Name]) -> None:
    """Whatever is taken of clicks and deliveries: a number stays if nothing listed and no whole unit goes.

    (Or if all that holds the row goes: then every number does.)
    """
    mails = {(one.source, one.id) for one in history.facts if one.type in (model.CLICKED, model.DELIVERED)}
    taken &= mails
    changed = history.changed(taken)
    emptied = history.without(taken)["frequency"] is None
    for field in FIELDS:
        named = bool(taken & found.alone[field]) or any(unit <= taken for unit in found.together[field])
        if named:
            assert field in changed
        elif not emptied:
            assert field not in changed


@pytest.mark.capability("LAW-5")
@hypothesis.settings(test_order.SETTINGS, max_examples=60, derandomize=True)
@hypothesis.given(data=st.data())
def test_a_fact_is_listed_if_and_only_if_the_number_hangs_on_it(
    data: st.DataObject, observer: world.Observer, worker: world.Worker
) -> None:
    check(data, observer, worker)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@hypothesis.settings(test_order.SETTINGS, max_examples=3_000)
@hypothesis.given(data=st.data())
def test_the_property_for_thousands_of_histories(
    data: st.DataObject, observer: world.Observer, worker: world.Worker
) -> None:
    check(data, observer, worker)


def tell(
    worker: world.Worker, observer: world.Observer, *told: dict[str, Any], keep: bool = False
) -> Explained:
    """What is explained of these facts, after the property has been held against it."""
    observer.rule(12, keep)
    for envelope in told:
        worker.log.tell(envelope)
    worker.advance(at=NOW)
    found = explained(observer, "ada", NOW, None)
    History(told, "ada", NOW, oracle.Rule(12, keep), None).hold(found)
    return found


def ids(names: Iterable[Name]) -> set[str]:
    return {id for _, id in names}


def test_clicks_of_one_mailing_stand_together(worker: world.Worker, observer: world.Observer) -> None:
    found = tell(
        worker,
        observer,
        world.click(NOW - 3 * DAY, id="twice-1"),
        world.click(NOW - 2 * DAY, id="twice-2"),
        world.click(NOW - DAY, mailing="m2", id="once"),
    )
    assert ids(found.alone["frequency"]) == {"once"}
    assert [ids(unit) for unit in found.together["frequency"]] == [{"twice-1", "twice-2"}]
    assert ids(found.alone["date_first_click"]) == {"twice-1"}
    assert ids(found.alone["date_last_click"]) == {"once"}
    assert found.alone["volume"] == set()


def test_clicks_of_one_day_are_behind_recency_together(
    worker: world.Worker, observer: world.Observer
) -> None:
    found = tell(
        worker,
        observer,
        world.click(NOW - HOUR, id="hour"),
        world.click(NOW - 23 * HOUR, mailing="m2", id="day"),
        world.click(NOW - 40 * HOUR, mailing="m3", id="before"),
    )
    assert [ids(unit) for unit in found.together["recency"]] == [{"hour", "day"}]
    assert ids(found.alone["date_last_click"]) == {"hour"}


def test_the_click_that_holds_the_row_is_behind_every_number(
    worker: world.Worker, observer: world.Observer
) -> None:
    found = tell(worker, observer, world.click(NOW, id="click"), world.delivery(NOW, id="delivery"))
    assert {field: ids(found.alone[field]) for field in FIELDS} == {
        **{field: {"click"} for field in FIELDS},
        "volume": {"click", "delivery"},
        "volume_last_30": {"click", "delivery"},
    }


def test_by_the_rule_a_delivery_holds_the_row(worker: world.Worker, observer: world.Observer) -> None:
    found = tell(worker, observer, world.delivery(NOW - 31 * DAY, id="old"), keep=True)
    assert {field for field in FIELDS if found.alone[field]} == {"frequency", "volume", "volume_last_30"}


def test_a_deletion_is_behind_the_nulls_and_a_restore_behind_the_numbers(
    worker: world.Worker, observer: world.Observer
) -> None:
    told = [world.click(NOW - DAY, id="click"), world.told("contact.deleted", NOW - HOUR, id="gone")]
    found = tell(worker, observer, *told)
    assert {field: ids(found.alone[field]) for field in FIELDS} == {field: {"gone"} for field in FIELDS}
    again = world.told("contact.deleted", NOW - HOUR + MS, id="again")
    worker.log.tell(again)
    worker.advance(at=NOW)
    found = explained(observer, "ada", NOW, None)
    assert [ids(unit) for unit in found.together["frequency"]] == [{"gone", "again"}]
    assert found.alone["frequency"] == set()
    worker.log.tell(world.told("contact.restored", NOW, id="back"))
    worker.advance(at=NOW)
    found = explained(observer, "ada", NOW, None)
    assert ids(found.alone["frequency"]) == {"click", "back"}


def test_consent_is_behind_what_it_withholds_and_what_it_gives_back(
    worker: world.Worker, observer: world.Observer
) -> None:
    told = [
        world.click(NOW - DAY, id="click"),
        world.delivery(NOW - DAY, id="delivery"),
        world.told("contact.consent_changed", NOW - HOUR, id="none", level="refused"),
    ]
    found = tell(worker, observer, *told, keep=True)
    assert ids(found.alone["frequency"]) == {"none", "delivery"}
    assert ids(found.alone["date_last_click"]) == {"none"}
    assert ids(found.alone["volume"]) == {"delivery"}
    told.append(world.told("contact.consent_changed", NOW - HOUR + MS, id="few", level="aggregate"))
    worker.log.tell(told[-1])
    worker.advance(at=NOW)
    found = explained(observer, "ada", NOW, None)
    History(told, "ada", NOW, oracle.Rule(12, True), None).hold(found)
    assert [ids(unit) for unit in found.together["frequency"]] == [{"none", "few"}]
    told.append(world.told("contact.consent_changed", NOW, id="all", level="individual"))
    worker.log.tell(told[-1])
    worker.advance(at=NOW)
    found = explained(observer, "ada", NOW, None)
    History(told, "ada", NOW, oracle.Rule(12, True), None).hold(found)
    assert ids(found.alone["frequency"]) == {"click", "all"}
    assert ids(found.alone["volume"]) == {"delivery"}


def test_a_subject_that_belongs_to_the_contact_brings_its_facts_and_its_presence(
    worker: world.Worker, observer: world.Observer
) -> None:
    for envelope in (
        world.click(NOW, id="own"),
        world.click(NOW - DAY, "bob", "m2", id="joined"),
        world.told("contact.restored", NOW - 2 * DAY, "bob", id="back"),
        world.told("contact.deleted", NOW - 3 * DAY, "bob", id="gone"),
    ):
        worker.log.tell(envelope)
    observer.connection.execute("insert into heed_data.member values ('contact:bob', 'contact:ada', 0)")
    worker.advance(at=NOW)
    found = explained(observer, "ada", NOW, None)
    assert ids(found.alone["frequency"]) == {"own", "joined", "back"}
    assert ids(found.alone["date_first_click"]) == {"joined", "back"}
    assert ids(found.alone["date_last_click"]) == {"own"}
    assert explained(observer, "bob", NOW, None).alone == {field: set() for field in FIELDS}


def test_what_is_given_is_bounded_and_the_newest(worker: world.Worker, observer: world.Observer) -> None:
    for number in range(30):
        worker.log.tell(world.click(NOW - number * DAY, mailing=f"m{number}", id=f"e{number}"))
        worker.log.tell(world.delivery(NOW - number * DAY, mailing="m", id=f"d{number}"))
    worker.advance(at=NOW)
    lines = observer.all(BEHIND, "ada", NOW, "infinity", 10)
    given: dict[str, list[str]] = defaultdict(list)
    for field, *_, id, _, _, behind in lines:
        given[field].append(id)
        if field in ("frequency", "volume", "volume_last_30"):
            assert behind == 30
    assert given["frequency"] == [f"e{number}" for number in range(10)]
    assert sorted(given["volume"]) == sorted(f"d{number}" for number in range(10))
    assert given["date_first_click"] == ["e29"]
