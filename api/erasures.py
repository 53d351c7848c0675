"""Erasing a contact (LAW-6): for ever, with all that belongs to it, on somebody's word and with the reason.

Promises: what is erased is told as facts that name their actor and every subject they cover; the contact
itself comes last, so whoever was interrupted asks again and goes on. When it answers, nobody is told of these
subjects any more; the owners of their homes let go of what they hold within moments, and their keys are
destroyed. Asking again tells nothing again.
Limits: waits 4 s for the registry's owner. Naming a merged contact erases all of the contact it belongs to,
which has to be said (`whole`). An address, number or id of the sender's that another contact has as well
stays his, with what was told of it. What becomes linked to the contact in this very moment is not covered;
its link is without effect then.
Called by: routes of `api.routes_contacts`, `heed erase`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec
import sqlalchemy as sa

from api import contacts, in_force, problems, servers
from schemas import identity, registry
from streams import telling

_PAUSE: Final = 0.05

# Purpose: what belongs to a contact, but for identifiers that are another's as well: those stay with him.
MEMBERS: Final = sa.text("""
select s.subject from heed_data.subjects_of(substr(:root, 9), 'infinity') s(subject)
where s.subject <> :root
    and not exists (
        select from heed_data.registry l left join heed_data.member m on m.subject = l.target
        where l.subject = s.subject and l.type = 'identifier.linked' and l.target is not null
            and coalesce(m.root, l.target) <> :root
            and not exists (select from heed_data.registry u
                where u.subject = l.subject and u.undoes = l.key offset 0))
order by s.subject
""")
# Purpose: what is still held of these: facts, and keys that are not destroyed.
HELD: Final = sa.text("""
with s as materialized (select unnest(cast(:subjects as text[])) as subject)
select (select count(*) from s join heed_data.fact f using (subject)) as facts,
    (select count(*) from s join heed_ops.data_key k using (subject) where not k.destroyed)
        + (select count(*) from s join heed_ops.key_to_destroy d using (subject)) as keys
""")
COVERED: Final = sa.text("""
select jsonb_array_elements_text(data->'covers') as subject from heed_data.registry
where type = 'contact.erased' and subject = :root
""")

Why = Annotated[str, msgspec.Meta(max_length=256)]


class Erase(msgspec.Struct, forbid_unknown_fields=True):
    """The body of an erasure: why, and for a merged contact whether all of its root is meant."""

    why: Why = ""
    whole: bool = False


async def erase(
    database: servers.Database, log: telling.Way, contact: str, asked: Erase, actor: str
) -> dict[str, Any]:
    """Erase a contact and all that belongs to it; answers which contact that was and how many subjects.

    Raises `Problem` for an ill-formed id, for a merged contact unless `whole` is asked, for a registry that
    nobody folds; `errors.Away`.
    """
    contacts.well_formed(contact)
    if await in_force.erased(database, [identity.CONTACT + contact]):
        return {"contact_id": contact, "subjects": 0, "events": []}
    root, members = await covered(database, contact)
    if root != contact and not asked.whole:
        raise problems.Problem(
            problems.MERGED,
            "It belongs to another contact, all of which would be erased: say `whole`, or unmerge it.",
            merged_into=root,
        )
    subject = identity.CONTACT + root
    covers = [*members, subject]
    entries = [
        telling.Entry("contact.erased", subject, registry.ContactErased(some, asked.why), actor)
        for some in _steps(covers)
    ]
    events = await in_force.tell(database, log, *entries)
    return {"contact_id": root, "subjects": len(covers), "events": events}


async def covered(database: servers.Database, contact: str) -> tuple[str, list[str]]:
    """The contact that would be erased, and the subjects besides itself. Raises `Problem`, `errors.Away`."""
    (found,) = await database.rows(contacts.ROOT, contact=contacts.well_formed(contact))
    root: str = found["root"]
    members = await database.rows(MEMBERS, root=identity.CONTACT + root)
    return root, [one["subject"] for one in members]


async def settled(database: servers.Database, contact: str, seconds: float) -> dict[str, int]:
    """Wait until nothing is held any more of an erased contact, at most so long; answers what is.

    Raises `errors.Away`.
    """
    subjects = [one["subject"] for one in await database.rows(COVERED, root=identity.CONTACT + contact)]
    until = time.monotonic() + seconds
    while True:
        (held,) = await database.rows(HELD, subjects=subjects)
        if not any(held.values()) or time.monotonic() > until:
            return held
        await asyncio.sleep(_PAUSE)


def _steps(covers: Sequence[str]) -> list[list[str]]:
    """In parts that a record holds; the contact itself is in the last."""
    size = registry.MOST_COVERED
    return [list(covers[i : i + size]) for i in range(0, len(covers), size)]
