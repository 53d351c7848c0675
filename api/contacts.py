"""Contacts: what is known of one, and what an operator changes: merged, deleted, restored, its consent
(IDN-4, IDN-6, CEE-11, CEE-12).

Promises: a change is a fact that names its actor, acknowledged by the log and in force when it is answered.
What holds already is not told again. Of a merged contact the root's answer is given, with `merged_into`;
deleting, restoring and consent are of the contact named alone.
Limits: waits 4 s for the owner of the contact's home, or of the registry; the row follows within moments.
Called by: routes of `api.routes_contacts`, `api.engagement`, `api.explain`, `heed contact`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, Literal

import msgspec
import sqlalchemy as sa

from api import in_force, links, problems, servers
from schemas import consent, identity
from schemas import links as told_links
from streams import telling

MOST_LINKS: Final = 1_000

# Purpose: whose a contact is; its own, if it belongs to none.
ROOT: Final = sa.text("""
select coalesce((select substr(m.root, 9) from heed_data.member m where m.subject = 'contact:' || :contact),
    :contact) as root, statement_timestamp() as clock
""")
ROOT_AT: Final = sa.text("""
select substr(heed_data.root_at('contact:' || :contact, :as_of), 9) as root, statement_timestamp() as clock
""")
# Purpose: the latest word on a contact's presence, and on its own consent.
WORDS: Final = sa.text("""
select w.type = 'contact.deleted' as deleted, w.time as deleted_at, c.data::jsonb->>'level' as level, c.time
from (select 1) one
left join lateral (select f.type, f.time from heed_data.fact f
    where f.subject = :subject and f.type in ('contact.deleted', 'contact.restored')
    order by f.time desc, f.id desc, f.source desc limit 1) w on true
left join lateral (select f.data, f.time from heed_data.fact f
    where f.subject = :subject and f.type = 'contact.consent_changed'
    order by f.time desc, f.id desc, f.source desc limit 1) c on true
""")
# Purpose: what is known of a root: whether anything was told of it, since when and by whom it is deleted, and
# the consent that holds: of all that belongs to it the most restrictive, of equals the latest.
KNOWN: Final = sa.text("""
with told as materialized (
    select s.subject from heed_data.subjects_of(:root, 'infinity') s(subject)
)
select exists (select from told t join heed_data.fact f on f.subject = t.subject)
        or exists (select from heed_data.registry r where r.subject = 'contact:' || :root)
        or exists (select from heed_data.registry r where r.target = 'contact:' || :root) as known,
    w.type = 'contact.deleted' as deleted, w.source as deleted_source, w.id as deleted_id,
    w.time as deleted_at, w.actor as deleted_by, c.level, c.subject, c.source, c.id, c.time, c.actor
from (select 1) one
left join lateral (select f.type, f.source, f.id, f.time, f.actor from heed_data.fact f
    where f.subject = 'contact:' || :root and f.type in ('contact.deleted', 'contact.restored')
    order by f.time desc, f.id desc, f.source desc limit 1) w on true
left join lateral (
    select said.* from told t
    cross join lateral (
        select f.data::jsonb->>'level' as level, f.subject, f.source, f.id, f.time, f.actor
        from heed_data.fact f where f.subject = t.subject and f.type = 'contact.consent_changed'
        order by f.time desc, f.id desc, f.source desc limit 1) said
    order by array_position(array['refused', 'aggregate', 'individual'], said.level), said.time desc limit 1
) c on true
""")
# Purpose: the links by which others belong to a root, and its own that do not hold; the newest first.
LINKS: Final = sa.text("""
select l.subject, substr(l.target, 9) as contact_id, l.source, l.id, l.time, l.actor
from heed_data.registry l
where l.subject in (select s.subject from heed_data.subjects_of(:root, 'infinity') s(subject))
    and l.target is not null
    and not exists (select from heed_data.registry u where u.subject = l.subject and u.undoes = l.key)
order by l.time desc, l.id desc, l.source desc limit :most
""")


class Into(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a merge, and of the taking back of one."""

    into: str


