"""Halving: a single one is found and the others are done, within a bound, however slow the server is."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence
from typing import Any, cast

import psycopg
import pytest

from projections import halving

F = 15_000  # the connection's statement_timeout, in ms


class _Slow:
    """A server that takes its time for each item, and keeps to its statement_timeout; with its clock."""

    def __init__(self, each: float, bad: Collection[int] = ()) -> None:
        self.each, self.bad = each, bad
        self.now, self.limit, self.settings = 0.0, F, 0

    def execute(self, statement: str, values: tuple[str, ...] = ()) -> Any:
        if statement == halving.LIMIT:
            self.limit, self.settings = int(values[0]), self.settings + 1
        return cast("Any", self)

    def fetchall(self) -> list[tuple[int]]:
        return [(F,)]

    @contextlib.contextmanager
    def transaction(self, *, force_rollback: bool) -> Iterator[None]:
        assert not force_rollback
        yield

    def do(self, some: Sequence[int]) -> list[int]:
        needed = sum(float("inf") if one in self.bad else self.each for one in some)
        self.now += min(needed, self.limit / 1000)
        if needed * 1000 > self.limit:
            raise psycopg.errors.QueryCanceled
        return list(some)

    def halve(self, number: int, **more: Any) -> halving.Halved[int, list[int]]:
        connection = cast("psycopg.Connection", self)
        found = halving.halve(connection, range(number), self.do, slow=True, clock=lambda: self.now, **more)
        done = [one for answer in found.answers for one in answer]
        settled = done + [one for one, _ in found.failed] + list(found.left)
        assert sorted(settled) == list(range(number)), "each is done, failed or left, once"
        assert self.limit == F, "what follows in the transaction has its time again"
        return found


def test_nothing_is_asked_while_all_goes_well() -> None:
    server = _Slow(each=0.0001)
    assert server.halve(8000).answers == [list(range(8000))]
    assert server.settings == 0
    assert server.halve(0) == halving.Halved()


@pytest.mark.parametrize("bad", [0, 1, 4711, 7999])
def test_one_slow_among_thousands_is_found_and_the_others_are_done(bad: int) -> None:
    server = _Slow(each=0.0001, bad={bad})
    found = server.halve(8000)
    assert [one for one, _ in found.failed] == [bad]
    assert not found.left
    assert server.now < 65


@pytest.mark.parametrize("each", [0.002, 0.02, 0.5, 5.0, 100.0])
def test_a_slow_server_makes_no_transaction_last(each: float) -> None:
    server = _Slow(each)
    found = server.halve(8000)
    assert server.now <= 60 + 15, "the bound, and the piece that was under way"
    assert found.answers or found.failed, "each try comes on"


@pytest.mark.parametrize("bad", [{5, 6}, {5, 6, 7, 8, 9}, range(2000), range(0, 8000, 7)])
def test_many_slow_ones_are_found_in_many_transactions(bad: Collection[int]) -> None:
    server = _Slow(each=0.0001, bad=bad)
    found = server.halve(8000)
    assert server.now <= 60 + 15
    assert found.failed
    assert {one for one, _ in found.failed} <= set(bad)


def test_a_single_one_has_all_the_time() -> None:
    """It may be slow among others and still be brought."""
    server = _Slow(each=14.0)
    assert not server.halve(2).failed


def test_unless_it_is_looked_for_who_is_slow_is_nobody_to_blame() -> None:
    server = _Slow(each=100.0)
    with pytest.raises(psycopg.errors.QueryCanceled):
        halving.halve(cast("psycopg.Connection", server), range(2), server.do)
