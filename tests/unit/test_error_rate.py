"""Errors of single contacts stop nobody; errors of many stop the process."""

from __future__ import annotations

import pytest

from projections import error_rate
from schemas import errors


def names(number: int, prefix: str = "c") -> list[str]:
    return [f"{prefix}{n}" for n in range(number)]


def test_single_contacts_stop_nobody() -> None:
    rate = error_rate.ErrorRate()
    for number in range(200):
        rate.add(1_000, names(10, f"{number}-"))


def test_one_contact_tried_for_ever_is_one_contact() -> None:
    rate = error_rate.ErrorRate()
    for _ in range(20_000):
        rate.add(1, ["ada"])


def test_more_than_one_in_a_hundred_stops_the_process() -> None:
    rate = error_rate.ErrorRate()
    rate.add(9_000, names(89))
    with pytest.raises(error_rate.TooManyErrors) as stopped:
        rate.add(1_000, names(12, "d"))
    assert isinstance(stopped.value, errors.Doubt)
    assert "1 %" in str(stopped.value)


def test_fewer_than_a_hundred_never_do() -> None:
    rate = error_rate.ErrorRate()
    for contact in names(99):
        rate.add(1, [contact])
    with pytest.raises(error_rate.TooManyErrors):
        rate.add(1, ["the hundredth"])


def test_what_is_long_past_is_forgotten() -> None:
    rate = error_rate.ErrorRate(window=1_000, least=10)
    for number in range(5):
        rate.add(900, names(9, f"{number}-"))
        rate.add(1_000, [])
    rate.add(0, [])
    with pytest.raises(error_rate.TooManyErrors):
        rate.add(50, names(11))
