"""What keeps mail from an address: the same in every order, now and as of any instant; what is taken back was
never there."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import hypothesis
import orjson
import pytest
from hypothesis import strategies as st

from api import holds, servers
from schemas import hold, sealing
from tests import keyring
from tests.laws import generator, reader, registrar, test_activity, test_links, test_order, world
from tests.oracle import holds as oracle
from tests.oracle import links

NOW, DAY = generator.NOW, generator.DAY
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
RULES = hold.Rules(soft_bounces=2, days=5)
SUBJECTS = ("contact:c0", "contact:c1", "contact:c2", "session:s0")
KEEP = """
insert into heed_ops.data_key (kid, subject, wrapped, master, destroyed, off)
values (%s, %s, %s, %s, false, 0) on conflict (kid) do nothing
"""
Ledger = list[dict[str, Any]]


@pytest.fixture
def stand(observer: world.Observer, worker: world.Worker, registrar: registrar.Registrar) -> test_links.Stand:
    for subject in SUBJECTS:
        kept = sealing.read_record(keyring.record_of(subject))
        observer.connection.execute(KEEP, (kept.kid, subject, kept.wrapped, kept.master))
    return test_links.Stand(observer, worker, registrar)


def told(type_: str, subject: str, time: datetime, id: str, **data: Any) -> dict[str, Any]:
    """An envelope whose data is whole, as the oracle has it."""
    given = {name: value for name, value in data.items() if value is not None}
    made = generator.envelope(generator.Told(type_, subject, time, id), NOW)
    return made | {"data": given, "digest": generator.digest(type_, given)}


def sealed(envelope: Mapping[str, Any]) -> dict[str, Any]:
    """The same as it stands on the log: its address sealed."""
    data = dict(envelope["data"])
    email = data.pop("email", None)
    if email is None:
        return dict(envelope)
    key = keyring.key_of(envelope["subject"])
    part = key.seal(envelope["source"], envelope["id"], orjson.dumps({"email": email}), bytes(12))
    return {**envelope, "data": data, "sealed": part, "kid": key.kid}


@st.composite
def ledgers(draw: st.DrawFn) -> Ledger:
    """Bounces and words of few contacts, addresses and instants, so that they meet; links and their undos."""
    when = st.integers(0, 20).map(lambda back: NOW - back * DAY)
    ids = st.sampled_from([f"e{n}" for n in range(8)])
    emails = st.sampled_from([None, "a@example.org", "A@Example.org", "b@example.org"])
    bounce = st.builds(
        told, st.just("mail.bounced"), st.sampled_from(SUBJECTS), when, ids, mailing_id=st.just("m1"),
        email=emails, kind=st.sampled_from(["soft", "soft", "soft", "hard"]),
        test=st.sampled_from([None, None, None, True]),
    )  # fmt: skip
    word = st.builds(
        told, st.just("contact.hold_changed"), st.sampled_from(SUBJECTS[:3]), when, ids, email=emails,
        kind=st.sampled_from(["hold", "hold", "opt_out", "do_not_email"]), on=st.booleans(),
    )  # fmt: skip
    gone = st.builds(told, st.just("contact.deleted"), st.sampled_from(SUBJECTS[:3]), when, ids)
    linked = [one for one in draw(generator.linked(contacts=3, sessions=1)) if one.kind in links.TYPES]
    standing = [one for one in linked if one.to is not None]
    if standing:
        undos = draw(st.lists(test_activity.undos(standing), max_size=3))
        linked += [test_activity.taken_back(*one) for one in undos]
    return [
        *(generator.envelope(one, NOW) for one in linked),
        *draw(st.lists(bounce, min_size=2, max_size=10)),
        *draw(st.lists(word, min_size=1, max_size=5)),
        *draw(st.lists(gone, max_size=1)),
    ]


def milliseconds(at: datetime) -> int:
    return (at - EPOCH) // timedelta(milliseconds=1)


def read(stand: test_links.Stand, contact: str) -> dict[str, Any]:
    database = cast("servers.Database", reader.Reader(stand.observer.connection))
    return asyncio.run(holds.read(database, contact, RULES, keyring.master()))


def of(stand: test_links.Stand, root: str, as_of: datetime | None) -> dict[str, Any]:
    database = cast("servers.Database", reader.Reader(stand.observer.connection))
    return asyncio.run(holds.of(database, root, RULES, keyring.master(), as_of))


def shown(found: Mapping[str, Any]) -> dict[str, set[tuple[str, str, int, str, str]]]:
    return {
        kind: {
            (
                (one["email"] or one["subject"]).lower(), one["because"], milliseconds(one["since"]),
                one["source"], one["id"],
            )
            for one in found[kind]
        }
        for kind in hold.KINDS
    }  # fmt: skip


def judged(
    ledger: Ledger, contact: str, upto: datetime | None = None
) -> dict[str, set[tuple[str, str, int, str, str]]]:
    at = None if upto is None else milliseconds(upto)
    return oracle.of(ledger, contact, RULES.soft_bounces, RULES.days, at)


def check(data: st.DataObject, stand: test_links.Stand) -> None:
    ledger = data.draw(ledgers())
    batches: Sequence[Ledger] = data.draw(generator.batches(data.draw(generator.orders(ledger))))
    stand.fold([[sealed(one) for one in batch] for batch in batches])
    then = NOW - data.draw(st.integers(0, 21)) * DAY
    words = [links.read(one) for one in ledger if one["type"] in links.TYPES]
    for as_of in (None, then):
        root_of = links.roots(words, None if as_of is None else milliseconds(as_of))
        for contact in ("c0", "c1", "c2"):
            root = root_of(f"contact:{contact}").removeprefix("contact:")
            if as_of is None:
                assert read(stand, contact)["contact_id"] == root
            assert shown(of(stand, root, as_of)) == judged(ledger, root, as_of)


@pytest.mark.capability("IDN-2", "LAW-1", "LAW-5", "IDN-5")
@hypothesis.settings(test_order.SETTINGS, max_examples=35, derandomize=True)
@hypothesis.given(data=st.data())
def test_any_order_split_and_repetition_is_the_same(data: st.DataObject, stand: test_links.Stand) -> None:
    check(data, stand)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@hypothesis.settings(test_order.SETTINGS, max_examples=2_000)
@hypothesis.given(data=st.data())
def test_any_order_for_thousands_of_histories(data: st.DataObject, stand: test_links.Stand) -> None:
    check(data, stand)


@pytest.mark.capability("IDN-2", "LAW-3")
def test_an_unmerge_gives_back_whose_bounces_and_words_they_were(stand: test_links.Stand) -> None:
    address = "x@example.org"
    ledger = [
        told("mail.bounced", "contact:c0", NOW - 3 * DAY, "b1", mailing_id="m1", kind="soft", email=address),
        told("mail.bounced", "contact:c1", NOW - 2 * DAY, "b2", mailing_id="m2", kind="soft", email=address),
        told("contact.hold_changed", "contact:c1", NOW - DAY, "o1", kind="opt_out", on=True),
        generator.envelope(generator.Told("contact.merged", "c1", NOW - DAY, "l1", to="c0"), NOW),
    ]
    stand.fold([[sealed(one) for one in ledger]])
    both = read(stand, "c1")
    assert both["merged_into"] == "c0"
    assert [(one["email"], one["because"], one["id"]) for one in both["hold"]] == [
        (address, "soft_bounces", "b2")
    ]
    assert [one["subject"] for one in both["opt_out"]] == ["contact:c1"] and both["do_not_email"] == []
    back = generator.Told("contact.unmerged", "c1", NOW, "u1", takes_back=("urn:a", "l1"))
    stand.fold([[*(sealed(one) for one in ledger), generator.envelope(back, NOW)]])
    assert shown(read(stand, "c0")) == {"hold": set(), "opt_out": set(), "do_not_email": set()}
    assert [one["subject"] for one in read(stand, "c1")["opt_out"]] == ["contact:c1"]
    assert read(stand, "c1")["hold"] == []
