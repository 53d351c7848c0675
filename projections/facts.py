"""Facts into the table `fact`: copied to the side first, then merged, each once for ever.

Promises: `stage` waits for this client and locks nothing; `merge` is one statement that waits for no client.
Of two contents under one key the smaller (time, digest) stands, whichever came first (LAW-1); what came
again is counted as a duplicate, what said something else as a conflict.
Limits: one staged batch a transaction; the connection has had `prepare`.
Called by: `projections.fold`.
"""

from __future__ import annotations

import dataclasses
from typing import Final

import psycopg

from projections import halving, records

STAGE: Final = """
create temp table if not exists incoming (
    subject text, key uuid, source text, id text, type text, time timestamptz, version smallint, digest uuid,
    accepted timestamptz, test bool, part smallint, off bigint, mailing text, actor text, data text,
    sealed text, kid text)
on commit delete rows
"""
COPY: Final = "copy incoming from stdin"

# Purpose: every fact once, but those of whoever is erased; of two contents under one key the smaller
# (time, digest) stands. Answers how many are new, by type, and the subjects of those that replaced another
# content.
MERGE: Final = """
with merged as (
    insert into fact as f (subject, key, source, id, type, time, version, digest, accepted, test, part, off,
        mailing, actor, data, sealed, kid)
    select subject, key, source, id, type, time, version, digest, accepted, test, part, off, mailing, actor,
        data, sealed, kid
    from incoming i
    where not exists (select from erased e where e.subject = i.subject)
    on conflict (subject, key) do update set type = excluded.type, time = excluded.time,
        version = excluded.version, digest = excluded.digest, accepted = excluded.accepted,
        test = excluded.test, part = excluded.part, off = excluded.off, mailing = excluded.mailing,
        actor = excluded.actor, data = excluded.data, sealed = excluded.sealed, kid = excluded.kid
    where (excluded.time, excluded.digest) < (f.time, f.digest)
    returning f.type, case when xmax = 0 then null else f.subject end as replaced
)
select type, replaced, count(*) from merged group by type, replaced
"""

# Purpose: of the staged facts that were there already, how many say something else. `offset 0` keeps this a
# look-up a line: the plan is kept from when `fact` was small, and a hash over the table would grow with it.
CONFLICTING: Final = """
select count(*) from incoming i
cross join lateral (
    select f.time, f.digest from fact f where f.subject = i.subject and f.key = i.key offset 0) f
where (i.time, i.digest) <> (f.time, f.digest)
"""


# Purpose: of the staged facts, those of whoever is erased.
OF_ERASED: Final = """
select count(*) from incoming i where exists (select from erased e where e.subject = i.subject)
"""
# Purpose: who is in a set, and in which order they are asked for a contact.
SETS: Final = """
insert into set_member (member, subject, rank)
select * from unnest(%s::text[], %s::text[], %s::smallint[]) on conflict do nothing
"""


@dataclasses.dataclass(slots=True)
class Merged:
    """What a merge did: new facts by type, subjects whose fact got another content, what came again."""

    folded: dict[str, int] = dataclasses.field(default_factory=dict)
    replaced: list[str] = dataclasses.field(default_factory=list)
    duplicates: int = 0
    conflicts: int = 0


def prepare(connection: psycopg.Connection) -> None:
    """Make the place where a batch is staged; once for each connection."""
    connection.execute(STAGE)


def stage(connection: psycopg.Connection, facts: records.Decoded) -> None:
    """Copy a batch to the side, inside the caller's transaction."""
    if facts.lines:
        with connection.cursor().copy(COPY) as copy:
            copy.write(facts.text())


def merge(connection: psycopg.Connection, facts: records.Decoded) -> Merged:
    """Merge what was staged, inside the same transaction."""
    done = Merged(duplicates=facts.duplicates, conflicts=facts.conflicts)
    if not facts.lines:
        return done
    keep_sets(connection, facts)
    replaced = 0
    for type_, subject, number in connection.execute(MERGE).fetchall():
        if subject is None:
            done.folded[type_] = number
        else:
            replaced += number
            done.replaced.append(subject)
    again = len(facts.lines) - sum(done.folded.values()) - replaced
    if again:
        erased = _count(connection, OF_ERASED)
        lost = _count(connection, CONFLICTING)
        done.conflicts += lost
        done.duplicates += again - lost - erased
    done.conflicts += replaced
    return done


def keep_sets(connection: psycopg.Connection, facts: records.Decoded) -> None:
    """Keep who is in the sets that a batch tells of, inside the caller's transaction."""
    told = [(one, of, rank) for of, members in facts.sets.items() for rank, one in enumerate(members)]
    if told:
        connection.execute(SETS, [list(column) for column in zip(*told, strict=True)])


def sift(connection: psycopg.Connection, facts: records.Decoded) -> None:
    """Take out of a batch what PostgreSQL refuses to keep; it is set aside as unstorable.

    For lines that admission would never have let through: a stranger wrote on the log.
    """
    with connection.transaction():
        found = halving.halve(
            connection,
            list(facts.lines.items()),
            lambda some: _try(connection, records.Decoded(lines=dict(some))),
            undo=True,
        )
    for (name, (*_, origin)), _ in found.failed:
        del facts.lines[name]
        facts.asides.append(records.refused(origin))


def _try(connection: psycopg.Connection, some: records.Decoded) -> None:
    stage(connection, some)
    merge(connection, some)


def _count(connection: psycopg.Connection, statement: str) -> int:
    row = connection.execute(statement.encode()).fetchone()
    assert row is not None
    return int(row[0])
