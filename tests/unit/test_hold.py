"""What keeps mail from an address, worked out from facts alone; on the edges of its rules."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import pytest

from schemas import events, hold, mail

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
MS = timedelta(milliseconds=1)
RULES = hold.Rules()
pytestmark = pytest.mark.capability("IDN-2")


def bounce(days: float, kind: str = "soft", email: str | None = "ada@example.org", **more: str) -> hold.Told:
    content = mail.Bounced(kind=kind, mailing_id="m1", email=email)  # type: ignore[arg-type]
    return told(NOW + days * DAY, content, **more)


def word(
    days: float, on: bool, kind: str = "hold", email: str | None = "ada@example.org", **more: str
) -> hold.Told:
    content = hold.HoldChanged(kind=kind, on=on, email=email)  # type: ignore[arg-type]
    return told(NOW + days * DAY, content, **more)


def told(time: datetime, content: hold.HoldChanged | mail.Bounced, **more: str) -> hold.Told:
    given = {"subject": "contact:ada", "source": "urn:a", "id": f"e{time.isoformat()}", **more}
    return hold.Told(time=time, actor=None, content=content, **given)


def holding(*told: hold.Told, kind: str = "hold") -> list[tuple[str, hold.Because, datetime]]:
    """What holds, the same in every order of arrival."""
    answers = [hold.standing(order, RULES) for order in itertools.permutations(told[:5])]
    if len(told) > 5:
        answers = [hold.standing(told, RULES), hold.standing(told[::-1], RULES)]
    assert all(one == answers[0] for one in answers)
    assert set(answers[0]) == set(hold.KINDS)
    return [(one.told.whom, one.because, one.told.time) for one in answers[0][kind]]


def test_a_hard_bounce_is_enough_and_a_soft_one_is_not() -> None:
    assert holding(bounce(0, "hard")) == [("ada@example.org", hold.Because.HARD, NOW)]
    assert holding(bounce(0)) == []


@pytest.mark.parametrize(("last", "holds"), [(30.0, True), (30 + 1 / 86_400_000, False)])
def test_five_soft_ones_within_thirty_days_do_ends_included(last: float, holds: bool) -> None:
    four = [bounce(day) for day in (0, 1, 2, 3)]
    found = holding(*four, bounce(last))
    assert bool(found) is holds
    if holds:
        assert found == [("ada@example.org", hold.Because.SOFT, NOW + 30 * DAY)]
    assert holding(*four) == []


def test_the_first_window_that_is_full_begins_it_however_long_the_wait_before() -> None:
    days = [0, 40, 50, 60, 69, 70, 71, 72]
    assert holding(*(bounce(day) for day in days)) == [("ada@example.org", hold.Because.SOFT, NOW + 70 * DAY)]


def test_what_is_lifted_counts_no_more_and_what_comes_later_does() -> None:
    assert holding(bounce(0, "hard"), word(1, False)) == []
    assert holding(bounce(2, "hard"), word(1, False)) == [
        ("ada@example.org", hold.Because.HARD, NOW + 2 * DAY)
    ]
    assert holding(*(bounce(day) for day in (0, 1, 2, 3, 5)), word(4, False)) == []
    assert holding(word(0, True), word(1, False), word(2, True)) == [
        ("ada@example.org", hold.Because.TOLD, NOW + 2 * DAY)
    ]


def test_of_one_instant_the_greater_id_is_the_later() -> None:
    assert holding(word(0, True, id="a"), word(0, False, id="b")) == []
    assert holding(word(0, True, id="b"), word(0, False, id="a")) != []


def test_kinds_and_addresses_are_apart_and_an_address_is_one_however_it_is_written() -> None:
    told = [word(0, True, "opt_out"), word(1, False, "do_not_email"), bounce(2, "hard", "bob@example.org")]
    assert holding(*told, kind="opt_out") == [("ada@example.org", hold.Because.TOLD, NOW)]
    assert holding(*told, kind="do_not_email") == []
    assert [one[0] for one in holding(*told)] == ["bob@example.org"]
    assert holding(bounce(0, "hard", " Ada@EXAMPLE.org"), word(1, False)) == []
    assert (
        holding(bounce(0, "hard", "ada@bücher.example"), word(1, False, email="ADA@xn--bcher-kva.EXAMPLE"))
        == []
    )
    assert (
        holding(bounce(0, "hard", "zoe\u0308@example.org"), word(1, False, email="zo\u00eb@example.org"))
        == []
    )


def test_of_who_belongs_together_each_word_without_an_address_stands_until_it_is_lifted_itself() -> None:
    hers, his = "contact:ada", "contact:bob"
    told = [word(0, True, "opt_out", None, subject=his), word(1, False, "opt_out", None, subject=hers)]
    assert [one[0] for one in holding(*told, kind="opt_out")] == [his]
    assert holding(*told, word(2, False, "opt_out", None, subject=his), kind="opt_out") == []
    assert holding(word(0, True, subject=his), word(1, False, subject=hers)) == []
    assert [one[0] for one in holding(bounce(0, "hard", None, subject=his))] == [his]


def test_its_address_is_sealed_and_the_rest_stands_open() -> None:
    event = events.EVENTS["contact.hold_changed"]
    assert event.personal == ("email",) and event.subjects == ("contact:",) and event.attributed
