"""Keys as the registry has them: which are taken, under what name, with which scopes (CEE-14).

Promises: only hashes are kept. A key is taken from its creation on until it is revoked, whatever is said of
it later or arrives in another order (LAW-1). What is read is of one instant, with how far the registry was
folded at it.
Called by: the API (who asks), `heed keys`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from schemas import registry

READ: Final = """
select k.subject, k.data->>'hash' as hash, k.data->>'name' as name, k.data->>'scopes' as scopes,
    k.time as created_at, k.actor as created_by, r.time as revoked_at, r.actor as revoked_by, p.next_offset
from (select next_offset from heed_data.position
    where reader = 'fold' and topic = 'registry' and part = 0) p
left join heed_data.registry k on k.type = 'key.created'
left join lateral (select g.time, g.actor from heed_data.registry g
    where g.type = 'key.revoked' and g.subject = k.subject
    order by g.time, g.id, g.source limit 1) r on true
order by k.time, k.subject
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Key:
    """A key: its id and name, what it may do, since when, until when; never the key itself."""

    id: str
    name: str
    scopes: frozenset[str]
    hash: str
    created_at: datetime
    created_by: str | None
    revoked_at: datetime | None
    revoked_by: str | None

    @property
    def taken(self) -> bool:
        return self.revoked_at is None


def read(rows: Sequence[Mapping[str, Any]]) -> tuple[int, list[Key]]:
    """How far the registry is folded (-1: nobody has claimed it), and every key, by its creation."""
    if not rows:
        return -1, []
    found = [
        Key(
            one["subject"].removeprefix(registry.KEY), one["name"], frozenset(one["scopes"].split()),
            one["hash"], one["created_at"], one["created_by"], one["revoked_at"], one["revoked_by"],
        )
        for one in rows if one["subject"] is not None
    ]  # fmt: skip
    return int(rows[0]["next_offset"]), found
