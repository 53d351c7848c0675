"""Timelines: the same in every order, now and as of any instant; what is taken back was never there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import hypothesis
import pytest
from hypothesis import strategies as st

from api import activity, servers
from schemas import activity as kinds
from tests.laws import generator, reader, registrar, test_links, test_order, world
from tests.oracle import links, timeline

NOW, DAY = generator.NOW, generator.DAY
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MAIL = sorted(name for name in timeline.NAMES if name.startswith("mail."))
Ledger = list[dict[str, Any]]


@pytest.fixture
def stand(observer: world.Observer, worker: world.Worker, registrar: registrar.Registrar) -> test_links.Stand:
    return test_links.Stand(observer, worker, registrar)


@st.composite
def ledgers(draw: st.DrawFn) -> Ledger:
    """Everything that timelines tell of, of few contacts and sessions, by somebody or by nobody, and some of
    everything, so that deletions, consents and undos meet what they are about."""
    when = st.integers(0, 40).map(lambda back: NOW - back * DAY)
    names = [f"c{n}" for n in range(3)]
    mail = st.builds(
        generator.Told,
        kind=st.sampled_from(MAIL),
        contact=st.sampled_from([*names, "session:s0"]),
        time=when,
        id=st.sampled_from([f"e{n}" for n in range(9)]),
        mailing=st.sampled_from(["m1", "m2", None, 'say "m"', "ä\\"]),
        test=st.sampled_from([None, None, None, False, True]),
    )
    word = st.builds(
        generator.Told,
        kind=st.sampled_from(["contact.deleted", "contact.consent_changed"]),
        contact=st.sampled_from(names),
        time=when,
        id=st.sampled_from(["w0", "w1"]),
        level=st.sampled_from(generator.LEVELS),
    )
    visit = st.builds(
        generator.Told,
        kind=st.sampled_from(["session.created", "session.started", "page.viewed", "page.viewed"]),
        contact=st.just("session:s0"),
        time=when,
        id=st.sampled_from(["v0", "v1"]),
    )
    told = [*draw(generator.linked(contacts=3, sessions=1)), *draw(st.lists(visit, max_size=2))]
    told += [*draw(st.lists(mail, min_size=4, max_size=12)), *draw(st.lists(word, max_size=2))]
    standing = [one for one in told if one.to is not None]
    if standing:
        told += [taken_back(*one) for one in draw(st.lists(undos(standing), max_size=4))]
    return [attributed(written(one)) for one in told]


def undos(standing: Sequence[generator.Told]) -> st.SearchStrategy[tuple[generator.Told, datetime, str]]:
    """Links that are there, each to be taken back at some time, also before it was told."""
    when = st.integers(0, 41).map(lambda back: NOW - back * DAY)
    return st.tuples(st.sampled_from(standing), when, st.sampled_from(["u0", "u1", "u2"]))


def taken_back(link: generator.Told, time: datetime, id: str) -> generator.Told:
    kind = links.UNMERGED if link.kind == links.MERGED else links.UNLINKED
    return generator.Told(kind, link.contact, time, id, takes_back=(link.source, link.id))


def written(told: generator.Told) -> dict[str, Any]:
    """As it has to stand on the log."""
    envelope = generator.envelope(told, NOW)
    if told.kind == "page.viewed":
        envelope |= {"data": {"url": "https://example.org/"}}
        envelope |= {"digest": generator.digest(told.kind, envelope["data"])}
    return envelope


def attributed(envelope: dict[str, Any]) -> dict[str, Any]:
    """With an actor that follows from what is told, for some: copies have the same."""
    if envelope["type"].startswith(("contact.", "session.")) and int(envelope["digest"][0], 16) % 2:
        return envelope | {"actor": f"key:{envelope['digest'][:4]}"}
    return envelope


def line(item: Mapping[str, Any]) -> timeline.Activity:
    time = (item["time"] - EPOCH) // timedelta(milliseconds=1)
    return timeline.Activity(
        item["contact_id"], time, *(item[name] for name in timeline.Activity._fields[2:])
    )


def listed(
    stand: test_links.Stand, contact: str | None, size: int, as_of: datetime | None = None, **filters: Any
) -> list[timeline.Activity]:
    """A timeline as the API answers it, read by pages."""
    database = cast("servers.Database", reader.Reader(stand.observer.connection))
    made = activity.Timeline(database, contact, filters, as_of)
    return [line(item) for item in reader.whole(made, activity.cursor, size)]


def millisecond(at: datetime) -> int:
    return (at - EPOCH) // timedelta(milliseconds=1)


def viewed(stand: test_links.Stand) -> set[timeline.Activity]:
    columns = ", ".join(timeline.Activity._fields)
    found = stand.observer.all(f"select {columns} from heed_read.activity")
    names = timeline.Activity._fields
    return {line(dict(zip(names, one, strict=True))) for one in found}


def check(data: st.DataObject, stand: test_links.Stand) -> None:
    ledger, size = data.draw(ledgers()), data.draw(st.integers(1, 6))
    batches: Sequence[Ledger] = data.draw(generator.batches(data.draw(generator.orders(ledger))))
    stand.fold(batches)
    expected = timeline.of(ledger)
    assert listed(stand, None, size) == expected
    assert viewed(stand) == set(expected)
    then = NOW - data.draw(st.integers(0, 41)) * DAY
    past = timeline.of(ledger, millisecond(then))
    assert listed(stand, None, size, then) == past
    contacts = sorted({one.contact_id for one in [*expected, *past]} | {"c0"})
    told = [links.read(one) for one in ledger if one["type"] in links.TYPES]
    for at, lines in ((None, expected), (then, past)):
        root_of = links.roots(told, None if at is None else millisecond(at))
        for contact in contacts:
            if root_of(f"contact:{contact}") == f"contact:{contact}":
                mine = [one for one in lines if one.contact_id == contact]
                assert listed(stand, contact, size, at) == mine
    check_filters(data, stand, expected)


def check_filters(data: st.DataObject, stand: test_links.Stand, lines: list[timeline.Activity]) -> None:
    type_ = data.draw(st.sampled_from(kinds.TYPES))
    since, until = sorted(data.draw(st.tuples(*[st.integers(0, 40).map(lambda n: NOW - n * DAY)] * 2)))
    actors = [None, *sorted({one.actor for one in lines if one.actor})]
    actor = data.draw(st.sampled_from(actors))
    more: dict[str, Any] = {} if actor is None else {"actor": actor}
    assert listed(stand, None, 3, type=type_, since=since, until=until, **more) == [
        one for one in lines
        if one.type == type_ and millisecond(since) <= one.time < millisecond(until)
        and actor in (None, one.actor)
    ]  # fmt: skip


@pytest.mark.capability("ACT-1", "LAW-1", "LAW-5", "IDN-5", "IDN-6")
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


def undone(stand: test_links.Stand, ledger: Ledger, link: dict[str, Any], size: int) -> None:
    """All of it and an undo of the link is the same as all of it without the link, now and as of then."""
    name = {key: link[key] for key in ("subject", "source", "id")}
    kind = links.UNMERGED if link["type"] == links.MERGED else links.UNLINKED
    back = generator.Told(kind, link["subject"], NOW, "back", takes_back=(link["source"], link["id"]))
    stand.fold([[*ledger, generator.envelope(back, NOW)]])
    with_undo = listed(stand, None, size), stand.members(), stand.observer.rows()
    as_of = listed(stand, None, size, NOW)
    stand.fold([[one for one in ledger if {key: one[key] for key in name} != name or "link" in one["data"]
                 or one["type"] not in links.TYPES]])  # fmt: skip
    assert (listed(stand, None, size), stand.members(), stand.observer.rows()) == with_undo
    assert listed(stand, None, size, NOW) == as_of


@pytest.mark.capability("LAW-3", "ACT-1", "IDN-5")
@hypothesis.settings(test_order.SETTINGS, max_examples=40, derandomize=True)
@hypothesis.given(data=st.data())
def test_what_is_taken_back_was_never_there(data: st.DataObject, stand: test_links.Stand) -> None:
    ledger = data.draw(ledgers())
    standing = [one for one in ledger if one["type"] in (links.MERGED, links.LINKED)]
    hypothesis.assume(standing)
    undone(stand, ledger, data.draw(st.sampled_from(standing)), data.draw(st.integers(1, 6)))


@pytest.mark.capability("ACT-1", "LAW-3")
def test_an_unmerge_takes_the_others_activities_back(stand: test_links.Stand) -> None:
    told = [
        generator.Told("mail.sent", "a", NOW - 3 * DAY, "e1"),
        generator.Told("mail.opened", "b", NOW - 2 * DAY, "e2"),
        generator.Told("contact.merged", "b", NOW - DAY, "l1", to="a"),
    ]
    ledger = [generator.envelope(one, NOW) for one in told]
    stand.fold([ledger])
    assert [(one.text, one.subject) for one in listed(stand, "a", 9)] == [
        ("Merged into contact: a", "contact:b"), ("Mail opened: m1", "contact:b"),
        ("Mail sent: m1", "contact:a"),
    ]  # fmt: skip
    assert [one.text for one in listed(stand, "a", 9, NOW - DAY - generator.MS)] == ["Mail sent: m1"]
    back = generator.Told("contact.unmerged", "b", NOW, "u1", takes_back=("urn:a", "l1"))
    stand.fold([[*ledger, generator.envelope(back, NOW)]])
    assert [one.text for one in listed(stand, "a", 9)] == ["Mail sent: m1"]
    assert [one.text for one in listed(stand, "b", 9)] == ["Mail opened: m1"]
    assert [one.contact_id for one in listed(stand, "a", 9, NOW - DAY)] == ["a"] * 3, "as of then it was one"
