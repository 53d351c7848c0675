"""What belongs to a contact, and what was told of it: merges and sessions, those taken back, too.

Promises: links in the order of time, the newest first, each with who told it and who took it back.
Limits: `MOST` of each; more are said to be there.
Called by: `api.console.contacts`.
"""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa

from api import servers
from schemas import identity

MOST: Final = 100

# Purpose: the links to a contact and from it, and the first that took each back.
_LINKS: Final = sa.text("""
select l.type, l.subject, l.target, l.time, l.actor, l.source, l.id, u.time as undone_at, u.actor as undone_by
from heed_data.registry l
left join lateral (select g.time, g.actor from heed_data.registry g
    where g.subject = l.subject and g.undoes = l.key order by g.time, g.id, g.source limit 1) u on true
where l.target is not null and (l.target = :subject or l.subject = :subject)
order by l.time desc, l.id desc, l.source desc limit :most
""")
_MEMBERS: Final = sa.text("""
select subject from heed_data.member where root = :subject and subject <> root order by subject limit :most
""")


async def read(database: servers.Database, contact: str) -> dict[str, Any]:
    """`members` (subjects that belong to the contact now), `links`, and whether there are `more` of either.

    Raises `errors.Away`, `Problem` for a contact of too many links.
    """
    subject = identity.CONTACT + contact
    links = await database.bounded(_LINKS, subject=subject, most=MOST + 1)
    members = await database.rows(_MEMBERS, subject=subject, most=MOST + 1)
    return {
        "members": [one["subject"] for one in members[:MOST]],
        "links": links[:MOST],
        "more": max(len(links), len(members)) > MOST,
    }
