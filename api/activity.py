"""The timeline of a contact, and of all contacts: what happened, with what belongs to it (ACT-1).

Promises: an activity is a fact, read through who belongs to whom, so nothing is kept twice: a merge brings
along what happened to the other, an un-merge gives it back, and neither stands there then (LAW-3). What is
deleted is not shown, nor what consent withholds, by the rules of the rows; test sends are in no timeline. As
of T: what was dated until then, by today's knowledge (LAW-5). The newest comes first; of one instant the
greatest key of the fact (BLAKE2b-128 of source, NUL, id, under which the tables keep it).

Limits: at most `servers.BOUNDED_SECONDS` a page. A page costs as much as reading the contact's facts from an
index, however far behind it lies; that of all contacts as much as reading every fact.

Routes of `api.routes_lists`; `heed contact activity` asks the same.
"""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from api import contacts, pages, parameters, servers
from projections import tables
from schemas import activity, envelope

COLUMNS: Final = (
    "contact_id", "time", "type", "action", "feature", "text", "status", "actor", "event_type", "source",
    "event_id", "subject",
)  # fmt: skip
WORDS: Final = {
    "type": activity.TYPES,
    "action": activity.ACTIONS,
    "feature": activity.FEATURES,
    "status": activity.STATUSES,
}
FILTERS: Final = (*WORDS, "actor", "from", "to", "as_of")
PARAMETERS: Final = (*FILTERS, *pages.PARAMETERS)
LONGEST: Final = 256

# Purpose: the types of facts that are asked for, and those of them that no consent withholds; and whether any
# of them are of the one table, or of the other, which need not be looked at else.
_KINDS: Final = """
with kinds as materialized (
    select array_agg(k.event_type) as types, array_agg(k.event_type) filter (where not k.behaviour) as plain,
        bool_or(not k.registered) as of_facts, bool_or(k.registered) as of_links
    from heed_data.activity_kind k where {kinds}
)
"""
# Purpose: where the facts and links of one contact lie, of its page. `offset 0` keeps the planner at reading
# subject by subject, by index alone, however many facts others have.
_OF_ONE: Final = """
, shown as materialized (
    select case when s.behaviour then k.types else k.plain end as types
    from kinds k cross join heed_data.contact_shown(:contact, :upto) s
), told as materialized (
    select t.subject, s.types
    from shown s
    cross join heed_data.subjects_of(:contact, :upto) t(subject)
    cross join lateral heed_data.subject_shown(t.subject, :upto)
), page as materialized (
    select p.* from (
        (select :contact as contact_id, f.subject, f.key, f.time, 0 as registered
        from told t
        cross join lateral (
            select f.subject, f.key, f.time from heed_data.fact f
            where f.subject = t.subject and f.type = any(t.types) and not f.test and {fact} offset 0
        ) f
        where (select k.of_facts from kinds k)
        order by f.time desc, f.key desc, f.subject desc limit :limit)
        union all
        (select :contact, l.subject, l.key, l.time, 1
        from told t
        cross join lateral (
            select l.subject, l.key, l.time from heed_data.registry l
            where l.subject = t.subject and l.target is not null and l.type = any(t.types) and {link} offset 0
        ) l
        where (select k.of_links from kinds k)
        order by l.time desc, l.key desc, l.subject desc limit :limit)
    ) p
    order by p.time desc, p.key desc, p.subject desc, p.registered desc limit :limit
)
"""
# Purpose: the same of all contacts.
_OF_ALL: Final = """
, page as materialized (
    select p.* from (
        (select substr(r.root, 9) as contact_id, f.subject, f.key, f.time, 0 as registered
        from heed_data.fact f
        cross join lateral (select {root_of_fact} as root) r
        cross join lateral heed_data.subject_shown(f.subject, :upto)
        cross join lateral heed_data.contact_shown(substr(r.root, 9), :upto) s
        where (select k.of_facts from kinds k) and starts_with(r.root, 'contact:')
            and f.type = any((select k.types from kinds k)::text[])
            and (s.behaviour or f.type = any((select k.plain from kinds k)::text[])) and not f.test and {fact}
        order by f.time desc, f.key desc, f.subject desc limit :limit)
        union all
        (select substr(r.root, 9), l.subject, l.key, l.time, 1
        from heed_data.registry l
        cross join lateral (select {root_of_link} as root) r
        cross join lateral heed_data.subject_shown(l.subject, :upto)
        cross join lateral heed_data.contact_shown(substr(r.root, 9), :upto) s
        where (select k.of_links from kinds k) and starts_with(r.root, 'contact:') and l.target is not null
            and l.type = any((select k.types from kinds k)::text[])
            and (s.behaviour or l.type = any((select k.plain from kinds k)::text[])) and {link}
        order by l.time desc, l.key desc, l.subject desc limit :limit)
    ) p
    order by p.time desc, p.key desc, p.subject desc, p.registered desc limit :limit
)
"""
_ROOT_NOW: Final = """coalesce((
    select m.root from heed_data.member m where m.subject = {of}.subject), {of}.subject)"""
