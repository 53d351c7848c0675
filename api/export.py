"""Everything held about a contact, by HTTP: the right of access (LAW-6).

Promises: what `heed export` answers; `streams.export` says what that is.
Limits: an answer is held whole.
Route of `api.routes`.
"""

from __future__ import annotations

from typing import Any

from api import contacts, problems, servers
from schemas import sealing
from streams import export as exporting
from streams import vault


async def export(database: servers.Database, contact: str, keys: vault.Vault) -> dict[str, Any]:
    """The answer; raises `Problem` (404: an ill-formed id, 410: one that is erased, 500: what cannot be
    opened), `errors.Away`."""
    contacts.well_formed(contact)
    try:
        return await database.work(
            "export", lambda connection, _: exporting.export(connection, contact, keys.master)
        )
    except exporting.Erased as gone:
        raise problems.Problem(problems.ERASED, str(gone)) from gone
    except (exporting.NotOpened, sealing.Unopened) as doubt:
        raise problems.Problem(problems.NOT_OPENED, str(doubt)) from doubt