class Consent(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a change of consent."""

    level: Literal["refused", "aggregate", "individual"]


def well_formed(contact: str) -> str:
    """The id itself; raises `Problem` (404) for an ill-formed one."""
    if identity.is_contact_id(contact) is None:
        raise problems.Problem(
            problems.NO_CONTACT_ID, "A contact id has 1 to 64 of the characters A-Z a-z 0-9 _ . ~ -."
        )
    return contact


async def root_of(database: servers.Database, contact: str, as_of: datetime | None = None) -> str:
    """Whose a contact is, now or at a past instant.

    Raises `Problem` for an ill-formed id, for one that is erased and for an instant that is yet to come;
    `errors.Away`.
    """
    well_formed(contact)
    await in_force.refuse_erased(database, identity.CONTACT + contact)
    if as_of is None:
        (found,) = await database.rows(ROOT, contact=contact)
    else:
        (found,) = await database.rows(ROOT_AT, contact=contact, as_of=as_of)
        not_later(as_of, found["clock"])
    root: str = found["root"]
    return root


def not_later(as_of: datetime, clock: datetime) -> None:
    """Raises `Problem` for an instant that is yet to come: nobody knows what will be told until then."""
    if as_of > clock:
        raise problems.Problem(problems.WRONG_PARAMETER, "Parameter as_of: no instant that is yet to come.")


def merged_into(contact: str, root: str) -> dict[str, str]:
    """What an answer about a contact says of whose it is; nothing, if it is its own."""
    return {} if contact == root else {"merged_into": root}


async def read(database: servers.Database, contact: str) -> dict[str, Any]:
    """What is known of a contact: whether it is deleted, its consent, and what belongs to it by which links.

    Raises `Problem` for an ill-formed id, `errors.Away`.
    """
    root = await root_of(database, contact)
    (found,) = await database.rows(KNOWN, root=root)
    standing = await database.rows(LINKS, root=root, most=MOST_LINKS + 1)
    deletion = {"source": "deleted_source", "id": "deleted_id", "time": "deleted_at", "actor": "deleted_by"}
    given = ("level", "subject", "source", "id", "time", "actor")
    return {
        "contact_id": root,
        **merged_into(contact, root),
        "known": found["known"],
        "deleted": {name: found[of] for name, of in deletion.items()} if found["deleted"] else None,
        "consent": {name: found[name] for name in given} if found["level"] is not None else None,
        "links": standing[:MOST_LINKS],
        "truncated": len(standing) > MOST_LINKS,
    }


async def merge(
    database: servers.Database, log: telling.Way, contact: str, asked: Into, actor: str
) -> dict[str, Any]:
    """Merge a contact into another; answers whose it is then.

    Raises `Problem` for an id that is none, for a merge into itself, for a registry that nobody folds;
    `errors.Away`.
    """
    subject, told = _pair(contact, asked), ("contact.merged", told_links.Merged(asked.into))
    events = await links.link(database, log, subject, asked.into, told, actor)
    return await _belongs(database, contact, events)


async def unmerge(
    database: servers.Database, log: telling.Way, contact: str, asked: Into, actor: str
) -> dict[str, Any]:
    """Take back every standing merge of a contact into another; answers whose it is then.

    Raises as `merge` does.
    """
    subject, told = _pair(contact, asked), ("contact.unmerged", told_links.Unmerged)
    events = await links.unlink(database, log, subject, asked.into, told, actor)
    return await _belongs(database, contact, events)


async def delete(database: servers.Database, log: telling.Way, contact: str, actor: str) -> dict[str, Any]:
    """Delete a contact: it has no row until it is restored. Raises `Problem`, `errors.Away`."""
    return await _be(database, log, contact, actor, deleted=True)


async def restore(database: servers.Database, log: telling.Way, contact: str, actor: str) -> dict[str, Any]:
    """Restore a deleted contact, with the row that it would have had. Raises `Problem`, `errors.Away`."""
    return await _be(database, log, contact, actor, deleted=False)


async def agree(
    database: servers.Database, log: telling.Way, contact: str, asked: Consent, actor: str
) -> dict[str, Any]:
    """Record a contact's own consent; of what belongs together the most restrictive holds.

    Raises `Problem`, `errors.Away`.
    """
    subject = identity.CONTACT + well_formed(contact)
    (found,) = await database.rows(WORDS, subject=subject)
    entries = []
    if found["level"] != asked.level:
        content = consent.ConsentChanged(asked.level)
        time = in_force.after(found["time"])
        entries.append(telling.Entry("contact.consent_changed", subject, content, actor, time=time))
    events = await in_force.tell(database, log, *entries)
    return {"contact_id": contact, "level": asked.level, "events": events}


async def _be(
    database: servers.Database, log: telling.Way, contact: str, actor: str, *, deleted: bool
) -> dict[str, Any]:
    subject = identity.CONTACT + well_formed(contact)
    (found,) = await database.rows(WORDS, subject=subject)
    entries = []
    if bool(found["deleted"]) != deleted:
        type_ = "contact.deleted" if deleted else "contact.restored"
        content = identity.Deleted() if deleted else identity.Restored()
        time = in_force.after(found["deleted_at"])
        entries.append(telling.Entry(type_, subject, content, actor, time=time))
    events = await in_force.tell(database, log, *entries)
    return {"contact_id": contact, "deleted": deleted, "events": events}


async def _belongs(database: servers.Database, contact: str, events: list[dict[str, Any]]) -> dict[str, Any]:
    root = await root_of(database, contact)
    return {"contact_id": contact, "merged_into": None if root == contact else root, "events": events}


def _pair(contact: str, asked: Into) -> str:
    well_formed(contact)
    if identity.is_contact_id(asked.into) is None or asked.into == contact:
        raise problems.Problem(
            problems.WRONG_VALUE,
            "into must be the id of another contact: 1 to 64 of the characters A-Z a-z 0-9 _ . ~ -.",
        )
    return identity.CONTACT + contact
