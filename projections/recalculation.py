"""Who waits to be computed anew, and why: after a change of the rule, or when somebody asks (CEE-7, CEE-9).

Promises: everyone who has a fact, or what was told of others, comes into the queue, in steps of `STEP`
contacts, and nobody is passed over: the steps begin when every transaction has ended that may still have
known the old rule. The owners of the homes take contacts from the queue in turn with what they fold, a few at
a time, so no fold waits. A contact leaves the queue in the transaction that brings it; one that cannot be
brought keeps its place, its reason and its error. Whatever dies, the queue stays.
Limits: a contact that is brought for another cause stays queued, and is brought again. A transaction that
writes and stays open, of whatever database of the server, holds up the steps.
Called by: `projections.registry` (fills), `projections.fold` (takes), the API and the command line (ask).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

import psycopg

from projections import database
from schemas import identity, topics

RULE: Final = "setting"
ASKED: Final = "recompute"
STEP: Final = 5000
BESIDE: Final = 100  # contacts that a transaction takes from the queue beside what it folds
ALONE: Final = 1000  # and when it has nothing else to do

EVERYONE: Final = """
insert into recalculation_cause (reason, since) values (%(reason)s, %(at)s)
on conflict (reason) do update set since = excluded.since, settled = null, after = '', queued = 0,
    finished = false
"""
# Purpose: a cause with what is to be done: note the transaction after it (again after a restore, where ids of
# transactions begin anew); wait for those that were open then; or go on. A fold has its id before it reads
# the rule, so whoever knew the old rule has a smaller one.
CAUSE: Final = """
select reason, since, after, coalesce(settled < pg_snapshot_xmax(pg_current_snapshot()), false) as noted,
    coalesce(settled <= pg_snapshot_xmin(pg_current_snapshot()), false) as clear
from recalculation_cause where not finished order by since, reason limit 1
"""
SETTLE: Final = "update recalculation_cause set settled = pg_current_xact_id() where reason = %s"
# Purpose: the next contacts that were told of or to whom others belong, each found by a look into either
# index, however many facts the one before has.
NEXT: Final = """
with recursive next(subject) as (
    select %(after)s::text collate "C"
    union all
    select least((select f.subject from fact f where f.subject > n.subject and f.subject < 'contact;'
            order by f.subject limit 1),
        (select m.root from member m where m.root > n.subject order by m.root limit 1))
    from next n where n.subject is not null
)
select subject from next where subject > %(after)s limit %(most)s
"""
QUEUE: Final = """
insert into recalculation as q (home, contact_id, reason, since)
select u.home, u.contact_id, %(reason)s, %(since)s
from unnest(%(homes)s::smallint[], %(contacts)s::text[]) as u(home, contact_id)
on conflict (home, contact_id) do update set reason = excluded.reason, since = excluded.since, error = null
"""
ADVANCE: Final = "update recalculation_cause set after = %s, queued = queued + %s where reason = %s"
OVER: Final = "update recalculation_cause set finished = true where reason = %s"

# Purpose: the next contacts of these homes; from a place on, so that what was deleted is not looked at again.
TAKE: Final = """
delete from recalculation where (home, contact_id) in (
    select home, contact_id from recalculation
    where home = any(%(homes)s::smallint[]) and (home, contact_id) > (%(home)s, %(contact)s)
        and error is null
    order by home, contact_id limit %(most)s)
returning contact_id, home, reason, since
"""
KEEP: Final = """
insert into recalculation (home, contact_id, reason, since, error) values (%s, %s, %s, %s, %s)
on conflict (home, contact_id) do nothing
"""
MENDED: Final = """
delete from recalculation q using unnest(%s::smallint[], %s::text[]) as u(home, contact_id)
where q.home = u.home and q.contact_id = u.contact_id and q.error is not null
"""
WAITING: Final = """
exists (select from recalculation where home = any(%(homes)s::smallint[])
    and (home, contact_id) > (%(home)s, %(contact)s) and error is null)
"""

FILLING: Final = "select exists (select from recalculation_cause where not finished)"

Taken = tuple[str, int, str, datetime]
Place = tuple[int, str]
START: Final[Place] = (-1, "")


def everyone(connection: psycopg.Connection, reason: str, at: datetime) -> None:
    """Everyone who has a fact is to be computed anew, for this reason; inside the caller's transaction."""
    connection.execute(EVERYONE, {"reason": reason, "at": at})


def is_filling(connection: psycopg.Connection) -> bool:
    """Whether contacts are still to be put into the queue; cheap."""
    return bool(connection.execute(FILLING).fetchall() == [(True,)])


def queue_step(connection: psycopg.Connection, homes: int, at: datetime) -> bool:
    """Put the next contacts into the queue, inside the caller's transaction; whether there are more.

    A cause that came in this very transaction (`at`) is left to the next.
    """
    cause = connection.execute(CAUSE).fetchone()
    if cause is None:
        return False
    reason, since, after, noted, clear = cause
    if not noted:
        if since < at:
            connection.execute(SETTLE, (reason,))
        return True
    if not clear:
        return False
    found = connection.execute(NEXT, {"after": after or identity.CONTACT, "most": STEP}).fetchall()
    if not found:
        connection.execute(OVER, (reason,))
        return True
    subjects = [subject for (subject,) in found]
    named = {
        "homes": [topics.home(subject, homes) for subject in subjects],
        "contacts": database.array(identity.contact_id(subject) for subject in subjects),
    }
    connection.execute(QUEUE, {"reason": reason, "since": since, **named})
    connection.execute(ADVANCE, (subjects[-1], len(subjects), reason))
    return True


def take(connection: psycopg.Connection, homes: Iterable[int], after: Place, most: int) -> list[Taken]:
    """Take contacts of these homes from the queue: (contact, home, reason, since), behind a place."""
    home, contact = after
    named = {"homes": list(homes), "home": home, "contact": contact, "most": most}
    return sorted(connection.execute(TAKE, named).fetchall(), key=lambda one: (one[1], one[0]))


def keep(connection: psycopg.Connection, failed: Sequence[tuple[Taken, str]]) -> None:
    """Give those who could not be brought their place back, with the error."""
    with connection.cursor() as cursor:
        cursor.executemany(
            KEEP, [(home, contact, reason, since, error) for (contact, home, reason, since), error in failed]
        )


def mended(connection: psycopg.Connection, contacts: Sequence[tuple[str, int]]) -> None:
    """Contacts that were in error have been brought: they wait no longer."""
    connection.execute(MENDED, ([home for _, home in contacts], [contact for contact, _ in contacts]))
