"""The SQL of every revision, for the live pair of schemas and for a replay's shadow pair.

Promises: one text serves both. A revision's files are `<rev>_ops.sql` (machinery, once),
`<rev>_registry.sql`, `<rev>_data.sql`, `<rev>_explain.sql`, `<rev>_read.sql`, `<rev>_audit.sql` and
`<rev>_activity.sql` (the pair, under whatever names); `{ops}`, `{data}` and `{read}` stand for schema names.
Limits: files are immutable once released; a later revision adds its own. Functions are bound when they are
made (`begin atomic`): a body kept as text would go on naming schemas that were renamed.
Called by: the revisions in `versions/`, and `projections.shadow`, which applies every pair file in order.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from schemas import activity, events

HERE = Path(__file__).parent
OPS = "heed_ops"


@dataclasses.dataclass(frozen=True)
class Pair:
    """The two schemas that are built and renamed together."""

    data: str
    read: str


LIVE = Pair("heed_data", "heed_read")


def revisions() -> list[str]:
    """Every revision that has files here, oldest first."""
    return sorted({path.name.split("_", 1)[0] for path in HERE.glob("*.sql")})


def machinery(revision: str) -> list[str]:
    return _read(revision, ["ops"], LIVE)


def pair(revision: str, names: Pair) -> list[str]:
    return _read(revision, ["registry", "data", "explain", "read", "audit", "activity"], names)


def activity_kinds(names: Pair) -> str:
    """What the code says of activities, into a pair's copy of it. Nothing is taken out: a log is for ever."""
    kinds = [
        dataclasses.asdict(kind) | {"registered": events.EVENTS[name].registered}
        for name, kind in activity.KINDS.items()
    ]
    columns = ", ".join(kinds[0])
    told = json.dumps(kinds).replace("'", "''")
    return f"""
insert into {names.data}.activity_kind ({columns})
select {columns} from jsonb_populate_recordset(null::{names.data}.activity_kind, '{told}')
on conflict (event_type) do update set type = excluded.type, action = excluded.action,
    feature = excluded.feature, text = excluded.text, told = excluded.told, status = excluded.status,
    behaviour = excluded.behaviour, registered = excluded.registered
"""


def _read(revision: str, parts: list[str], names: Pair) -> list[str]:
    found = [HERE / f"{revision}_{part}.sql" for part in parts]
    return [_fill(path.read_text(), names) for path in found if path.exists()]


def _fill(text: str, names: Pair) -> str:
    return text.replace("{ops}", OPS).replace("{data}", names.data).replace("{read}", names.read)
