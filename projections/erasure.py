"""Erasures: nothing is kept of a subject that was erased, whatever comes before or after (LAW-6).

Promises: who is erased stays so. The registry's writer says who is (`follow`), in the transaction that folds
the word on it: links of and to them hold no more, and each is told of in its own home, where the one writer
of its facts lets go of them (`purge`), in steps; whatever of theirs is folded later leaves nothing
(`projections.facts`). So facts, links and erasures end the same in every order (LAW-1). A link whose subject
is not erased stays as the fact that it was told, and links to nobody: which of two contents under one key
stands may not depend on when the erasure came.
Parked records of the erased go with their facts. Whoever parks asks under `shared` who is erased: a record
is parked either before an erasure, which finds it, or knowing of it.
Limits: keys are destroyed by the reader of the topic `keys` (`streams.keys_loop`), from the list that
`destroy_keys` writes.
Called by: `projections.registry`, `projections.fold`, intake, the API.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

import psycopg

from projections import database, nudges
from schemas import topics

REASON: Final = "erased"
MOST: Final = 10_000  # facts in one transaction
LOCK: Final = 0x4EED_0003

OF: Final = "select subject from heed_data.erased where subject = any(%s::text[])"
HERE: Final = "select subject from erased where subject = any(%s::text[])"
SHARED: Final = "select pg_advisory_xact_lock_shared(%s)"
ALONE: Final = "select pg_advisory_xact_lock(%s)"

ERASE: Final = "insert into erased (subject) select unnest(%s::text[]) on conflict do nothing"
# Purpose: what was told of the erased goes, but that they were erased; which subjects' links that changes.
FORGET: Final = """
delete from registry where subject = any(%s::text[]) and (target is not null or undoes is not null)
returning subject
"""
# Purpose: links to the erased link to nobody.
CUT: Final = """
update registry set target = null where target = any(%s::text[]) returning subject
"""
# Purpose: of links of these subjects that were just told, those that name somebody who is erased.
LATE: Final = """
select distinct unnest(array[r.subject, r.target]) from registry r
where r.subject = any(%s::text[]) and (r.target is not null or r.undoes is not null)
"""
DESTROY: Final = """
insert into heed_ops.key_to_destroy (subject) select unnest(%s::text[]) on conflict do nothing
"""

FACTS: Final = """
delete from fact where ctid = any(array(
    select ctid from fact where subject = any(%(subjects)s::text[]) limit %(most)s))
"""
ALL_FACTS: Final = "delete from fact f using erased e where f.subject = e.subject"
ROWS: Final = "delete from engagement where contact_id = any(%s::text[])"
QUEUED: Final = "delete from recalculation where contact_id = any(%s::text[])"
ERRORS: Final = "delete from nudge where subject = any(%s::text[]) and error is not null"
# Purpose: those that nobody holds; whoever does lets go of them soon.
PARKED: Final = """
delete from heed_ops.parked where id in (
    select id from heed_ops.parked where subject = any(%(subjects)s::text[]) limit %(most)s
    for update skip locked)
"""
LEFT: Final = """
select s.subject from unnest(%s::text[]) s(subject)
where exists (select from fact f where f.subject = s.subject)
"""
LEFT_PARKED: Final = "select distinct subject from heed_ops.parked where subject = any(%s::text[])"


def shared(connection: psycopg.Connection) -> None:
    """Until the end of the transaction nobody becomes erased."""
    connection.execute(SHARED, (LOCK,))


def of(connection: psycopg.Connection, subjects: Collection[str]) -> set[str]:
    """Those of these subjects that are erased, by the live tables."""
    return _found(connection, OF, subjects)


def here(connection: psycopg.Connection, subjects: Collection[str]) -> set[str]:
    """Those of these subjects that are erased, by the tables of the connection's path."""
    return _found(connection, HERE, subjects)


def follow(connection: psycopg.Connection, covered: Collection[str], linked: Collection[str]) -> set[str]:
    """Erase these, and have links that were just told link nobody who is; answers whose links changed.

    Inside the transaction that has merged facts of the registry.
    """
    changed: set[str] = set()
    if covered:
        connection.execute(ALONE, (LOCK,))
        connection.execute(ERASE, (database.array(covered),))
        changed |= set(covered) | _cut(connection, covered)
    if linked:
        named = {one for (one,) in connection.execute(LATE, (database.array(linked),)).fetchall() if one}
        late = here(connection, named)
        if late:
            changed |= _cut(connection, late)
    return changed


def tell(connection: psycopg.Connection, covered: Iterable[str], homes: int) -> None:
    """Have the owner of each one's home let go of what it holds."""
    nudges.append_all(connection, [(topics.home(one, homes), one) for one in sorted(covered)], REASON)


def destroy_keys(connection: psycopg.Connection, subjects: Collection[str]) -> None:
    """Put the keys of erased subjects on the list of those to be destroyed."""
    if subjects:
        connection.execute(DESTROY, (database.array(subjects),))


def purge(connection: psycopg.Connection, subjects: Collection[str], *, live: bool) -> set[str]:
    """Let go of what is held of erased subjects, a step of it; answers those of whom some is left.

    Inside the transaction of the owner of their homes; what is parked belongs to the `live` pair's.
    """
    listed = database.array(subjects)
    contacts = database.array(one.removeprefix("contact:") for one in subjects)
    named = {"subjects": listed, "most": MOST}
    connection.execute(FACTS, named)
    connection.execute(ROWS, (contacts,))
    connection.execute(QUEUED, (contacts,))
    connection.execute(ERRORS, (listed,))
    left = connection.execute(LEFT, (listed,)).fetchall()
    if live:
        connection.execute(PARKED, named)
        left += connection.execute(LEFT_PARKED, (listed,)).fetchall()
    return {one for (one,) in left}


def purge_all(connection: psycopg.Connection) -> None:
    """Let go of every fact of the erased, in tables that nobody reads yet."""
    connection.execute(ALL_FACTS)


def _cut(connection: psycopg.Connection, erased: Collection[str]) -> set[str]:
    listed = (database.array(erased),)
    gone = connection.execute(FORGET, listed).fetchall()
    cut = connection.execute(CUT, listed).fetchall()
    return {one for (one,) in (*gone, *cut)}


def _found(connection: psycopg.Connection, statement: str, subjects: Collection[str]) -> set[str]:
    if not subjects:
        return set()
    return {one for (one,) in connection.execute(statement.encode(), (database.array(subjects),)).fetchall()}
