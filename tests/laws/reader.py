"""The lists of the API read in a law test: its own statements, without a pool and without HTTP.

Called by the law tests.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import psycopg
from psycopg import rows
from sqlalchemy.dialects.postgresql import psycopg as dialects
from sqlalchemy.sql import ClauseElement

from api import pages

_DIALECT = dialects.dialect()  # type: ignore[no-untyped-call]


class Reader:
    """What lists use of `api.servers.Database`, over one connection."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection

    async def rows(self, statement: ClauseElement, **values: object) -> list[dict[str, Any]]:
        compiled = statement.compile(dialect=_DIALECT)
        with self._connection.cursor(row_factory=rows.dict_row) as cursor:
            named = {**compiled.params, **values}
            return cursor.execute(str(compiled).encode(), named, prepare=False).fetchall()

    bounded = rows


def whole(
    listing: pages.Listing, cursor: Callable[[pages.Cursor], pages.Cursor], size: int
) -> list[dict[str, Any]]:
    """A list, read by pages of this size, each asked for by what the page before answered."""

    async def read() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        query = {"limit": str(size)}
        while True:
            page = await pages.answer(listing, pages.read(query, "", cursor), {})
            found += page["items"]
            assert len(page["items"]) == size or page["next"] is None
            if page["next"] is None:
                return found
            query["after"] = page["next"]

    return asyncio.run(read())
