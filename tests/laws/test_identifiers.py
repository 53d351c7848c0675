"""Events of identifiers and of sets of them: the contact's who has them, in whatever order that is told."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from schemas import identified
from tests import oracle
from tests.laws import generator, registrar, test_links, test_order, world
from tests.oracle import identifiers, links

NOW = generator.NOW
RULE = test_links.RULE
NAMES = [f"c{n}" for n in range(4)]
Envelope = dict[str, Any]


def hashed(kind: str, name: str) -> str:
    return f"{kind}:{hashlib.sha256(name.encode()).hexdigest()}"


E, F = hashed("email", "e"), hashed("email", "f")
P, K = hashed("phone", "p"), hashed("custom", "k")
S = "session:s0"
SETS: dict[str, tuple[str, ...]] = {}


def a_set(*members: str) -> str:
    """The subject of a set, from now on known by its members."""
    subject = f"set:{hashlib.sha256(','.join(sorted(members)).encode()).hexdigest()}"
    SETS[subject] = members
    return subject


BOTH = a_set(E, P)
DRAWN = (BOTH, a_set(F, P), a_set(E, S), a_set(F, K, S), a_set(P, S))


def event(kind: str, about: str, time: Any, id: str, **more: Any) -> Envelope:
    """A fact about anybody, as it stands on the log."""
    told = generator.envelope(generator.Told(kind, about, time, id, **more), NOW)
    return told | ({"members": ",".join(SETS[about])} if about in SETS else {})


def linked(about: str, to: str, time: Any, id: str, source: str = "urn:a", primary: bool = False) -> Envelope:
    """The link that an identification makes of an identifier."""
    data = {"contact_id": to, "told": {"id": id, "source": source}} | ({"primary": True} if primary else {})
    return _registered("identifier.linked", about, time, identified.link_id(source, id), source, data)


def unlinked(about: str, time: Any, id: str, of: str, source: str = "urn:a") -> Envelope:
    """An identifier that is taken back."""
    return _registered("identifier.unlinked", about, time, id, source, {"link": {"id": of, "source": source}})


def _registered(kind: str, about: str, time: Any, id: str, source: str, data: dict[str, Any]) -> Envelope:
    whole = generator.envelope(generator.Told(kind, about, time, id, source), NOW)
    return whole | {"data": data, "digest": generator.digest(kind, data)}


@st.composite
def histories(draw: st.DrawFn) -> list[Envelope]:
    """Contacts, their identifiers, sets; few ids, so that copies and contradictions are common."""
    when = st.integers(0, 40).map(lambda back: NOW - back * generator.DAY)
    ids = st.sampled_from([f"l{n}" for n in range(4)])
    names, named = st.sampled_from(NAMES), st.sampled_from([E, E, F, P, K])
    link = st.one_of(
        st.builds(linked, named, names, when, ids, primary=st.booleans()),
        st.builds(linked, named, names, when, ids),
        st.builds(unlinked, named, when, st.sampled_from(["u0", "u1"]), ids),
    )
    other = st.one_of(
        st.builds(event, st.just("contact.merged"), names, when, ids, to=names),
        st.builds(event, st.just("session.linked"), st.just(S), when, ids, to=names),
        st.builds(
            event,
            st.just("contact.unmerged"),
            names,
            when,
            ids,
            takes_back=st.tuples(st.just("urn:a"), ids),
        ),
        st.builds(event, st.sampled_from(["contact.deleted", "contact.restored"]), names, when, ids),
    )
    fact = st.builds(
        event,
        st.sampled_from(["mail.clicked", "mail.clicked", "mail.delivered"]),
        st.sampled_from([*NAMES[:2], E, F, P, K, S, *DRAWN, *DRAWN]),
        when,
        st.sampled_from([f"e{n}" for n in range(6)]),
        mailing=st.sampled_from(["m1", "m2", "m3"]),
    )
    told = draw(st.lists(st.one_of(fact, fact, link, link, other), min_size=1, max_size=24))
    return [one for one in told if f"contact:{one['data'].get('into')}" != one["subject"]]


@pytest.fixture
def stand(observer: world.Observer, worker: world.Worker, registrar: registrar.Registrar) -> test_links.Stand:
    return test_links.Stand(observer, worker, registrar)


def check(data: st.DataObject, stand: test_links.Stand) -> None:
    ledger = data.draw(histories())
    of_links = [links.read(one) for one in ledger if one["type"] in links.TYPES]
    root_of = identifiers.roots(ledger, links.roots(of_links))
    subjects = {*(f"contact:{name}" for name in NAMES), E, F, P, K, S}
    expected = oracle.expected(ledger, NOW, RULE.period_months, RULE.keep_row_without_clicks)

    rows = stand.fold([ledger])
    assert {contact: oracle.Row(*line[:7]) for contact, line in rows.items()} == expected
    members = stand.members()
    assert members == {one: root_of(one) for one in subjects if root_of(one) != one}
    batches = data.draw(generator.batches(data.draw(generator.orders(ledger))))
    assert (stand.fold(batches), stand.members()) == (rows, members)
    one_by_one = [[envelope] for envelope in reversed(ledger)]
    assert (stand.fold(one_by_one), stand.members()) == (rows, members)

    then = NOW - data.draw(st.integers(0, 41)) * generator.DAY
    assert stand.at(NAMES, then, then) == oracle.expected(
        ledger, then, RULE.period_months, RULE.keep_row_without_clicks, upto=then
    )


@pytest.mark.capability("LAW-1", "LAW-5", "IDN-1", "IDN-3", "CEE-11")
@hypothesis.settings(test_order.SETTINGS, max_examples=60, derandomize=True)
@hypothesis.given(data=st.data())
def test_any_order_split_and_repetition_is_the_same(data: st.DataObject, stand: test_links.Stand) -> None:
    check(data, stand)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@hypothesis.settings(test_order.SETTINGS, max_examples=3_000)
@hypothesis.given(data=st.data())
def test_any_order_for_thousands_of_histories(data: st.DataObject, stand: test_links.Stand) -> None:
    check(data, stand)


def contacts(stand: test_links.Stand, *batches: Sequence[Envelope]) -> dict[str, int]:
    """Mailings clicked, by contact."""
    return {contact: line[3] for contact, line in stand.fold(batches).items()}


@pytest.mark.capability("EVT-6", "EVT-7", "IDN-3")
def test_an_event_of_an_address_nobody_knows_is_kept_until_somebody_has_it(stand: test_links.Stand) -> None:
    clicked = event("mail.clicked", E, NOW - generator.DAY, "e1")
    assert contacts(stand, [clicked]) == {}
    assert contacts(stand, [clicked], [linked(E, "c1", NOW, "i1")]) == {"c1": 1}


@pytest.mark.capability("IDN-3")
def test_an_event_retried_once_its_address_is_known_counts_once(stand: test_links.Stand) -> None:
    clicked = event("mail.clicked", BOTH, NOW - generator.DAY, "e1")
    phone = linked(P, "c2", NOW - generator.DAY, "i1")
    assert contacts(stand, [phone], [clicked]) == {"c2": 1}
    assert contacts(stand, [phone], [clicked], [linked(E, "c1", NOW, "i2")], [clicked]) == {"c1": 1}
    taken = unlinked(E, NOW, "u1", "i2")
    assert contacts(stand, [phone], [clicked], [linked(E, "c1", NOW, "i2")], [taken]) == {"c2": 1}


@pytest.mark.capability("IDN-3", "IDN-1")
def test_a_shared_address_is_its_primary_owners_else_the_smallest_ids(stand: test_links.Stand) -> None:
    clicked = event("mail.clicked", E, NOW - generator.DAY, "e1")
    shared = [linked(E, "c2", NOW, "i2"), linked(E, "c1", NOW, "i1")]
    assert contacts(stand, [clicked], shared) == {"c1": 1}
    primary = linked(E, "c3", NOW - generator.MS, "i3", primary=True)
    assert contacts(stand, [clicked], shared, [primary]) == {"c3": 1}
    another = linked(F, "c3", NOW, "i4", primary=True)
    assert contacts(stand, [clicked], shared, [primary], [another]) == {"c1": 1}


@pytest.mark.capability("IDN-3", "IDN-4")
def test_an_address_moves_with_its_contact_and_comes_back(stand: test_links.Stand) -> None:
    clicked = event("mail.clicked", E, NOW - generator.DAY, "e1")
    told = [clicked, linked(E, "c1", NOW, "i1"), event("contact.merged", "c1", NOW, "m1", to="c3")]
    assert contacts(stand, told) == {"c3": 1}
    undone = event("contact.unmerged", "c1", NOW, "u1", takes_back=("urn:a", "m1"))
    assert contacts(stand, told, [undone]) == {"c1": 1}
    hidden = event("contact.deleted", "c1", NOW, "d1")
    assert contacts(stand, told, [undone], [hidden]) == {}
    back = event("contact.restored", "c1", NOW + generator.MS, "r1")
    assert contacts(stand, told, [undone], [hidden], [back]) == {"c1": 1}
