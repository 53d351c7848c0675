"""Who belongs to whom now: the table `member`, subject to root, flat, by the one writer of the registry.

Promises: whose a subject is follows from the links that stand, whatever the order in which they were told
(LAW-1): of a subject's links that nothing undid the latest by (time, id) holds; who follows them from contact
to contact comes to the root, or into a cycle, whose smallest id is the root (IDN-4). Whoever is concerned is
nudged: a contact that moved, and the roots from which and to which anything moved. The subjects that moved
with them are told of in their own homes, since a fact of theirs may just be folded there under the old root.
That this is enough is what `tests/laws/protocol.py` shows, and that nothing can be left out but the direct
nudge of a new root, which is there so that its row need not wait for a second hand.
An identifier may be several contacts': it belongs to the root of the one whose primary address it is, else of
them all; of several the smallest. So it is looked at whenever one of its holders moves, or gets another
primary address. A set of identifiers is nobody's by itself: who reads asks its members (`subjects_of`).
Limits: costs in proportion to what belongs to the contacts concerned.
Called by: `projections.registry`, inside its transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec
import psycopg

from projections import database, nudges
from schemas import codec, identified, identity, links, topics

Moved = dict[str, tuple[str, str]]  # a subject, whose it was and whose it is

REASON: Final = "linked"

# Purpose: of these subjects, those that belong to a root.
ROOTS: Final = "select subject, root from member where subject = any(%s::text[])"
# Purpose: what belongs to these roots.
MEMBERS: Final = "select subject, root from member where root = any(%s::text[])"
# Purpose: whom each of these subjects is linked to, and whom those are, to the end.
WAYS: Final = """
with recursive way(subject, target) as (
    select u.subject collate "C", link_at(u.subject, 'infinity') collate "C"
    from unnest(%s::text[]) as u(subject)
    union
    select w.target, link_at(w.target, 'infinity') collate "C" from way w where w.target is not null
)
select subject, target from way where target is not null
"""
LEAVE: Final = "delete from member where subject = any(%s::text[])"
JOIN: Final = """
insert into member (subject, root, home)
select * from unnest(%s::text[], %s::text[], %s::smallint[])
on conflict (subject) do update set root = excluded.root, home = excluded.home
"""
# Purpose: the identifiers that were ever linked to these contacts.
HELD: Final = """
select distinct subject from registry where target = any(%s::text[]) and type = 'identifier.linked'
"""
# Purpose: the contacts that these identifiers were linked to by what is now taken back.
UNHELD: Final = """
select distinct l.target from registry u join registry l on l.subject = u.subject and l.key = u.undoes
where u.subject = any(%s::text[]) and u.undoes is not null and l.target is not null
"""
# Purpose: the identifiers that were ever the primary address of these contacts.
PRIMARY: Final = """
select distinct subject from registry where target = any(%s::text[])
    and type = 'identifier.linked' and data->>'primary' = 'true'
"""
# Purpose: whose these identifiers are, by `member` as it says of contacts; without a row: nobody's.
IDENTIFIED: Final = """
select u.subject, coalesce(min(r.root) filter (where h.is_primary), min(r.root))
from unnest(%s::text[]) as u(subject)
cross join lateral holders_at(u.subject, 'infinity') h
cross join lateral (
    select coalesce((select m.root from member m where m.subject = h.contact), h.contact)
        collate "C" as root) r
