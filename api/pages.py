"""Lists that are answered page by page as JSON, or whole as CSV: what they share.

Promises: the newest comes first. A page begins behind the last row of the page before, so a row stands on
one page, once, whatever is told meanwhile. CSV is read page by page too and sent as it is read: neither
memory nor a connection to the database is held by a client that reads slowly. A list that breaks off while it
is sent ends without the end that HTTP gives it, so nobody takes a part of it for the whole. A cell that a
spreadsheet would take for a formula has an apostrophe before it.

Limits: pages of one list are read one after another, each as the tables are then.

Called by `api.activity` and `api.audit`.
"""

from __future__ import annotations

import base64
import binascii
import csv
import dataclasses
import io
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Protocol

import msgspec
import structlog
from litestar import Response
from litestar.response import Stream

from api import parameters, problems
from schemas import envelope

PAGE_SIZE: Final = 100
LARGEST_PAGE: Final = 1_000
OF_CSV: Final = 2_000  # rows that are read at a time
CSV: Final = "text/csv"
FORMATS: Final = ("json", "csv")
# What every such list takes beside its filters.
PARAMETERS: Final = ("after", "format", "limit")
# Of what a cell begins with: a formula, in one spreadsheet or another.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")

Cursor = tuple[str, ...]
_log = structlog.get_logger("api")


class Listing(Protocol):
    """A list as it is asked for."""

    @property
    def name(self) -> str:
        """What its file is called."""

    @property
    def columns(self) -> Sequence[str]:
        """What of a row is shown, in order."""

    async def rows(self, after: Cursor | None, limit: int) -> list[dict[str, Any]]:
        """So many rows behind a place. Raises `Problem`, `errors.Away`."""

    def place(self, row: Mapping[str, Any]) -> Cursor:
        """Where a row stands; given back as `after`."""


@dataclasses.dataclass(frozen=True, slots=True)
class Wanted:
    """What of a list is wanted: all of it as CSV, or a page of this size; from its start or behind a row."""

    csv: bool
    after: Cursor | None
    limit: int


def read(query: Mapping[str, str], accept: str, cursor: Callable[[Cursor], Cursor]) -> Wanted:
    """What a query wants of a list; `cursor` takes a place as it was given back, or raises ValueError.

    Raises `Problem` for a page, a size or a format that is none.
    """
    wanted = _wants_csv(query, accept)
    if wanted and "limit" in query:
        raise parameters.refused("limit", "not with CSV, which is the whole list; narrow it by its filters")
    limit = parameters.number("limit", query.get("limit", str(PAGE_SIZE)), 1, LARGEST_PAGE)
    return Wanted(wanted, _read(query["after"], cursor) if "after" in query else None, limit)


def _wants_csv(query: Mapping[str, str], accept: str) -> bool:
    """Whether a list is asked for as CSV: by `format`, else by `Accept`; raises `Problem`."""
    chosen = query.get("format")
    if chosen is not None:
        if chosen not in FORMATS:
            raise parameters.refused("format", f"one of {', '.join(FORMATS)}")
        return chosen == "csv"
    taken = {one.partition(";")[0].strip().lower() for one in accept.split(",")}
    return CSV in taken and "application/json" not in taken


def window(query: Mapping[str, str]) -> dict[str, datetime]:
    """The instants that `from` (included) and `to` (not included) name, as `since` and `until`; raises
    `Problem`."""
    names = {"since": "from", "until": "to"}
    return {
        name: parameters.instant(parameter, query[parameter])
        for name, parameter in names.items()
        if parameter in query
    }


def storable(text: str) -> str:
    """A text that a database can be asked with; raises ValueError."""
    text.encode()
    if "\0" in text:
        raise ValueError(text)
    return text


async def answer(listing: Listing, wanted: Wanted, more: Mapping[str, Any]) -> dict[str, Any]:
    """A page: `items`, and `next`, which given back as `after` asks for the page behind; `more` beside them.

    Raises what the list raises.
    """
    found = await listing.rows(wanted.after, wanted.limit + 1)
    page, behind = found[: wanted.limit], len(found) > wanted.limit
    items = [{name: row[name] for name in listing.columns} for row in page]
    return {**more, "items": items, "next": _write(listing.place(page[-1])) if behind else None}


async def sheet(listing: Listing, wanted: Wanted) -> Response[Any]:
    """The whole list as CSV, or all of it behind a place; the names of the columns come first.

    Raises what the list raises before anything is sent.
    """
    first = await listing.rows(wanted.after, OF_CSV)
    headers = {"Content-Disposition": f'attachment; filename="{listing.name}.csv"'}
    return Stream(_lines(listing, first), media_type=CSV, headers=headers, status_code=200)


async def _lines(listing: Listing, page: list[dict[str, Any]]) -> AsyncIterator[bytes]:
    yield written([listing.columns])
    while True:
        yield written([row[name] for name in listing.columns] for row in page)
        if len(page) < OF_CSV:
            return
        try:
            page = await listing.rows(listing.place(page[-1]), OF_CSV)
        except Exception as error:
            _log.error("csv broke off", list=listing.name, error=type(error).__name__)
            raise


def written(rows: Iterable[Iterable[object]]) -> bytes:
    """Rows as lines of CSV (RFC 4180)."""
    out = io.StringIO()
    csv.writer(out).writerows([_cell(value) for value in row] for row in rows)
    return out.getvalue().encode()


def _cell(value: object) -> str:
    if value is None:
        return ""
    text = envelope.format_time(value) if isinstance(value, datetime) else str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text


def _write(place: Cursor) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).rstrip(b"=").decode()


def _read(text: str, cursor: Callable[[Cursor], Cursor]) -> Cursor:
    """A place that `_write` wrote for such a list."""
    try:
        padded = text.encode() + b"=" * (-len(text) % 4)
        found = msgspec.json.decode(
            base64.b64decode(padded, altchars=b"-_", validate=True), type=tuple[str, ...]
        )
        return cursor(found)
    except (ValueError, binascii.Error, msgspec.MsgspecError, problems.Problem):
        raise parameters.refused("after", "`next` of the page before, of the same list") from None
