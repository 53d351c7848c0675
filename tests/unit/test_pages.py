"""Lists by pages and as CSV: what is asked for, what is guarded, how one ends that breaks off."""

from __future__ import annotations

import asyncio
import csv
import dataclasses
import io
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from litestar.response import Stream

from api import pages, problems
from schemas import errors

NOW = datetime(2026, 1, 31, 9, 0, 0, 123_000, UTC)


@dataclasses.dataclass
class Numbers:
    """A list of so many numbers, the greatest first; `asked` are the limits that it was read with."""

    many: int
    broken_below: int = -1
    name: str = "numbers"
    columns: tuple[str, ...] = ("number", "text")
    asked: list[int] = dataclasses.field(default_factory=list)

    async def rows(self, after: pages.Cursor | None, limit: int) -> list[dict[str, Any]]:
        self.asked.append(limit)
        first = self.many - 1 if after is None else int(after[0]) - 1
        if first < self.broken_below:
            raise errors.Away
        return [{"number": n, "text": f"={n}", "key": n} for n in range(first, max(-1, first - limit), -1)]

    def place(self, row: Mapping[str, Any]) -> pages.Cursor:
        return (str(row["number"]),)


def cursor(parts: pages.Cursor) -> pages.Cursor:
    (number,) = parts
    return (str(int(number)),)


def page(listing: pages.Listing, **query: str) -> dict[str, Any]:
    return asyncio.run(pages.answer(listing, pages.read(query, "", cursor), {"merged_into": "ada"}))


def sheet(listing: pages.Listing, **query: str) -> list[bytes]:
    async def read() -> list[bytes]:
        answer = await pages.sheet(listing, pages.read({"format": "csv", **query}, "", cursor))
        assert isinstance(answer, Stream)
        return [chunk async for chunk in cast("AsyncIterator[bytes]", answer.iterator)]

    return asyncio.run(read())


@given(many=st.integers(0, 30), size=st.integers(1, 12))
def test_pages_joined_are_the_whole(many: int, size: int) -> None:
    listing, found, query = Numbers(many), [], {"limit": str(size)}
    while True:
        answer = page(listing, **query)
        assert list(answer) == ["merged_into", "items", "next"]
        found += [one["number"] for one in answer["items"]]
        if answer["next"] is None:
            break
        query["after"] = answer["next"]
    assert found == list(range(many - 1, -1, -1))
    assert len(listing.asked) == max(1, -(-many // size))


@pytest.mark.parametrize("many", [0, 1, pages.OF_CSV - 1, pages.OF_CSV, pages.OF_CSV + 1, 3 * pages.OF_CSV])
def test_csv_is_the_whole_read_in_bounded_pieces(many: int) -> None:
    listing = Numbers(many)
    chunks = sheet(listing)
    lines = list(csv.reader(io.StringIO(b"".join(chunks).decode())))
    assert lines == [["number", "text"], *([str(n), f"'={n}"] for n in range(many - 1, -1, -1))]
    assert set(listing.asked) == {pages.OF_CSV}
    assert max(chunk.count(b"\r\n") for chunk in chunks) <= pages.OF_CSV


def test_csv_goes_on_behind_a_page_and_takes_no_limit() -> None:
    after = page(Numbers(9), limit="4")["next"]
    assert sheet(Numbers(9), after=after)[1].startswith(b"4,")
    with pytest.raises(problems.Problem, match="limit"):
        sheet(Numbers(9), limit="4")


def test_csv_that_breaks_off_does_not_end_as_if_it_were_whole() -> None:
    with pytest.raises(errors.Away):
        sheet(Numbers(2 * pages.OF_CSV, broken_below=5_000))
    listing = Numbers(2 * pages.OF_CSV, broken_below=pages.OF_CSV)

    chunks: list[bytes] = []

    async def read() -> None:
        answer = cast("Stream", await pages.sheet(listing, pages.Wanted(csv=True, after=None, limit=1)))
        async for chunk in cast("AsyncIterator[bytes]", answer.iterator):
            chunks.append(chunk)  # noqa: PERF401  what came before it broke off stays

    with pytest.raises(errors.Away):
        asyncio.run(read())
    assert b"".join(chunks).count(b"\r\n") == 1 + pages.OF_CSV


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (None, ""),
        (NOW, "2026-01-31T09:00:00.123Z"),
        ("ada", "ada"),
        ("=1+1", "'=1+1"),
        ("+4930", "'+4930"),
        ("-2", "'-2"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\tx", "'\tx"),
        ("\rx", "'\rx"),
        ("\n=x", "'\n=x"),
        ("＝1", "'＝1"),
        ("a=b", "a=b"),
        ('say "hi", you\nthere', 'say "hi", you\nthere'),
    ],
)
def test_a_cell_is_no_formula(value: object, cell: str) -> None:
    assert list(csv.reader(io.StringIO(pages.written([[value, "x"]]).decode(), newline=""))) == [[cell, "x"]]


@pytest.mark.parametrize(
    ("format", "accept", "csv"),
    [
        (None, "", False),
        (None, "*/*", False),
        (None, "text/csv", True),
        (None, "Text/CSV;q=0.9, */*;q=0.1", True),
        (None, "application/json, text/csv", False),
        (None, "text/html,application/xhtml+xml,*/*;q=0.8", False),
        ("json", "text/csv", False),
        ("csv", "application/json", True),
    ],
)
def test_csv_is_asked_for_by_format_or_by_accept(format: str | None, accept: str, csv: bool) -> None:
    query = {} if format is None else {"format": format}
    assert pages.read(query, accept, cursor).csv is csv


@pytest.mark.parametrize("after", ["", "x", "====", "bnVsbA", "WyJhIl0", "WyIxIiwiMiJd", "\ud800", "é"])
def test_a_place_that_never_was_one_is_refused(after: str) -> None:
    with pytest.raises(problems.Problem, match="Parameter after"):
        page(Numbers(3), after=after)


@pytest.mark.parametrize("limit", ["0", "-1", "1001", "x", "1.0", ""])
def test_a_page_has_a_size(limit: str) -> None:
    with pytest.raises(problems.Problem, match="Parameter limit"):
        page(Numbers(3), limit=limit)


def test_a_window_of_time() -> None:
    assert pages.window({"from": "2026-01-31T10:00:00.123+01:00"}) == {"since": NOW}
    assert pages.window({"to": "2026-01-31T09:00:00.123Z", "actor": "x"}) == {"until": NOW}
    with pytest.raises(problems.Problem, match="Parameter to"):
        pages.window({"to": "tomorrow"})
