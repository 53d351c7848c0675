"""Contacts by their engagement: filtered by any column, sorted by any column, page by page.

Promises: a list is right at the instant of its answer: rows past their time are computed to it, and filtered
and sorted by what they are then. A page begins behind the last row of the page before, by the sorted value
and the contact's id, so a row that has not changed stands on one page, once, whatever changes beside it.
`recency` is sorted by the click itself: rows of one recency stand in the order of their last click. Who
never clicked counts as having clicked longest ago.

Limits: a list takes at most `servers.BOUNDED_SECONDS`; `docs/operations.md` names the pairs of filter and
sort that are fast on a million contacts. At most `MOST_DUE` rows past their time are computed: with more,
timers are behind, and a problem says so.

Route of `api.routes`.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from api import engagement, parameters, problems, servers
from projections import tables
from schemas import envelope, identity

PAGE_SIZE: Final = 100
LARGEST_PAGE: Final = 1_000
MOST_DUE: Final = 5_000
LARGEST_NUMBER: Final = 2**31 - 1
LARGEST_RECENCY: Final = 1_000_000

DATES: Final = ("date_first_click", "date_last_click")
NUMBERS: Final = ("frequency", "volume", "volume_last_30", "period_months")
COLUMNS: Final = ("contact_id", *DATES, "recency", *NUMBERS)
COMPARE: Final[Mapping[str, Callable[[Any, Any], sa.ColumnElement[bool]]]] = {
    "": lambda column, value: column == value,
    "_gte": lambda column, value: column >= value,
    "_gt": lambda column, value: column > value,
    "_lte": lambda column, value: column <= value,
    "_lt": lambda column, value: column < value,
}
FILTERS: Final = tuple(column + suffix for column in COLUMNS for suffix in COMPARE)
PARAMETERS: Final = (*FILTERS, "sort", "after", "limit")

# An expression, not a parameter, so that the planner can tell how many rows a bound leaves.
_now: Final = sa.func.date_trunc("milliseconds", sa.func.statement_timestamp(), type_=tables.Moment)
_Value = str | int | datetime | None
_Row = Any  # the columns of a stored row, or of a computed one


@dataclass(frozen=True, slots=True)
class Asked:
    """A list as it is asked for; `after` is the sorted value and the contact of the last row seen."""

    filters: tuple[tuple[str, str, _Value], ...]
    sort: str
    falling: bool
    after: tuple[_Value, str] | None
    limit: int


def read_query(query: Mapping[str, str]) -> Asked:
    """What a query asks for; raises `Problem` for a value that its parameter does not take."""
    sort = query.get("sort", "contact_id")
    column = sort.removeprefix("-")
    if column not in COLUMNS:
        raise parameters.refused("sort", f"one of {', '.join(COLUMNS)}, with - before it to fall")
    limit = parameters.number("limit", query.get("limit", str(PAGE_SIZE)), 1, LARGEST_PAGE)
    filters = tuple(_filters({name: text for name, text in query.items() if name in FILTERS}))
    after = None if "after" not in query else _read_cursor(sort, query["after"])
    return Asked(filters, column, sort != column, after, limit)


def _filters(query: Mapping[str, str]) -> Iterator[tuple[str, str, _Value]]:
    for name, text in query.items():
        column = next(one for one in COLUMNS if name in {one + suffix for suffix in COMPARE})
        yield column, name.removeprefix(column), _value(name, column, text)


def _value(name: str, column: str, text: str) -> _Value:
    if column in DATES:
        return parameters.instant(name, text)
    if column == "contact_id":
        if identity.is_contact_id(text) is None:
            raise parameters.refused(name, "1 to 64 of the characters A-Z a-z 0-9 _ . ~ -")
        return text
    most = LARGEST_RECENCY if column == "recency" else LARGEST_NUMBER
    return parameters.number(name, text, 0, most)


def _write_cursor(asked: Asked, row: Mapping[str, Any]) -> str:
    column = "date_last_click" if asked.sort == "recency" else asked.sort
    value = row[column]
    if isinstance(value, datetime):
        value = envelope.format_time(value)
    written = msgspec.json.encode((("-" if asked.falling else "") + asked.sort, value, row["contact_id"]))
    return base64.urlsafe_b64encode(written).rstrip(b"=").decode()


def _read_cursor(sort: str, text: str) -> tuple[_Value, str]:
    """The sorted value and the contact of the last row seen, written by `_write_cursor` for the same sort."""
    refused = parameters.refused("after", "`next` of the page before, with the same sort")
    try:
        padded = text.encode() + b"=" * (-len(text) % 4)
        of, value, contact = msgspec.json.decode(
            base64.b64decode(padded, altchars=b"-_", validate=True), type=tuple[str, str | int | None, str]
        )
    except (ValueError, binascii.Error, msgspec.MsgspecError):
        raise refused from None
    column = sort.removeprefix("-")
    if of != sort or identity.is_contact_id(contact) is None:
        raise refused
    if value is None and column in (*DATES, "recency"):
        return None, contact
    if not isinstance(value, int if column in NUMBERS else str):
        raise refused
    try:
        if column in NUMBERS:
            return parameters.number("after", str(value), 0, LARGEST_NUMBER), contact
        if column in (*DATES, "recency"):
            return parameters.instant("after", str(value)), contact
    except problems.Problem:
        raise refused from None
    return contact, contact


def _holds(row: _Row, column: str, suffix: str, value: _Value) -> sa.ColumnElement[bool]:
    """A filter as a condition on a row; what is null passes none."""
    if column == "recency":
        assert isinstance(value, int)
        return _recency(row.date_last_click, suffix, value)
    return COMPARE[suffix](row[column], sa.literal(value, row[column].type))


def _recency(click: sa.ColumnElement[Any], suffix: str, days: int) -> sa.ColumnElement[bool]:
    """A filter on recency as bounds of the last click, so that an index can serve it.

    Whole days since a click are at least n when it is n times 24 hours old, for n above 0; always for 0.
    """

    def old(least: int) -> sa.ColumnElement[bool]:
        hours = sa.func.make_interval(0, 0, 0, 0, 24 * least)
        return click.is_not(None) if least <= 0 else click <= _now - hours

    def young(most: int) -> sa.ColumnElement[bool]:
        return sa.false() if most < 0 else click > _now - sa.func.make_interval(0, 0, 0, 0, 24 * (most + 1))

    match suffix:
        case "_gte":
            return old(days)
        case "_gt":
            return old(days + 1)
        case "_lte":
            return young(days)
        case "_lt":
            return young(days - 1)
        case _:
            return sa.and_(old(days), young(days))


def _order(asked: Asked, row: _Row) -> list[sa.ColumnElement[Any]]:
    """The sorted column, then the contact; a null date lies before every date."""
    if asked.sort == "contact_id":
        return [row.contact_id.desc() if asked.falling else row.contact_id]
    column = row["date_last_click" if asked.sort == "recency" else asked.sort]
    falls = asked.falling != (asked.sort == "recency")  # the longer ago a click, the greater its recency
    first = column.desc() if falls else column.asc()
    if asked.sort in (*DATES, "recency"):
        first = first.nulls_last() if falls else first.nulls_first()
    return [first, row.contact_id]


def _behind(asked: Asked, row: _Row) -> list[sa.ColumnElement[bool]]:
    """The rows behind the last one seen, as conditions that each are one range of an index, in order."""
    if asked.after is None:
        return [sa.true()]
    value, contact = asked.after
    later = row.contact_id > contact
    if asked.sort == "contact_id":
        return [row.contact_id < contact if asked.falling else later]
    column = row["date_last_click" if asked.sort == "recency" else asked.sort]
    falls = asked.falling != (asked.sort == "recency")
    if value is None:
        same = sa.and_(column.is_(None), later)
        return [same] if falls else [same, column.is_not(None)]
    last = sa.literal(value, column.type)
    if (asked.sort, "") in {(of, suffix) for of, suffix, _ in asked.filters if of != "recency"}:
        return [sa.and_(column == last, later)]  # asked for one value: there is nothing behind it
    ranges = [sa.and_(column == last, later), column < last if falls else column > last]
    return [*ranges, column.is_(None)] if falls and asked.sort in (*DATES, "recency") else ranges


def _statement(asked: Asked) -> sa.Select[Any]:
    """How many rows are past their time, and with each (or alone, with nulls) a row of the page."""
    shown = [name for name in COLUMNS if name != "recency"]
    stored = tables.engagement
    due = (
        sa.select(stored.c.contact_id)
        .where(stored.c.home == sa.func.any(sa.bindparam("homes", type_=postgresql.ARRAY(sa.SmallInteger))))
        .where(stored.c.valid_until <= _now)
        .limit(MOST_DUE + 1)
        .cte("due")
    )
    many = sa.select(sa.func.count()).select_from(due).scalar_subquery()
    computed = tables.engagement_at(due.c.contact_id, _now)
    parts: list[sa.Select[Any]] = []
    for row, of, condition in (
        (stored.c, stored, stored.c.valid_until > _now),
        (computed.c, due.join(computed, sa.true()), many <= MOST_DUE),
    ):
        conditions = [condition, *(_holds(row, *one) for one in asked.filters)]
        parts += [
            sa.select(*(row[name] for name in shown))
            .select_from(of)
            .where(*conditions, behind)
            .order_by(*_order(asked, row))
            .limit(asked.limit + 1)
            for behind in _behind(asked, row)
        ]
    rows = sa.union_all(*(sa.select(part.subquery()) for part in parts)).subquery("rows")
    page = sa.select(rows).order_by(*_order(asked, rows.c)).limit(asked.limit + 1).subquery("page")
    counted = sa.select(many.label("due"), _now.label("now")).subquery("counted")
    return (
        sa.select(counted, page)
        .select_from(counted.outerjoin(page, sa.true()))
        .order_by(*_order(asked, page.c))
    )


async def find(database: servers.Database, asked: Asked, homes: int) -> dict[str, Any]:
    """A page of rows, each under the names of the view; `next`, given back as `after`, asks for the next.

    Raises `Problem` for a list that takes too long and when too many rows are past their time;
    `errors.Away`.
    """
    found = await database.bounded(_statement(asked), homes=list(range(homes)))
    if found[0]["due"] > MOST_DUE:
        raise problems.Problem(
            problems.TOO_MUCH_DUE,
            f"More than {MOST_DUE:,} rows are past their time: timers are behind or off.",
        )
    rows = [row for row in found if row["contact_id"] is not None]
    page, more = rows[: asked.limit], len(rows) > asked.limit
    items = [engagement.answer(row["contact_id"], row, row["period_months"], row["now"]) for row in page]
    return {"items": items, "next": _write_cursor(asked, page[-1]) if more else None}