_ROOT_THEN: Final = "heed_data.root_at({of}.subject, :upto)"
# Purpose: what the page's lines say.
_LINES: Final = """
select p.contact_id, p.time, k.type, k.action, k.feature,
    heed_data.activity_text(k.text, k.told, t.mailing, t.target, t.data) as text, k.status, t.actor,
    t.type as event_type, t.source, t.id as event_id, p.subject, p.key, p.registered
from page p
cross join lateral (
    select f.type, f.source, f.id, f.actor, f.mailing, null as target, f.data from heed_data.fact f
    where p.registered = 0 and f.subject = p.subject and f.key = p.key
    union all
    select l.type, l.source, l.id, l.actor, null, l.target, l.data::text from heed_data.registry l
    where p.registered = 1 and l.subject = p.subject and l.key = p.key
    offset 0
) t
join heed_data.activity_kind k on k.event_type = t.type
order by p.time desc, p.key desc, p.subject desc, p.registered desc
"""
_CONDITIONS: Final = {
    "actor": "{of}.actor = :actor",
    "since": "{of}.time >= :since",
    "until": "{of}.time < :until",
}
_STANDS: Final = """not exists (
    select from heed_data.registry u
    where u.subject = l.subject and u.undoes = l.key and u.time <= :upto offset 0)"""
_CLOCK: Final = sa.text("select statement_timestamp() as clock")


@dataclasses.dataclass(frozen=True, slots=True)
class Timeline:
    """The activities that a query asks for (`pages.Listing`), of one contact, which belongs to no other at
    `as_of`, or of all; `filters` by the names of `WORDS` and `_CONDITIONS`."""

    database: servers.Database
    contact: str | None
    filters: Mapping[str, str | datetime]
    as_of: datetime | None
    name: str = "activity"
    columns: tuple[str, ...] = COLUMNS

    async def rows(self, after: pages.Cursor | None, limit: int) -> list[dict[str, Any]]:
        """So many activities behind a place. Raises `Problem` when it takes too long, `errors.Away`."""
        conditions = [
            "{of}.time <= :upto",
            *(_CONDITIONS[name] for name in self.filters if name not in WORDS),
        ]
        values: dict[str, object] = {**self.filters, "limit": limit, "upto": self.as_of or "infinity"}
        if after is not None:
            conditions.append(
                "{of}.time <= :time and ({of}.time, {of}.key, {of}.subject, {registered})"
                " < (:time, :key, :subject, :registered)"
            )
            values |= {
                "time": envelope.parse_time(after[0]), "key": uuid.UUID(after[1]), "subject": after[2],
                "registered": int(after[3]),
            }  # fmt: skip
        if self.contact is not None:
            values["contact"] = self.contact
        return await self.database.bounded(self._statement(conditions, values), **values)

    def _statement(self, conditions: list[str], values: Mapping[str, object]) -> sa.TextClause:
        joined = " and ".join(conditions)
        root = _ROOT_NOW if self.as_of is None else _ROOT_THEN
        kinds = " and ".join(["true", *(f"k.{name} = :{name}" for name in WORDS if name in self.filters)])
        where = (_OF_ALL if self.contact is None else _OF_ONE).format(
            fact=joined.format(of="f", registered="0"),
            link=f"{joined.format(of='l', registered='1')} and {_STANDS}",
            root_of_fact=root.format(of="f"),
            root_of_link=root.format(of="l"),
        )
        types: dict[str, Any] = dict.fromkeys(("upto", "since", "until", "time"), tables.Moment)
        types |= {"key": sa.Uuid, "contact": sa.Text}
        bound = [sa.bindparam(name, type_=types[name]) for name in values if name in types]
        return sa.text(_KINDS.format(kinds=kinds) + where + _LINES).bindparams(*bound)

    def place(self, row: Mapping[str, Any]) -> pages.Cursor:
        return envelope.format_time(row["time"]), str(row["key"]), row["subject"], str(row["registered"])


def cursor(parts: pages.Cursor) -> pages.Cursor:
    """A place of such a list as a caller gave it back; raises `Problem`, ValueError."""
    time, key, subject, registered = parts
    at = envelope.format_time(parameters.instant("after", time))
    return (
        at,
        str(uuid.UUID(key)),
        pages.storable(subject),
        str(parameters.number("after", registered, 0, 1)),
    )


async def asked(
    database: servers.Database, contact: str | None, query: Mapping[str, str]
) -> tuple[Timeline, dict[str, str]]:
    """What a query asks for, and what stands beside the items: whose they are, where a contact is asked for.

    Raises `Problem` for a value that its parameter does not take, an ill-formed id and an instant that is yet
    to come; `errors.Away`.
    """
    filters: dict[str, str | datetime] = {**pages.window(query)}
    filters |= {name: parameters.one_of(name, query[name], WORDS[name]) for name in WORDS if name in query}
    if "actor" in query:
        filters["actor"] = parameters.text("actor", query["actor"], LONGEST)
    as_of = None if "as_of" not in query else parameters.instant("as_of", query["as_of"])
    if contact is None:
        if as_of is not None:
            (found,) = await database.rows(_CLOCK)
            contacts.not_later(as_of, found["clock"])
        return Timeline(database, None, filters, as_of), {}
    root = await contacts.root_of(database, contact, as_of)
    beside = {"contact_id": root, **contacts.merged_into(contact, root)}
    return Timeline(database, root, filters, as_of), beside
