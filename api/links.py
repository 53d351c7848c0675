"""Links of a subject to a contact: told, and taken back (IDN-4, CEE-11).

Promises: a link is a fact of the registry that names its actor and is in force when it is answered. Taking
one back undoes every standing link of the pair, however it was told. What holds already is not told again,
and what does not stand is not taken back.
Limits: the rows of the two follow within moments.
Called by: `api.contacts` (merges), `api.sessions`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from api import in_force, problems, servers
from schemas import identity, links
from streams import telling

# Purpose: whether a subject's own link, of all that stand the latest, goes there; and how late any is dated.
HOLDS: Final = sa.text("""
select heed_data.link_at(:subject, 'infinity') = :target as holds,
    (select max(l.time) from heed_data.registry l
        where l.subject = :subject and l.target is not null) as latest
""")
# Purpose: the links of a pair that nothing took back.
STANDING: Final = sa.text("""
select l.source, l.id from heed_data.registry l
where l.subject = :subject and l.target = :target
    and not exists (select from heed_data.registry u where u.subject = l.subject and u.undoes = l.key)
order by l.time, l.id, l.source
""")
Undo = Callable[[links.Link], msgspec.Struct]
Events = list[dict[str, Any]]


async def link(
    database: servers.Database,
    log: telling.Way,
    subject: str,
    contact: str,
    told: tuple[str, msgspec.Struct],
    actor: str,
) -> Events:
    """Have a subject belong to a contact; `told` is the type and content that say so.

    Answers what was told: nothing, where it holds. Raises `Problem`, `errors.Away`.
    """
    await in_force.refuse_erased(database, _target(contact))
    (found,) = await database.rows(HOLDS, subject=subject, target=_target(contact))
    if found["holds"]:
        return []
    time = in_force.after(found["latest"])
    return await in_force.tell(database, log, telling.Entry(told[0], subject, told[1], actor, time=time))


async def unlink(
    database: servers.Database,
    log: telling.Way,
    subject: str,
    contact: str,
    told: tuple[str, Undo],
    actor: str,
) -> Events:
    """Take back every standing link of a subject to a contact; `told` as in `link`. Raises as that."""
    standing = await database.rows(STANDING, subject=subject, target=_target(contact))
    type_, undo = told
    entries = [
        telling.Entry(type_, subject, undo(links.Link(one["id"], one["source"])), actor) for one in standing
    ]
    return await in_force.tell(database, log, *entries)


def _target(contact: str) -> str:
    if identity.is_contact_id(contact) is None:
        raise problems.Problem(
            problems.WRONG_VALUE, "A contact id has 1 to 64 of the characters A-Z a-z 0-9 _ . ~ -."
        )
    return identity.CONTACT + contact