group by u.subject
"""
EVERYONE: Final = "select distinct subject from registry where target is not null"


def link_of(content: msgspec.Struct) -> tuple[str, str]:
    """What a fact links its subject to, as a subject, and the key of the link that it takes back; else ""."""
    match content:
        case links.Merged():
            return identity.CONTACT + content.into, ""
        case links.SessionLinked():
            return identity.CONTACT + content.contact_id, ""
        case identified.IdentifierLinked():
            return identity.CONTACT + content.contact_id, ""
        case identified.IdentifierUnlinked():
            told = content.link
            return "", codec.key(told.source, identified.link_id(told.source, told.id))
        case links.Unmerged() | links.SessionUnlinked():
            return "", codec.key(content.link.source, content.link.id)
        case _:
            return "", ""


def follow(connection: psycopg.Connection, linked: Iterable[str], holders: Iterable[str], homes: int) -> None:
    """Links of these subjects have changed: have the table say so, and nudge whom it concerns.

    Inside the caller's transaction, after the links. `holders` are contacts to which identifiers were linked.
    """
    everything = set(linked)
    named = {one for one in everything if one.startswith(identity.IDENTIFIERS)}
    moved, taken_along = _follow_contacts(connection, everything - named, homes)
    came = {one for one in moved if identity.contact_id(one) is not None}
    moved |= _follow_identifiers(connection, named, taken_along, came, set(holders), homes)
    nudges.append_all(connection, _told(moved, homes), REASON)


def _follow_contacts(connection: psycopg.Connection, linked: set[str], homes: int) -> tuple[Moved, set[str]]:
    """Contacts and sessions; answers who moved, and the identifiers that belong to where anything moved."""
    changed = sorted(linked)
    if not changed:
        return {}, set()
    before: dict[str, str] = dict(connection.execute(ROOTS, (database.array(changed),)).fetchall())
    # Whatever a contact took along comes from the same root as itself; a session takes nothing along.
    sources = {before.get(one, one) for one in changed if identity.contact_id(one) is not None}
    before |= dict(connection.execute(MEMBERS, (database.array(sources),)).fetchall())
    named = {one for one in before if one.startswith(identity.IDENTIFIERS)}
    after = _roots(connection, (before.keys() | sources | set(changed)) - named)
    moved = {
        subject: (before.get(subject, subject), root)
        for subject, root in after.items()
        if before.get(subject, subject) != root
    }
    _write(connection, {subject: root for subject, (_, root) in moved.items()}, homes)
    return moved, named


def _follow_identifiers(
    connection: psycopg.Connection,
    linked: set[str],
    taken_along: set[str],
    came: set[str],
    holders: set[str],
    homes: int,
) -> Moved:
    """Identifiers whose links changed, whose holders moved, or are primary for another contact now."""
    asked = linked | taken_along
    if came:
        asked |= _column(connection, HELD, came)
    if linked:
        holders |= _column(connection, UNHELD, linked)
        asked |= _column(connection, PRIMARY, holders) if holders else set()
    if not asked:
        return {}
    before: dict[str, str] = dict(connection.execute(ROOTS, (database.array(asked),)).fetchall())
    after = _owners(connection, asked)
    moved = {
        one: (before.get(one, one), after[one]) for one in sorted(asked) if before.get(one, one) != after[one]
    }
    _write(connection, {subject: root for subject, (_, root) in moved.items()}, homes)
    return moved


def build(connection: psycopg.Connection, homes: int) -> None:
    """The whole table from all links, for a pair that nobody reads yet: nobody is nudged."""
    everyone = {subject for (subject,) in connection.execute(EVERYONE).fetchall()}
    named = {one for one in everyone if one.startswith(identity.IDENTIFIERS)}
    after = _roots(connection, everyone - named)
    _write(connection, {one: root for one, root in after.items() if one != root}, homes)
    owners = _owners(connection, named)
    _write(connection, {one: root for one, root in owners.items() if one != root}, homes)


def _owners(connection: psycopg.Connection, named: Iterable[str]) -> dict[str, str]:
    """Whose each of these identifiers is; itself where it is nobody's."""
    asked = sorted(named)
    found = connection.execute(IDENTIFIED, (database.array(asked),)).fetchall() if asked else []
    return {one: one for one in asked} | dict(found)


def _column(connection: psycopg.Connection, statement: str, asked: Iterable[str]) -> set[str]:
    return {one for (one,) in connection.execute(statement.encode(), (database.array(asked),)).fetchall()}


def _roots(connection: psycopg.Connection, subjects: Iterable[str]) -> dict[str, str]:
    """The root of each of these subjects by the links that stand."""
    asked = list(subjects)
    target: dict[str, str] = dict(connection.execute(WAYS, (database.array(asked),)).fetchall())
    known: dict[str, str] = {}
    for subject in asked:
        way: dict[str, None] = {}
        place = subject
        while place not in known and place not in way and place in target:
            way[place] = None
            place = target[place]
        if place in way:
            cycle = list(way)
            place = min(cycle[cycle.index(place) :])
        root = known.get(place, place)
        known |= dict.fromkeys(way, root)
        known[subject] = root
    return {subject: known[subject] for subject in asked}


def _write(connection: psycopg.Connection, roots: Mapping[str, str], homes: int) -> None:
    leaving = [subject for subject, root in roots.items() if subject == root]
    joining = {subject: root for subject, root in roots.items() if subject != root}
    if leaving:
        connection.execute(LEAVE, (database.array(leaving),))
    if joining:
        home_of = {root: topics.home(root, homes) for root in set(joining.values())}
        connection.execute(
            JOIN,
            (
                database.array(joining),
                database.array(joining.values()),
                [home_of[root] for root in joining.values()],
            ),
        )


def _told(moved: Mapping[str, tuple[str, str]], homes: int) -> set[tuple[int, str]]:
    """Whom to look at, and in which homes: (home, subject).

    A session that moved has no row that might have to go: it is enough to look at its new root once what is
    just folded in the session's home has been committed; and one look does for all that went from there.
    """
    told: set[tuple[int, str]] = set()
    for subject, (old, new) in moved.items():
        home = topics.home(subject, homes)
        if not subject.startswith(identity.SESSION):
            told.add((home, subject))
        elif new != subject:
            told.add((home, new))
        told |= {(topics.home(root, homes), root) for root in (old, new) if root != subject}
    return told
