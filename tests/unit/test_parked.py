"""What a filter means, how a walk goes on, and what is told of records that cannot be folded; no I/O."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from api import parked as routes
from api import problems
from projections import parked, parked_again, records
from schemas import errors, events, identity, told
from streams import cli_parked
from streams import parked as driving
from tests.unit import samples

AT = datetime(2026, 1, 31, tzinfo=UTC)


def test_a_filter_says_only_what_was_asked_for() -> None:
    assert parked.Filter().empty
    assert parked.Filter().where() == ("true", {})
    which = parked.Filter(errors.Reason.FUTURE, topic="facts", before=AT)
    assert not which.empty
    assert which.where() == (
        "reason = %(reason)s and topic = %(topic)s and parked_at < %(before)s",
        {"reason": "future", "topic": "facts", "before": AT},
    )


def test_every_member_of_a_filter_is_a_condition() -> None:
    for one in dataclasses.fields(parked.Filter):
        value: Any = "x"
        which = parked.Filter(**{one.name: value})
        assert not which.empty
        where, values = which.where()
        assert f"%({one.name})s" in where
        assert values == {one.name: "x"}


class List:
    """A walk's steps over numbers, of which some stay."""

    def __init__(self) -> None:
        self.steps: list[list[int]] = []

    def step(self, ids: Sequence[int]) -> list[driving.Outcome]:
        self.steps.append(list(ids))
        return [driving.Outcome(id_, driving.DRIVEN if id_ % 2 else driving.PARKED) for id_ in ids]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parked, "AT_ONCE", 3)
    monkeypatch.setattr(driving, "MOST_OUTCOMES", 4)
    monkeypatch.setattr(parked, "newest", lambda _: 8)
    kept = range(1, 11)
    monkeypatch.setattr(
        parked, "find", lambda _, __, after, upto: [n for n in kept if after < n <= upto][: parked.AT_ONCE]
    )


@pytest.mark.usefixtures("small")
def test_a_walk_ends_where_the_newest_was_when_it_began() -> None:
    done, report = List(), driving.Report({})
    connection: Any = None
    driving.walk(connection, parked.Filter(), done.step, report)
    assert done.steps == [[1, 2, 3], [4, 5, 6], [7, 8]]
    assert report.counts == {"driven": 4, "parked": 4}
    assert [one.id for one in report.outcomes] == [1, 2, 3, 4]
    assert report.next is None


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("meant", [parked.Filter(), range(1, 9)])
def test_a_walk_that_is_stopped_goes_on_where_it_ended(meant: Any) -> None:
    done, after, connection = List(), 0, None
    nexts = []
    while True:
        report = driving.Report({})
        which: Any = connection
        driving.walk(which, meant, done.step, report, after=after, stopped=lambda: True)
        nexts.append(report.next)
        if report.next is None:
            break
        after = report.next
    assert nexts == [3, 6, 8, None]
    assert list(itertools.chain.from_iterable(done.steps)) == list(range(1, 9))


@pytest.mark.usefixtures("small")
def test_a_step_that_fails_leaves_word_of_those_before() -> None:
    done, report = List(), driving.Report({})
    connection: Any = None

    def step(ids: Sequence[int]) -> list[driving.Outcome]:
        if ids[0] > 3:
            raise errors.Away
        return done.step(ids)

    with pytest.raises(errors.Away):
        driving.walk(connection, parked.Filter(), step, report)
    assert (report.counts, report.next) == ({"driven": 2, "parked": 1}, 3)


def aside(off: int, raw: bytes = b"x") -> records.Aside:
    return records.Aside("newer_version", "told", "facts", 1, off, raw)


def test_what_is_read_again_goes_or_stays_under_its_number() -> None:
    kept = [parked.Kept(off + 100, "newer_version", "told", "facts", 1, off, b"x") for off in range(3)]
    again = parked_again.Again.of(kept)
    assert again.driven == [100, 101, 102]
    asides = [aside(1), aside(7), aside(2, b"of a topic that was made anew")]
    again.take_out(asides)
    assert (again.driven, list(again.still)) == ([100, 102], [101])
    assert [(one.off, one.raw) for one in asides] == [(7, b"x"), (2, b"of a topic that was made anew")]


def test_a_fingerprint_tells_tables_of_types_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    before = events.fingerprint()
    assert events.fingerprint() == before
    newer = events.EventType("contact.deleted", "contact-identity", version=2, struct=identity.Deleted)
    monkeypatch.setitem(events.EVENTS, "contact.deleted", newer)
    second = events.fingerprint()
    planned = events.EventType("contact.deleted", "contact-identity")
    monkeypatch.setitem(events.EVENTS, "contact.deleted", planned)
    assert len({before, second, events.fingerprint()}) == 3


@pytest.mark.parametrize(
    ("raw", "known"),
    [
        (samples.encode(samples.event("no.such")), ("e1", "urn:test", "no.such")),
        (samples.encode(samples.event("x" * 300, id=7, time="never")), (None, "urn:test", None)),
        (b"[]", (None, None, None)),
        (b"\xff", (None, None, None)),
        (b"{" * 100_000, (None, None, None)),
        (b"[" * 30_000, (None, None, None)),
        (b"", (None, None, None)),
    ],
)
def test_what_can_be_told_of_any_bytes(raw: bytes, known: tuple[str | None, ...]) -> None:
    assert told.of(raw)[:3] == known


def test_a_record_of_the_log_is_set_aside_with_what_is_told_of_it() -> None:
    kept = parked.Kept(1, "", "", "facts", 2, 3, samples.encode(samples.event("no.such")))
    large = dataclasses.replace(kept, value=samples.encode(samples.event(extra="x" * 40_000)))
    found = records.aside(kept, errors.Reason.UNKNOWN_TYPE, "told")
    assert (found.type, found.source, found.event_id) == ("no.such", "urn:test", "e1")
    assert found.event_time == datetime(2026, 11, 22, 14, 39, 46, 999_000, tzinfo=UTC)
    assert records.aside(kept, errors.Reason.UNDECODABLE, "told").type is None
    assert records.aside(large, errors.Reason.INVALID, "told").type is None


def test_the_body_of_a_walk_says_which_records() -> None:
    assert routes.wanted(b'{"ids": [3, 1]}').ids == [3, 1]
    found = routes.wanted(b'{"reason": "future", "parked_before": "2026-01-31T01:00:00+01:00"}')
    assert routes.chosen(found) == parked.Filter(errors.Reason.FUTURE, before=AT)
    assert (found.max_seconds, found.after) == (routes.SECONDS, "0")
    assert routes.chosen(routes.wanted(b'{"all": true}')).empty


@pytest.mark.parametrize("name", routes.Wanted.__struct_fields__)
def test_a_wrong_member_is_named_and_its_value_is_not(name: str) -> None:
    with pytest.raises(problems.Problem) as found:
        routes.wanted(msgspec.json.encode({"all": True, name: {"secret": 1}}))
    assert found.value.kind is problems.WRONG_VALUE
    assert f"`{name}`" in found.value.detail
    assert "secret" not in found.value.detail


@pytest.mark.parametrize(
    ("text", "seconds"), [("45s", 45), ("90m", 5400), ("12h", 43_200), ("7d", 604_800), ("0d", 0)]
)
def test_an_age_is_a_number_and_a_unit(text: str, seconds: int) -> None:
    assert cli_parked._duration("--older-than", text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "7", "d", "7w", "-1d", "1.5h", "9999999d", "7d "])
def test_no_other_age_is_taken(text: str) -> None:
    with pytest.raises(errors.Usage, match="--older-than takes"):
        cli_parked._duration("--older-than", text)
