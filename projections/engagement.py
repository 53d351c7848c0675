"""Email engagement: which facts it is counted by, and how a contact's row is brought to an instant.

Promises: what the row is, only the SQL function `engagement_at` says; here it is asked for the contacts
given, and the table is made to agree. Whatever row was past its time is reported, so that a command tells of
it (CEE-8).
Limits: as many contacts in one call as the caller has; all of homes that the caller owns.
Called by: `projections.fold`, replay.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import psycopg

from projections import database

INPUTS: Final = frozenset({"mail.clicked", "mail.delivered"})
# What is said of a contact itself, which shows or hides what else was told.
WORDS: Final = frozenset({"contact.deleted", "contact.restored", "contact.consent_changed"})

COMMAND: Final = "engagement.expire"
MOST: Final = 1000
FIRST: Final = datetime(1, 1, 1, tzinfo=UTC)
SWEEP: Final = timedelta(seconds=2)
COLUMNS: Final = (
    "contact_id",
    "home",
    "date_first_click",
    "date_last_click",
    "frequency",
    "volume",
    "volume_last_30",
    "period_months",
    "valid_until",
)


@dataclasses.dataclass(frozen=True, slots=True)
class Front:
    """How far in time the due rows of these homes have been taken.

    A look begins here: while a long snapshot is held, the rows taken before are still in the index, and a
    look from the start would pass over each of them, ten times a second. Every `SWEEP` of T one begins at
    the start all the same, for rows that came by another way (a replay that was swapped in).
    """

    homes: frozenset[int] = frozenset()
    since: datetime = FIRST
    swept: datetime = FIRST

    def begin(self, homes: frozenset[int]) -> datetime:
        """Where a look for what is due in these homes begins."""
        return self.since if homes == self.homes else FIRST

    def sweep(self, homes: frozenset[int], at: datetime) -> datetime:
        """Where one begins that takes what it finds, at T."""
        return FIRST if at - self.swept >= SWEEP else self.begin(homes)

    def moved(
        self, homes: frozenset[int], began: datetime, at: datetime, found: Sequence[tuple[str, int, datetime]]
    ) -> Front:
        """The front once these rows, found from `began` on, have been brought to T."""
        since = at if len(found) < MOST else found[-1][2]
        return Front(homes, since, at if began == FIRST else self.swept)


def counts(type_: str, mailing: str | None, test: bool) -> bool:
    """Whether a fact can move a row: clicks and deliveries of a mailing, no tests, and words on the
    contact itself (CEE-5)."""
    return (type_ in INPUTS and mailing is not None and not test) or type_ in WORDS


# Purpose: make the rows of these contacts what the facts say at %(at)s; answer those past their time.
# Contact by contact, without a join of sets, so that the plan is the same however many are asked.
BRING: Final = """
with computed as materialized (
    select u.home, u.contact_id as asked, c.*
    from unnest(%(contacts)s::text[], %(homes)s::smallint[]) as u(contact_id, home)
    left join lateral engagement_at(array[u.contact_id], %(at)s::timestamptz, 'infinity') c on true
), overdue as (
    select e.home, e.contact_id, e.valid_until from engagement e
    where e.contact_id = any(%(contacts)s::text[]) and e.valid_until <= %(at)s::timestamptz
), gone as (
    delete from engagement e
    where e.contact_id = any(array(select asked from computed where contact_id is null))
), kept as (
    insert into engagement as e (contact_id, home, date_first_click, date_last_click, frequency, volume,
        volume_last_30, period_months, valid_until)
    select c.contact_id, c.home, c.date_first_click, c.date_last_click, c.frequency, c.volume,
        c.volume_last_30, c.period_months, c.valid_until
    from computed c where c.contact_id is not null
    on conflict (contact_id) do update set home = excluded.home, date_first_click = excluded.date_first_click,
        date_last_click = excluded.date_last_click, frequency = excluded.frequency, volume = excluded.volume,
        volume_last_30 = excluded.volume_last_30, period_months = excluded.period_months,
        valid_until = excluded.valid_until
    where (e.home, e.date_first_click, e.date_last_click, e.frequency, e.volume, e.volume_last_30,
        e.period_months, e.valid_until) is distinct from (excluded.home, excluded.date_first_click,
        excluded.date_last_click, excluded.frequency, excluded.volume, excluded.volume_last_30,
        excluded.period_months, excluded.valid_until)
)
select home, contact_id, valid_until from overdue order by valid_until, contact_id
"""

# Purpose: contacts of these homes whose row is past its time; one in error is left to its nudge's next try.
DUE: Final = """
select contact_id, home, valid_until from engagement
where home = any(%(homes)s::smallint[]) and valid_until <= %(at)s::timestamptz
    and valid_until >= %(since)s::timestamptz
    and not exists (select from nudge n where n.subject = 'contact:' || contact_id
        and n.error is not null and n.retry_at > %(at)s::timestamptz)
order by valid_until limit %(most)s
"""
OVERDUE: Final = """
select contact_id from engagement
where contact_id = any(%(contacts)s::text[]) and valid_until <= %(at)s::timestamptz
"""
# By statement_timestamp(): clock_timestamp() is volatile, so the index on what is due could not be asked.
WAITING: Final = """
exists (select from engagement
    where home = any(%(homes)s::smallint[]) and valid_until <= statement_timestamp()
        and valid_until >= %(since)s::timestamptz
        and not exists (select from nudge n where n.subject = 'contact:' || contact_id
            and n.error is not null and n.retry_at > statement_timestamp()))
"""


def bring(
    connection: psycopg.Connection, asked: Sequence[tuple[str, int]], at: datetime
) -> list[tuple[int, str, datetime]]:
    """Make the rows of these (contact, home) what they are at an instant; answers (home, contact, due) of
    those that were past their time."""
    named = {
        "contacts": database.array(contact for contact, _ in asked),
        "homes": database.array(home for _, home in asked),
        "at": at,
    }
    return connection.execute(BRING, named).fetchall()


def due(
    connection: psycopg.Connection, homes: Iterable[int], since: datetime, at: datetime
) -> list[tuple[str, int, datetime]]:
    """Contacts of these homes whose row is past its time, the earliest first, with home and time.

    At most `MOST`, and none whose time was before `since`.
    """
    named = {"homes": list(homes), "since": since, "at": at, "most": MOST}
    return connection.execute(DUE, named).fetchall()


def overdue(connection: psycopg.Connection, contacts: Sequence[str], at: datetime) -> list[str]:
    """Of these contacts, those whose row is past its time."""
    found = connection.execute(OVERDUE, {"contacts": database.array(contacts), "at": at}).fetchall()
    return [contact for (contact,) in found]
