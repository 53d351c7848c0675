"""Keys: made, listed, revoked, rotated; each a fact of the registry that names its actor (CEE-14).

Promises: a key is shown once, when it is made; only its hash is kept. What was asked for is acknowledged by
the log and folded before it is answered. Revoking twice is one revocation; a rotated key is another key of
the same name and scopes, and the old one is taken until it is revoked.
Called by: routes of `api.routes`, `heed keys`.
"""

from __future__ import annotations

import secrets
from typing import Annotated, Any, Final, Literal

import msgspec
import sqlalchemy as sa
from uuid_utils import compat

from api import auth, in_force, problems, servers
from projections import keys
from schemas import registry
from streams import telling

_READ: Final = sa.text(keys.READ)
Scope = Literal["ingest", "ingest:public", "access", "administer"]


class Create(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a creation."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=r"^[ -~]*\Z")]
    scopes: Annotated[list[Scope], msgspec.Meta(min_length=1, max_length=4)]


async def read(database: servers.Database) -> dict[str, Any]:
    """Every key, the oldest first, revoked ones too; never a hash. Raises `errors.Away`."""
    _, found = keys.read(await database.rows(_READ))
    return {"items": [_shown(one) for one in found], "next": None}


async def create(database: servers.Database, log: telling.Way, asked: Create, actor: str) -> dict[str, Any]:
    """Make a key; the answer is the only place where `key` ever stands."""
    id_ = str(compat.uuid7())
    token = auth.PREFIX + secrets.token_urlsafe(32)
    scopes = " ".join(one for one in auth.SCOPES if one in asked.scopes)
    content = registry.KeyCreated(auth.hash_of(token), asked.name, scopes)
    await in_force.tell(database, log, _entry("key.created", id_, content, actor))
    return {**await one(database, id_), "key": token}


async def revoke(database: servers.Database, log: telling.Way, id_: str, actor: str) -> dict[str, Any]:
    """Take a key no more, from now on. Raises `Problem` (404) for one that was never made."""
    found = await one(database, id_)
    if found["revoked_at"] is None:
        await in_force.tell(database, log, _entry("key.revoked", id_, registry.KeyRevoked(), actor))
        found = await one(database, id_)
    return found


async def rotate(database: servers.Database, log: telling.Way, id_: str, actor: str) -> dict[str, Any]:
    """Make another key of the same name and scopes; the old one goes on until it is revoked."""
    found = await one(database, id_)
    if found["revoked_at"] is not None:
        raise problems.Problem(problems.NO_SUCH_KEY, "This key is revoked: make a new one instead.")
    return await create(database, log, Create(found["name"], found["scopes"]), actor)


def _entry(type_: str, id_: str, content: msgspec.Struct, actor: str) -> telling.Entry:
    return telling.Entry(type_, registry.KEY + id_, content, actor)


async def one(database: servers.Database, id_: str) -> dict[str, Any]:
    """A key by its id. Raises `Problem` (404) for one that was never made, `errors.Away`."""
    _, found = keys.read(await database.rows(_READ))
    for one in found:
        if one.id == id_:
            return _shown(one)
    raise problems.Problem(problems.NO_SUCH_KEY, f"{problems.NO_SUCH_KEY.title}.")


def _shown(one: keys.Key) -> dict[str, Any]:
    return {
        "id": one.id, "name": one.name, "scopes": [s for s in auth.SCOPES if s in one.scopes],
        "created_at": one.created_at, "created_by": one.created_by,
        "revoked_at": one.revoked_at, "revoked_by": one.revoked_by,
    }  # fmt: skip
