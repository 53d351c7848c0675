"""The audit log: what people and keys changed, who, when, and what held before and after (ACT-2).

Promises: every fact of the registry that names its actor: settings, keys, parked records discarded, contacts
merged and parted, sessions linked and unlinked; first values, too, which the environment gave. `before` and
`after` are what held by the facts before it and with it, in the order of (time, id): they are worked out when
they are read, by the SQL function `change_of`, so what is told late takes its place and changes what comes
after it.

Limits: a merge or a link that came by Kafka names nobody and is not listed. Nothing else about a subject is
shown; a contact stays by its id.

Route of `api.routes_lists`; `heed audit` asks the same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from api import pages, parameters, servers
from projections import tables
from schemas import envelope, events

COLUMNS: Final = ("time", "accepted", "actor", "type", "about", "before", "after", "source", "id")
FILTERS: Final = ("actor", "type", "about", "from", "to")
PARAMETERS: Final = (*FILTERS, *pages.PARAMETERS)
LONGEST: Final = 256

TYPES: Final = tuple(event.name for event in events.registered())

# Purpose: changes that somebody made, the newest first, in the page's own order; only those of the page are
# asked what they changed.
_PAGE: Final = """
select p.time, p.accepted, p.actor, p.type, p.subject as about, c.before, c.after, p.source, p.id
from (
    select r.* from heed_data.registry r where {conditions}
    order by r.time desc, r.id desc, r.source desc, r.subject desc limit :limit
) p
cross join lateral heed_data.change_of(p.subject, p.key) c
order by p.time desc, p.id desc, p.source desc, p.subject desc
"""
_CONDITIONS: Final = {
    "actor": "r.actor = :actor",
    "type": "r.type = :type",
    "about": "r.subject = :about",
    "since": "r.time >= :since",
    "until": "r.time < :until",
}
_BEHIND: Final = "(r.time, r.id, r.source, r.subject) < (:time, :id, :source, :subject)"


@dataclasses.dataclass(frozen=True, slots=True)
class Changes:
    """The changes that a query asks for (`pages.Listing`); `filters` by the names of `_CONDITIONS`."""

    database: servers.Database
    filters: Mapping[str, str | datetime]
    name: str = "audit"
    columns: tuple[str, ...] = COLUMNS

    async def rows(self, after: pages.Cursor | None, limit: int) -> list[dict[str, Any]]:
        """So many changes behind a place. Raises `Problem` when it takes too long, `errors.Away`."""
        conditions = ["r.actor is not null", *(_CONDITIONS[name] for name in self.filters)]
        values: dict[str, object] = {**self.filters, "limit": limit}
        if after is not None:
            conditions.append(_BEHIND)
            at = envelope.parse_time(after[0])
            values |= {"time": at, **dict(zip(("id", "source", "subject"), after[1:], strict=True))}
        statement = sa.text(_PAGE.format(conditions=" and ".join(conditions)))
        moments = [
            sa.bindparam(name, type_=tables.Moment) for name in ("since", "until", "time") if name in values
        ]
        return await self.database.bounded(statement.bindparams(*moments), **values)

    def place(self, row: Mapping[str, Any]) -> pages.Cursor:
        return envelope.format_time(row["time"]), row["id"], row["source"], row["about"]


def cursor(parts: pages.Cursor) -> pages.Cursor:
    """A place of such a list as a caller gave it back; raises `Problem`, ValueError."""
    time, *names = parts
    if len(names) != 3:
        raise ValueError(parts)
    return envelope.format_time(parameters.instant("after", time)), *(pages.storable(one) for one in names)


def asked(database: servers.Database, query: Mapping[str, str]) -> Changes:
    """What a query asks for; raises `Problem` for a value that its parameter does not take."""
    found: dict[str, str | datetime] = {
        name: parameters.text(name, query[name], LONGEST) for name in ("actor", "about") if name in query
    }
    if "type" in query:
        found["type"] = parameters.one_of("type", query["type"], TYPES)
    return Changes(database, found | pages.window(query))
