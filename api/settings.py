"""The settings that people change while Heed runs: facts of the registry (CEE-7, CEE-14).

Promises: a value that the setting does not take is refused and nothing is changed; a change is acknowledged
by the log before it is answered, names its actor, and is in force when it is answered. Setting what holds
already writes nothing. How far a change of the rule has come is told as `progress`.
Limits: waits 4 s for the registry's owner.
Called by: routes of `api.routes`, `heed settings`.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
import sqlalchemy as sa

from api import in_force, problems, servers
from schemas import errors, registry, settings
from streams import telling

# Those that rows are computed by: a change of one is a matter of time.
_OF_ROWS: Final = frozenset({"engagement_period_months", "keep_row_without_clicks"})

_READ: Final = sa.text("""
select s.value, s.since, s.actor, r.period_months, r.keep_row_without_clicks, w.waiting, w.failed, c.filling
from heed_data.rule r
left join lateral (select g.data->>'value' as value, g.time as since, g.actor from heed_data.registry g
    where g.type = 'setting.changed' and g.subject = :subject
    order by g.time desc, g.id desc, g.source desc limit 1) s on true
cross join lateral (select count(*) as waiting, count(error) as failed from heed_data.recalculation
    where reason = 'setting') w
cross join lateral (select exists (select from heed_data.recalculation_cause
    where reason = 'setting' and not finished) as filling) c
""")


class Change(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a PUT."""

    value: Any


async def read(database: servers.Database, name: str) -> dict[str, Any]:
    """A setting as it holds: its value, since when, by whom, and how far its change has come.

    Raises `Problem` for a name that is none, `errors.Away`.
    """
    _known(name)
    (found,) = await database.rows(_READ, subject=registry.setting(name))
    value = found["value"]
    if value is None:  # before the first worker: as the tables were made
        held = found.get("period_months" if name == "engagement_period_months" else name)
        value = getattr(settings.Settings(), name) if held is None else held
    else:
        value = settings.parse(name, value)
    return {
        "name": name,
        "value": value,
        "since": found["since"],
        "actor": found["actor"],
        "progress": _progress(found) if name in _OF_ROWS else None,
    }


def _progress(found: dict[str, Any]) -> dict[str, Any]:
    """What is left of the recalculation: done, or who waits (not all of them, while it is still filling)."""
    over = not found["filling"] and found["waiting"] == found["failed"]
    return {"done": over, "waiting": found["waiting"], "failed": found["failed"], "filling": found["filling"]}


async def change(
    database: servers.Database, log: telling.Way, name: str, value: object, actor: str
) -> dict[str, Any]:
    """Set a setting and wait until it is in force; answers as `read` does.

    Raises `Problem` for a name that is none, a value that is not taken, a registry that nobody folds;
    `errors.Away`.
    """
    _known(name)
    try:
        wanted = settings.written(settings.parse(name, value))
    except errors.Usage as usage:
        raise problems.Problem(problems.WRONG_VALUE, str(usage)) from None
    subject = registry.setting(name)
    (found,) = await database.rows(_READ, subject=subject)
    if found["value"] != wanted:
        content = registry.SettingChanged(name, wanted)
        await in_force.tell(database, log, telling.Entry("setting.changed", subject, content, actor))
    return await read(database, name)


def _known(name: str) -> None:
    if name not in settings.CHANGING:
        raise problems.Problem(problems.NO_SETTING, f"{problems.NO_SETTING.title}.")
