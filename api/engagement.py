"""One contact's engagement: as it stands or stood, computed anew and compared, and the refreshing of what has
expired.

Promises: any well-formed contact id is answered, with nulls when nothing counts for it; no answer holds a
value past its time. As of T means: windows end at T, facts dated later are left out (LAW-5), by today's
knowledge. Nothing here writes a row: calculating and refreshing append nudges, and the owners of the homes
do the work.

Limits: calculating waits 2 s for a contact that is just being worked on, and 2 s for one to be mended;
refreshing waits 30 s for the workers.

Routes of `api.routes`; `api.explain` and `api.engagement_list` answer more about the same rows.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

import psycopg
import sqlalchemy as sa

from api import contacts, problems, servers
from projections import tables
from schemas import identity, metrics, topics
from streams import nudging, refresh

CALCULATE_SECONDS: Final = 2.0
REFRESH_SECONDS: Final = refresh.SECONDS
DIFFERS: Final = "differs"

_POLL_SECONDS: Final = 0.05
ROW: Final = (
    "contact_id",
    "date_first_click",
    "date_last_click",
    "recency",
    "frequency",
    "volume",
    "volume_last_30",
    "period_months",
    "date_calculated",
)
STORED: Final = (
    "date_first_click",
    "date_last_click",
    "frequency",
    "volume",
    "volume_last_30",
    "period_months",
    "valid_until",
)

_contact: Final = sa.bindparam("contact", type_=sa.Text)
_as_of: Final = sa.bindparam("as_of", type_=tables.Moment)
_view: Final = tables.contact_engagement

# The row as everybody may see it, or what is known without one: the period and the instant of the answer.
_READ: Final = sa.select(
    tables.rule.c.period_months.label("months"),
    sa.func.date_trunc("milliseconds", sa.func.statement_timestamp()).label("now"),
    *_view.c,
).select_from(tables.rule.outerjoin(_view, _view.c.contact_id == _contact))


def _past() -> sa.Select[Any]:
    """The row at an instant by the facts dated until then."""
    rule, computed = tables.rule_at(_as_of), tables.engagement_at(_contact, _as_of, _as_of)
    return sa.select(
        rule.c.period_months.label("months"),
        *computed.c,
    ).select_from(rule.outerjoin(computed, sa.true()))


def _comparison() -> sa.Select[Any]:
    """One statement, so one snapshot: the stored row, the row by the facts at T, does anything wait.

    What waits is a nudge, its own or that of what belongs to it, or a recalculation after a change of the
    rule, queued or about to be.
    """
    position = tables.position.c
    instant = sa.func.greatest(sa.func.clock_timestamp(), sa.func.max(position.as_of))
    asked = (
        sa.select(sa.func.date_trunc("milliseconds", instant, type_=position.as_of.type).label("t"))
        .where(position.reader == "fold", position.topic == topics.FACTS)
        .cte("asked")
    )
    stored = tables.engagement.alias("stored")
    computed = tables.engagement_at(_contact, asked.c.t)
    subject = identity.CONTACT + _contact
    queued = tables.recalculation.c
    of_members = tables.nudge.join(tables.member, tables.member.c.subject == tables.nudge.c.subject)
    waiting = sa.or_(
        sa.exists().where(tables.nudge.c.subject == subject),
        sa.select(sa.true()).select_from(of_members).where(tables.member.c.root == subject).exists(),
        sa.exists().where(queued.home == sa.bindparam("home"), queued.contact_id == _contact),
        sa.exists().where(tables.recalculation_cause.c.after < subject),
    )
    return sa.select(
        asked.c.t.label("now"),
        tables.rule.c.period_months.label("months"),
        waiting.label("waiting"),
        *(row.c[name].label(f"{row.name}_{name}") for row in (stored, computed) for name in STORED),
    ).select_from(
        asked.join(tables.rule, sa.true())
        .outerjoin(stored, stored.c.contact_id == _contact)
        .outerjoin(computed, sa.true())
    )


_PAST: Final = _past()
_COMPARE: Final = _comparison()


async def read(database: servers.Database, contact: str, as_of: datetime | None = None) -> dict[str, Any]:
    """The row of a contact, or nulls; with `as_of` as it was then. Of one that was merged: the row of the
    contact that it belongs to, with `merged_into`.

    Raises `Problem` for an ill-formed id and for an instant that is yet to come, `errors.Away`.
    """
    root = await contacts.root_of(database, contact, as_of)
    told = contacts.merged_into(contact, root)
    if as_of is not None:
        (found,) = await database.rows(_PAST, contact=root, as_of=as_of)
        row = found if found["contact_id"] is not None else {}
        return answer(root, row, found["months"], as_of) | told
    (found,) = await database.rows(_READ, contact=root)
    if found["contact_id"] is None:
        return answer(root, {}, found["months"], found["now"]) | told
    return {name: found[name] for name in ROW} | told


async def calculate(database: servers.Database, contact: str, homes: int) -> dict[str, Any]:
    """The row by the facts, and whether the stored one differs; if so its owner is asked to mend it.

    A row that is just being worked on, or is due, cannot be told to differ. Each difference found is counted.
    `mended` is null without one, true when the owner has looked at the contact anew, false while that waits.
    Raises `Problem` for an ill-formed id, `errors.Away`.
    """
    asked, contact = contact, await contacts.root_of(database, contact)
    home = topics.home(identity.CONTACT + contact, homes)
    until = time.monotonic() + CALCULATE_SECONDS
    while True:
        (found,) = await database.rows(_COMPARE, contact=contact, home=home)
        if not found["waiting"] or time.monotonic() >= until:
            break
        await asyncio.sleep(_POLL_SECONDS)
    computed = _part(found, "computed_")
    stored = _part(found, "stored_")
    comparable = not found["waiting"] and (stored is None or found["now"] < stored["valid_until"])
    differs = comparable and stored != computed
    if differs:
        metrics.ROW_DIFFERENCES.inc()
    row = answer(contact, computed or {}, found["months"], found["now"])
    mended = await _mend(database, contact, home) if differs else None
    told = {"differs": differs, "stored": stored, "mended": mended}
    return {"id": contact, **row, **told, **contacts.merged_into(asked, contact)}


async def _mend(database: servers.Database, contact: str, home: int) -> bool:
    """Has the owner make the row anew; answers whether it has done so in time."""

    def mend(connection: psycopg.Connection, stopping: Callable[[], bool]) -> bool:
        nudged = nudging.ask(connection, [(home, contact)], DIFFERS)
        until = time.monotonic() + CALCULATE_SECONDS
        waited = nudging.wait(connection, nudged, until, stopping=stopping)
        return not (waited.left or waited.failed)

    return await database.work("calculate", mend)


def _part(found: Mapping[str, Any], prefix: str) -> dict[str, Any] | None:
    if found[f"{prefix}valid_until"] is None:
        return None
    return {name: found[prefix + name] for name in STORED}


def answer(contact: str, row: Mapping[str, Any], months: int, now: datetime) -> dict[str, Any]:
    """A row under the names of the view; every number and date null when there is none."""
    last = row.get("date_last_click")
    recency = None if last is None else max(0, (now - last) // timedelta(days=1))
    known = {
        "contact_id": contact,
        "period_months": months,
        **row,
        "recency": recency,
        "date_calculated": now,
    }
    return {name: known.get(name) for name in ROW}


async def refresh_expired(database: servers.Database) -> int:
    """Has the owners look at every row that is due now, and waits for them; answers how many they have done.

    Raises `Problem` when they take longer than `REFRESH_SECONDS`: the nudges stay and are taken later.
    """
    try:
        return await database.work(
            "refresh-expired",
            lambda connection, stopping: refresh.run(connection, REFRESH_SECONDS, stopping=stopping),
        )
    except refresh.Behind as behind:
        raise problems.Problem(
            problems.WORKERS_BEHIND,
            f"The workers have not taken all nudges within {REFRESH_SECONDS:.0f} seconds.",
            refreshed=behind.refreshed,
        ) from None
