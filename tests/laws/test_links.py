"""Who belongs to whom: the same in every order, with any repetition, now and at any instant of the past."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from tests import oracle
from tests.laws import generator, registrar, test_order, world
from tests.oracle import identifiers, links

NOW = generator.NOW
RULE = oracle.Rule(12, keep_row_without_clicks=True)
Facts = Sequence[dict[str, Any]]
REGISTERED = identifiers.REGISTERED | {links.ERASED}
HELD = """
with gone as materialized (select unnest(%s::text[]) as subject)
select 'fact', f.subject, f.type from gone join heed_data.fact f using (subject)
union all select 'registry', r.subject, r.type from gone join heed_data.registry r using (subject)
    where r.type <> 'contact.erased'
union all select 'member', m.subject, m.root from heed_data.member m
    where exists (select from gone where subject in (m.subject, m.root))
union all select 'row', e.contact_id, '' from heed_data.engagement e
    where 'contact:' || e.contact_id in (select subject from gone)
"""
AS_OF = f"""
select {world.STORED} from unnest(%s::text[]) as u(contact)
cross join lateral heed_data.engagement_at(array[u.contact], %s, %s)
"""


@dataclasses.dataclass(frozen=True)
class Stand:
    """A worker of all homes, the registry's owner, and who looks at what they write."""

    observer: world.Observer
    worker: world.Worker
    registrar: registrar.Registrar

    def fold(self, batches: Sequence[Facts]) -> dict[str, tuple[Any, ...]]:
        """Rows after these batches; in each the registry comes first, or last, by turns."""
        self.observer.clear(RULE.period_months, RULE.keep_row_without_clicks)
        self.registrar.begin()
        self.worker.log = world.Log()
        self.worker.held, self.worker.next = {}, {}
        self.worker.claim_all()
        for number, batch in enumerate(batches):
            told = [world.encode(one) for one in batch if one["type"] in REGISTERED]
            for envelope in batch:
                if envelope["type"] not in REGISTERED:
                    self.worker.log.tell(envelope)
            if number % 2:
                self.registrar.fold(*told)
            self.worker.advance(at=NOW)
            if not number % 2:
                self.registrar.fold(*told)
        for _ in range(4):
            self.worker.advance(at=NOW)
        assert self.observer.nudged() == {}
        return self.observer.rows()

    def members(self) -> dict[str, str]:
        return dict(self.observer.all("select subject, root from heed_data.member"))

    def held_of(self, subjects: Iterable[str]) -> list[tuple[Any, ...]]:
        """What any table holds of these, but that they are erased."""
        return list(self.observer.all(HELD, sorted(subjects)))

    def at(self, contacts: Sequence[str], at: datetime, upto: datetime | str) -> dict[str, oracle.Row]:
        return {line[0]: oracle.Row(*line) for line in self.observer.all(AS_OF, list(contacts), at, upto)}


@pytest.fixture
def stand(observer: world.Observer, worker: world.Worker, registrar: registrar.Registrar) -> Stand:
    return Stand(observer, worker, registrar)


def check(data: st.DataObject, stand: Stand) -> None:
    told = data.draw(generator.linked(erasures=2))
    ledger = [generator.envelope(one, NOW) for one in told]
    known, gone = links.without_erased(ledger)
    subjects = {one.subject for one in told} | {f"contact:{one.to}" for one in told if one.to}
    contacts = sorted(one.removeprefix("contact:") for one in subjects if one.startswith("contact:"))
    of_links = [links.read(one) for one in known if one["type"] in links.TYPES]
    root_of = links.roots(of_links, gone=gone)
    expected = oracle.expected(ledger, NOW, RULE.period_months, RULE.keep_row_without_clicks)

    rows = stand.fold([ledger])
    assert {contact: oracle.Row(*line[:7]) for contact, line in rows.items()} == expected
    members = stand.members()
    assert members == {one: root_of(one) for one in subjects if root_of(one) != one}
    assert stand.held_of(gone) == []
    batches = data.draw(generator.batches(data.draw(generator.orders(ledger))))
    assert (stand.fold(batches), stand.members()) == (rows, members)
    one_by_one = [[envelope] for envelope in reversed(ledger)]
    assert (stand.fold(one_by_one), stand.members()) == (rows, members)

    then = NOW - data.draw(st.integers(0, 41)) * generator.DAY
    assert stand.at(contacts, then, then) == oracle.expected(
        ledger, then, RULE.period_months, RULE.keep_row_without_clicks, upto=then
    )


@pytest.mark.capability("LAW-1", "LAW-5", "IDN-4", "CEE-11")
@hypothesis.settings(test_order.SETTINGS, max_examples=60, derandomize=True)
@hypothesis.given(data=st.data())
def test_any_order_split_and_repetition_is_the_same(data: st.DataObject, stand: Stand) -> None:
    check(data, stand)


@pytest.mark.capability("IDN-4", "LAW-5")
def test_a_session_linked_with_every_visit_costs_no_more_than_its_links(stand: Stand) -> None:
    """Whatever PostgreSQL knows of the table: here, that it is large and nearly empty, one link a subject."""
    then = [NOW - generator.DAY + n * generator.MS for n in range(4_000)]
    told = [
        generator.Told("session.linked", "session:s", time, f"l{n}", to="a") for n, time in enumerate(then)
    ]
    few = [dataclasses.replace(one, contact=f"session:{one.id}") for one in told[:20]]
    for before in (told, few):
        stand.fold([[generator.envelope(one, NOW) for one in before]])
    stand.observer.connection.execute("analyze heed_data.registry, heed_data.member, heed_data.fact")
    undone = [
        generator.Told("session.unlinked", "session:s", NOW, f"u{n}", takes_back=("urn:a", f"l{n}"))
        for n in range(4_000)
    ]
    click = generator.Told("mail.clicked", "session:s", NOW - 2 * generator.DAY, "e")
    rows = stand.fold([[generator.envelope(one, NOW) for one in (click, *told)]])
    stand.observer.connection.execute("set statement_timeout = '5s'")
    try:
        assert stand.at(["a"], then[-1], then[-1]) == {"a": oracle.Row(*rows["a"][:7])}
        stand.registrar.fold(*(world.encode(generator.envelope(one, NOW)) for one in undone))
        assert stand.at(["a"], NOW, NOW) == {}
        assert stand.at(["a"], then[-1], then[-1]) == {"a": oracle.Row(*rows["a"][:7])}
    finally:
        stand.observer.connection.execute("reset statement_timeout")


@pytest.mark.slow
@pytest.mark.timeout(3600)
@hypothesis.settings(test_order.SETTINGS, max_examples=3_000)
@hypothesis.given(data=st.data())
def test_any_order_for_thousands_of_histories(data: st.DataObject, stand: Stand) -> None:
    check(data, stand)
