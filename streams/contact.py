"""One contact as an operator looks at it: who owns it, whose it is and what belongs to it, its row and facts,
what waits for it and what failed.

Promises: never what a fact says, only what it is; facts the newest first, by pages; nothing is written.
Limits: parked records are looked for among the newest `PARKED`, by the subject as it stands in JSON.
Called by: `heed contact`.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any, Final

import psycopg
from psycopg import rows

from projections import database
from schemas import envelope, errors, identity, settings, topics
from streams import plain

PARKED: Final = 10_000
Cursor = tuple[datetime, str]

ROW: Final = "select * from heed_read.contact_engagement where contact_id = %s"
ROOT: Final = "select root from member where subject = %s"
MEMBERS: Final = "select subject from member where root = %s order by subject limit 100"
# Purpose: what was told of whose the subject is, and whether something took it back.
LINKS: Final = """
select l.type, l.source, l.id, l.time, l.actor, l.target,
    exists (select from registry u where u.subject = l.subject and u.undoes = l.key) as undone
from registry l where l.subject = %s and l.target is not null order by l.time desc, l.id desc limit 100
"""
OWNER: Final = """
select owner, epoch, as_of, as_of > clock_timestamp() - interval '10 seconds' as live
from position where reader = 'fold' and topic = 'facts' and part = %s
"""
# Purpose: a page of the facts of one subject, the newest first.
FACTS: Final = """
select source, id, type, time, accepted, actor, test, part as partition, off as "offset", key::text as key
from fact
where subject = %(subject)s and (%(time)s::timestamptz is null or (time, key) < (%(time)s, %(key)s::uuid))
order by time desc, key desc limit %(limit)s
"""
COUNT: Final = "select type, count(*) as facts from fact where subject = %s group by type order by type"
NUDGES: Final = """
select reason, error, attempts, created_at, retry_at from nudge where subject = %s order by id limit 100
"""
QUEUED: Final = "select reason, since, error from recalculation where home = %s and contact_id = %s"
# Purpose: parked records that name the subject, among the newest.
NAMED: Final = """
select id, reason, detail, type, source, event_id, topic, part as partition, off as "offset", parked_at
from (select * from parked order by id desc limit %(newest)s) p
where position(convert_to(%(text)s, 'UTF8') in bytes) > 0 limit 100
"""


def look(chosen: settings.Settings, contact: str, limit: int, after: str | None) -> dict[str, Any]:
    """Everything that is known of a contact; raises `errors.Usage` for an ill-formed id or page,
    `errors.Away`."""
    if identity.is_contact_id(contact) is None:
        raise errors.Usage("A contact id has 1 to 64 of the characters A-Z a-z 0-9 _ . ~ -.")
    subject, time, key = f"{identity.CONTACT}{contact}", *_page(after)
    home = topics.home(subject, chosen.homes)
    with database.connect(chosen.postgres, database.LIVE_PATH, "heed contact") as connection:
        ask = connection.cursor(row_factory=rows.dict_row)
        named = {"subject": subject, "time": time, "key": key, "limit": limit + 1}
        facts = ask.execute(FACTS, named).fetchall()
        more, facts = len(facts) > limit, facts[:limit]
        waiting = ask.execute(NUDGES, (subject,)).fetchall()
        told = {
            "contact_id": contact,
            "home": home,
            "owner": _one(ask, OWNER, home),
            "belongs_to": (_one(ask, ROOT, subject) or {}).get("root"),
            "links": ask.execute(LINKS, (subject,)).fetchall(),
            "members": [row["subject"] for row in ask.execute(MEMBERS, (subject,)).fetchall()],
            "row": _one(ask, ROW, contact),
            "facts_by_type": {row["type"]: row["facts"] for row in ask.execute(COUNT, (subject,)).fetchall()},
            "facts": {"items": facts, "next": _next(facts[-1]) if more else None},
            "queued": _one(ask, QUEUED, home, contact),
            "nudges": [row for row in waiting if row["error"] is None],
            "errors": [row for row in waiting if row["error"] is not None],
            "parked": ask.execute(NAMED, {"newest": PARKED, "text": f'"{subject}"'}).fetchall(),
        }
    for fact in facts:
        del fact["key"]
    answer: dict[str, Any] = plain.told(told)
    return answer


def _one(ask: psycopg.Cursor[dict[str, Any]], statement: str, *values: object) -> dict[str, Any] | None:
    return ask.execute(statement.encode(), values).fetchone()


def _next(fact: dict[str, Any]) -> str:
    return f"{envelope.format_time(fact['time'].astimezone(UTC))}~{fact['key']}"


def _page(after: str | None) -> tuple[datetime | None, str | None]:
    if after is None:
        return None, None
    time, _, key = after.partition("~")
    try:
        return datetime.fromisoformat(time), str(uuid.UUID(key))
    except ValueError:
        raise errors.Usage("--after takes the `next` of the page before.") from None
