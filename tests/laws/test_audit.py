"""The audit log: what held before and after each change, the same in every order, by pages of any size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import hypothesis
import pytest
from hypothesis import strategies as st

from api import audit, servers
from tests.laws import generator, reader, registrar, test_order, world
from tests.oracle import changes, links

NOW = generator.NOW
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SETTINGS = {
    "setting:zone": ("UTC", "Europe/Amsterdam"),
    "setting:engagement_period_months": ("6", "12", "24"),
}
ACTORS = st.sampled_from([None, "cli:ada", "key:k0", "environment"])
WHEN = st.integers(0, 9).map(lambda back: NOW - back * generator.DAY)
Fact = dict[str, Any]


def fact(subject: str, kind: str, data: dict[str, Any], time: datetime, id: str, actor: str | None) -> Fact:
    told = generator.envelope(generator.Told(kind, subject, time, id), NOW)
    told |= {"data": data, "digest": generator.digest(kind, data)}
    return told | ({} if actor is None else {"actor": actor})


@st.composite
def decided(draw: st.DrawFn) -> Fact:
    """A fact of the registry that only Heed writes."""
    kind = draw(st.sampled_from(["setting.changed", "key.created", "key.revoked", "parked.discarded"]))
    common = draw(WHEN), draw(st.sampled_from([f"d{n}" for n in range(6)])), draw(ACTORS)
    if kind == "setting.changed":
        subject = draw(st.sampled_from(sorted(SETTINGS)))
        value = draw(st.sampled_from(SETTINGS[subject]))
        return fact(subject, kind, {"name": subject.removeprefix("setting:"), "value": value}, *common)
    if kind == "parked.discarded":
        place = {"offset": draw(st.integers(0, 1)), "part": 0, "reason": "invalid", "topic": "facts"}
        return fact(f"parked:facts/0@{place['offset']}", kind, place, *common)
    made = {"hash": "0" * 64, "name": draw(st.sampled_from(["shop", "site"])), "scopes": "access ingest"}
    return fact(f"key:k{draw(st.integers(0, 1))}", kind, made if kind == "key.created" else {}, *common)


@st.composite
def registered(draw: st.DrawFn) -> list[Fact]:
    """What stands in the registry, of everybody and of nobody."""
    told = [generator.envelope(one, NOW) for one in draw(generator.linked())]
    linked = [one | ({} if actor is None else {"actor": actor})
              for one in told if one["type"] in links.TYPES for actor in [draw(ACTORS)]]  # fmt: skip
    return [*draw(st.lists(decided(), max_size=12)), *linked]


def shown(item: Mapping[str, Any]) -> changes.Change:
    time = (item["time"] - EPOCH) // timedelta(milliseconds=1)
    return changes.Change(time, *(item[name] for name in changes.Change._fields[1:]))


def listed(observer: world.Observer, size: int, **query: str) -> list[changes.Change]:
    database = cast("servers.Database", reader.Reader(observer.connection))
    return [shown(item) for item in reader.whole(audit.asked(database, query), audit.cursor, size)]


def check(data: st.DataObject, observer: world.Observer, registry: registrar.Registrar) -> None:
    facts = data.draw(registered())
    size = data.draw(st.integers(1, 7))
    expected = changes.log(facts)
    batches: Sequence[Sequence[Fact]] = data.draw(generator.batches(data.draw(generator.orders(facts))))
    observer.clear()
    registry.begin()
    for batch in batches:
        registry.fold(*(world.encode(one) for one in batch))
    assert listed(observer, size) == expected
    actor, type_ = data.draw(ACTORS), data.draw(st.sampled_from(audit.TYPES))
    since, until = sorted(data.draw(st.tuples(WHEN, WHEN)))
    window = {"from": since.isoformat(), "to": until.isoformat(), "type": type_}
    window |= {} if actor is None else {"actor": actor}
    bounds = [(moment - EPOCH) // timedelta(milliseconds=1) for moment in (since, until)]
    assert listed(observer, size, **window) == [
        one for one in expected
        if bounds[0] <= one.time < bounds[1] and one.type == type_ and actor in (None, one.actor)
    ]  # fmt: skip


@pytest.mark.capability("ACT-2", "LAW-1")
@hypothesis.settings(test_order.SETTINGS, max_examples=60, derandomize=True)
@hypothesis.given(data=st.data())
def test_before_and_after_in_any_order_split_and_repetition(
    data: st.DataObject, observer: world.Observer, registrar: registrar.Registrar
) -> None:
    check(data, observer, registrar)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@hypothesis.settings(test_order.SETTINGS, max_examples=2_000)
@hypothesis.given(data=st.data())
def test_before_and_after_for_thousands_of_registries(
    data: st.DataObject, observer: world.Observer, registrar: registrar.Registrar
) -> None:
    check(data, observer, registrar)


@pytest.mark.capability("ACT-2")
def test_what_is_told_late_takes_its_place(observer: world.Observer, registrar: registrar.Registrar) -> None:
    days = [NOW - n * generator.DAY for n in range(4)]

    def zone(value: str, time: datetime, id: str) -> bytes:
        data = {"name": "zone", "value": value}
        return world.encode(fact("setting:zone", "setting.changed", data, time, id, "cli:ada"))

    registrar.fold(zone("UTC", days[3], "a"), zone("Asia/Tokyo", days[1], "c"))
    assert [one[4:6] for one in listed(observer, 9)] == [("UTC", "Asia/Tokyo"), (None, "UTC")]
    registrar.fold(zone("Europe/Paris", days[2], "b"))
    assert [one[4:6] for one in listed(observer, 9)] == [
        ("Europe/Paris", "Asia/Tokyo"), ("UTC", "Europe/Paris"), (None, "UTC"),
    ]  # fmt: skip
