"""Sessions: created, started, linked to a contact, and parted from it (EVT-5, IDN-4).

Promises: as `api.contacts`. A session is told of by its id, known or not; only the answer about one says
whether anything was ever told of it.
Limits: an id that Heed makes is random; with an Idempotency-Key it follows from that.
Called by: routes of `api.routes_contacts`, `heed session`.
"""

from __future__ import annotations

import uuid
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from uuid_utils import compat

from api import in_force, links, problems, servers
from schemas import identity, sessions
from schemas import links as told_links
from streams import telling

_RULE: Final = "A session id has 1 to 64 of the characters A-Z a-z 0-9 _ . ~ -."
_NAMESPACE: Final = uuid.UUID("6f1c0a52-9d0e-5a86-8a5c-3f5b1c9e7d20")

# Purpose: what is known of a session.
KNOWN: Final = sa.text("""
select exists (select from heed_data.fact f where f.subject = :subject)
        or exists (select from heed_data.registry r where r.subject = :subject) as known,
    (select substr(m.root, 9) from heed_data.member m where m.subject = :subject) as contact_id,
    (select min(f.time) from heed_data.fact f
        where f.subject = :subject and f.type = 'session.created') as created_at,
    (select max(f.time) from heed_data.fact f
        where f.subject = :subject and f.type = 'session.started') as started_at,
    (select count(*) from heed_data.fact f
        where f.subject = :subject and f.type = 'session.started') as starts
""")


class Create(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a creation; without an id, Heed makes one."""

    session_id: str | None = None


class To(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a link, and of the taking back of one."""

    contact_id: str


async def create(
    database: servers.Database, log: telling.Way, asked: Create, actor: str, key: str | None = None
) -> dict[str, Any]:
    """Create a session. With an Idempotency-Key the same request creates the same one."""
    session = asked.session_id
    if session is None:
        session = str(compat.uuid7()) if key is None else str(uuid.uuid5(_NAMESPACE, key))
    elif identity.is_contact_id(session) is None:
        raise problems.Problem(problems.WRONG_VALUE, f"session_id: {_RULE}")
    subject = identity.SESSION + session
    entry = telling.Entry("session.created", subject, sessions.Created(), actor)
    (found,) = await database.rows(KNOWN, subject=subject)
    events = [] if found["created_at"] else await in_force.tell(database, log, entry)
    return {"session_id": session, "events": events}


async def start(database: servers.Database, log: telling.Way, session: str, actor: str) -> dict[str, Any]:
    """A visit begins in a session. Raises `Problem` for an ill-formed id, `errors.Away`."""
    entry = telling.Entry("session.started", _subject(session), sessions.Started(), actor)
    return {"session_id": session, "events": await in_force.tell(database, log, entry)}


async def read(database: servers.Database, session: str) -> dict[str, Any]:
    """What is known of a session, and whose it is. Raises `Problem` (404) for one never told of."""
    (found,) = await database.rows(KNOWN, subject=_subject(session))
    if not found.pop("known"):
        raise problems.Problem(problems.NO_SESSION, f"{problems.NO_SESSION.title}.")
    return {"session_id": session, **found}


async def link(
    database: servers.Database, log: telling.Way, session: str, asked: To, actor: str
) -> dict[str, Any]:
    """Link a session to a contact; what was told of it, before and after, is the contact's."""
    subject, told = _subject(session), ("session.linked", told_links.SessionLinked(asked.contact_id))
    events = await links.link(database, log, subject, asked.contact_id, told, actor)
    return await _whose(database, session, events)


async def unlink(
    database: servers.Database, log: telling.Way, session: str, asked: To, actor: str
) -> dict[str, Any]:
    """Take back every standing link of a session to a contact; answers whose it is then."""
    subject, told = _subject(session), ("session.unlinked", told_links.SessionUnlinked)
    events = await links.unlink(database, log, subject, asked.contact_id, told, actor)
    return await _whose(database, session, events)


async def _whose(database: servers.Database, session: str, events: list[dict[str, Any]]) -> dict[str, Any]:
    (found,) = await database.rows(KNOWN, subject=_subject(session))
    return {"session_id": session, "contact_id": found["contact_id"], "events": events}


def _subject(session: str) -> str:
    if identity.is_contact_id(session) is None:
        raise problems.Problem(problems.NO_SESSION_ID, _RULE)
    return identity.SESSION + session
