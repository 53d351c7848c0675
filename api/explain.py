"""The facts behind each number and date of a contact's row.

Promises: a fact is listed under a field if the field's value would be another without it, and only then. What
several facts say alike (two clicks of one mailing) hangs on none of them alone: such facts stand `together`,
and without all of them the value would be another. So `frequency` is the number of mailings listed and
standing together. A single click that holds the row is behind every number, since without it there is none;
a deletion is behind the nulls of a contact that would have a row, and a restore behind the row that is back.

Limits: at most `limit` facts of a field, the newest first; `truncated` says that there are more. The facts
are those of contacts and sessions: the period is a setting, and named by the row itself; whose facts count
is a matter of links, which `heed contact` shows.

Route of `api.routes`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

import sqlalchemy as sa

from api import contacts, servers
from projections import tables

FIELDS: Final = (
    "date_first_click",
    "date_last_click",
    "recency",
    "frequency",
    "volume",
    "volume_last_30",
)
FACT: Final = ("source", "id", "type", "time")
MOST: Final = 1_000
LARGEST: Final = 10_000

_contact: Final = sa.bindparam("contact", type_=sa.Text)
_most: Final = sa.bindparam("most", type_=sa.Integer)
_as_of: Final = sa.bindparam("as_of", type_=tables.Moment)


def _behind(at: sa.ColumnElement[Any], upto: sa.ColumnElement[Any]) -> sa.Select[Any]:
    """The instant asked about, and the facts; one row of nulls when there are none."""
    asked = sa.select(at.label("t")).cte("asked")
    behind = tables.engagement_behind(_contact, asked.c.t, upto, _most)
    return (
        sa.select(asked.c.t, *behind.c)
        .select_from(asked.outerjoin(behind, sa.true()))
        .order_by(behind.c.unit, behind.c.time.desc(), behind.c.id, behind.c.source)
    )


_NOW: Final = _behind(
    sa.func.date_trunc("milliseconds", sa.func.statement_timestamp(), type_=tables.Moment), tables.FOR_EVER
)
_PAST: Final = _behind(_as_of, _as_of)


async def explain(
    database: servers.Database, contact: str, as_of: datetime | None = None, limit: int = MOST
) -> dict[str, Any]:
    """The facts behind each field, now or as of an instant; of a merged contact, those of whose it is.

    Raises `Problem` for an ill-formed id, an instant yet to come and a contact of too many facts;
    `errors.Away`.
    """
    root = await contacts.root_of(database, contact, as_of)
    if as_of is None:
        found = await database.bounded(_NOW, contact=root, most=limit)
    else:
        found = await database.bounded(_PAST, contact=root, most=limit, as_of=as_of)
    facts = [one for one in found if one["field"] is not None]
    together = {field: _together(facts, field) for field in FIELDS}
    return {
        "contact_id": root,
        **contacts.merged_into(contact, root),
        "date_calculated": found[0]["t"],
        **{
            field: [_fact(one) for one in facts if one["alone"] and one["field"] == field] for field in FIELDS
        },
        "together": {field: units for field, units in together.items() if units},
        "truncated": any(one["behind"] > limit for one in facts),
    }


def _together(facts: Iterable[Mapping[str, Any]], field: str) -> list[list[dict[str, Any]]]:
    """The facts of a field that only all together are behind it."""
    several = [one for one in facts if one["field"] == field and not one["alone"]]
    return [[_fact(one) for one in unit] for _, unit in groupby(several, itemgetter("unit"))]


def _fact(found: Mapping[str, Any]) -> dict[str, Any]:
    return {name: found[name] for name in FACT}
