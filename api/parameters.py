"""What comes in a query, read by the rules that all routes share.

Promises: a value that is not what the parameter takes is a `Problem` that names the parameter and says what
it takes; the value itself is never repeated.

Limits: which parameters a route takes is the route's own (`api.routing.takes_parameters`).

Called by `api.engagement_list` and `api.routes`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from api import problems
from schemas import codec, envelope


def refused(name: str, takes: str) -> problems.Problem:
    """The problem of a parameter that is not what it takes."""
    return problems.Problem(problems.WRONG_PARAMETER, f"Parameter {name}: {takes}.")


def instant(name: str, text: str) -> datetime:
    """RFC 3339 with a zone as UTC, cut to the millisecond; raises `Problem`."""
    try:
        return envelope.parse_time(text)
    except codec.Unreadable:
        raise refused(
            name,
            "an instant as RFC 3339 with a zone, of the years 1 to 9999, as 2026-01-31T09:00:00.000Z;"
            " in an address + is written %2B",
        ) from None


def number(name: str, text: str, least: int, most: int) -> int:
    """A whole number within bounds; raises `Problem`."""
    digits = text.removeprefix("-")
    if digits.isascii() and digits.isdigit() and len(digits) < 20 and least <= int(text) <= most:
        return int(text)
    raise refused(name, f"a whole number from {least} to {most}")


def text(name: str, given: str, most: int) -> str:
    """Printable characters, so many at the most; raises `Problem`."""
    if 0 < len(given) <= most and given.isprintable():
        return given
    raise refused(name, f"1 to {most} printable characters")


def one_of(name: str, given: str, known: Sequence[str]) -> str:
    """One of the words that there are; raises `Problem`, which lists them."""
    if given in known:
        return given
    raise refused(name, f"one of {', '.join(known)}")
