"""Contacts: whose one is, merged into another, and a merge taken back (IDN-4, CEE-11).

Promises: a merge is a fact of the registry that names its actor, acknowledged by the log and in force when it
is answered; taking one back undoes every standing merge of the pair, however it was told. Merging who is
merged there already writes nothing, and so does taking back what does not stand.
Limits: waits 4 s for the registry's owner; the rows of the two follow within moments.
Called by: routes of `api.routes`, `api.engagement`, `api.explain`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from uuid_utils import compat

from api import problems, servers, settings
from schemas import identity, links
from streams import registry as writing

# Purpose: whose a contact is; its own, if it belongs to none.
ROOT: Final = sa.text("""
select coalesce((select substr(m.root, 9) from heed_data.member m where m.subject = 'contact:' || :contact),
    :contact) as root, statement_timestamp() as clock
""")
ROOT_AT: Final = sa.text("""
select substr(heed_data.root_at('contact:' || :contact, :as_of), 9) as root, statement_timestamp() as clock
""")
# Purpose: whether a contact's own link, of all that stand the latest, goes there.
HOLDS: Final = sa.text("""
select heed_data.link_at('contact:' || :contact, 'infinity') = 'contact:' || :into as holds
""")
# Purpose: the merges of a pair that nothing took back.
STANDING: Final = sa.text("""
select l.source, l.id from heed_data.registry l
where l.subject = 'contact:' || :contact and l.target = 'contact:' || :into
    and not exists (select from heed_data.registry u where u.subject = l.subject and u.undoes = l.key)
order by l.time, l.id, l.source
""")


class Into(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a merge, and of the taking back of one."""

    into: str


def well_formed(contact: str) -> str:
    """The id itself; raises `Problem` (404) for an ill-formed one."""
    if identity.is_contact_id(contact) is None:
        raise problems.Problem(
            problems.NO_CONTACT_ID, "A contact id has 1 to 64 of the characters A-Z a-z 0-9 _ . ~ -."
        )
    return contact


async def root_of(database: servers.Database, contact: str, as_of: datetime | None = None) -> str:
    """Whose a contact is, now or at a past instant.

    Raises `Problem` for an ill-formed id and for an instant that is yet to come, `errors.Away`.
    """
    well_formed(contact)
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


async def merge(
    database: servers.Database, log: writing.Way, contact: str, asked: Into, actor: str
) -> dict[str, Any]:
    """Merge a contact into another; answers whose it is then.

    Raises `Problem` for an id that is none, for a merge into itself, for a registry that nobody folds;
    `errors.Away`.
    """
    _pair(contact, asked)
    (found,) = await database.rows(HOLDS, contact=contact, into=asked.into)
    if found["holds"]:
        return await _answer(database, contact, [])
    return await _tell(database, log, contact, "contact.merged", [links.Merged(asked.into)], actor)


async def unmerge(
    database: servers.Database, log: writing.Way, contact: str, asked: Into, actor: str
) -> dict[str, Any]:
    """Take back every standing merge of a contact into another; answers whose it is then.

    Raises as `merge` does.
    """
    _pair(contact, asked)
    standing = await database.rows(STANDING, contact=contact, into=asked.into)
    undone = [links.Unmerged(links.Link(one["id"], one["source"])) for one in standing]
    return await _tell(database, log, contact, "contact.unmerged", undone, actor)


async def _tell(
    database: servers.Database,
    log: writing.Way,
    contact: str,
    type_: str,
    contents: list[links.Merged] | list[links.Unmerged],
    actor: str,
) -> dict[str, Any]:
    subject = identity.CONTACT + contact
    entries = [writing.Entry(type_, subject, content, actor, id=str(compat.uuid7())) for content in contents]
    if entries:
        await writing.append(log, entries)
    for entry in entries:
        await settings.wait_for(database, subject, str(entry.id))
    return await _answer(database, contact, entries)


async def _answer(database: servers.Database, contact: str, entries: list[writing.Entry]) -> dict[str, Any]:
    root = await root_of(database, contact)
    events = [{"source": writing.SOURCE, "id": entry.id} for entry in entries]
    return {"contact_id": contact, "merged_into": None if root == contact else root, "events": events}


def _pair(contact: str, asked: Into) -> None:
    well_formed(contact)
    if identity.is_contact_id(asked.into) is None or asked.into == contact:
        raise problems.Problem(
            problems.WRONG_VALUE,
            "into must be the id of another contact: 1 to 64 of the characters A-Z a-z 0-9 _ . ~ -.",
        )
