"""What keeps mail from a contact's addresses: on hold, opted out, do-not-email, and why (IDN-2).

Promises: what is answered follows from the facts of the contact and of all that belongs to it, now or as of
a past instant, by `schemas.hold`; nothing is kept beside them. Each that holds names the fact that began it.
A change is a fact that names its actor, its address sealed, acknowledged by the log and in force when it is
answered. What holds already, or is lifted already, is not told again.
Limits: at most `servers.BOUNDED_SECONDS` to read; a change waits 4 s for the owner of the contact's home.
What was sealed with a key that is destroyed is left out; a key that is merely missing is an error.
Called by: routes of `api.routes_contacts`, `api.console.contacts`, `heed contact`.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from uuid_utils import compat

from api import contacts, in_force, ingest, problems, servers
from projections import tables
from schemas import admission, completion, envelope, events, hold, identity, sealing, settings
from streams import export, judge, telling, vault

# Purpose: what was told of holds and bounces of a contact and all that belongs to it, with the keys that open
# it. `offset 0` keeps the planner at reading subject by subject, by index alone.
_TOLD: Final = sa.text("""
select f.subject, f.source, f.id, f.type, f.time, f.actor, f.data, f.sealed, f.kid, k.wrapped, k.master,
    k.kid is not null as there
from heed_data.subjects_of(:contact, :upto) s(subject)
cross join lateral (
    select f.subject, f.source, f.id, f.type, f.time, f.actor, f.data, f.sealed, f.kid from heed_data.fact f
    where f.subject = s.subject and f.type in ('contact.hold_changed', 'mail.bounced') and not f.test
        and f.time <= :upto offset 0
) f
left join heed_ops.data_key k on k.kid = f.kid
""").bindparams(sa.bindparam("upto", type_=tables.Moment))


class Hold(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a change: of an address, or without one of the contact itself."""

    kind: hold.Kind
    on: bool
    email: str | None = None


@dataclass(frozen=True, slots=True)
class Means:
    """What a change is told with: the rules, keys to seal with, and how events are judged here."""

    rules: hold.Rules
    keys: vault.Vault
    homes: int
    ahead: timedelta


def rules(chosen: settings.Settings) -> hold.Rules:
    """The rules as the settings have them."""
    return hold.Rules(chosen.hold_soft_bounces, chosen.hold_days)


def means(chosen: settings.Settings, keys: vault.Vault) -> Means:
    """What a change is told with, by the settings of a process."""
    return Means(rules(chosen), keys, chosen.homes, timedelta(seconds=chosen.ahead_seconds))


async def read(
    database: servers.Database, contact: str, by: hold.Rules, master: sealing.MasterKey,
    as_of: datetime | None = None,
) -> dict[str, Any]:  # fmt: skip
    """What holds of a contact: by kind (each is there) a list, the longest first.

    Raises `Problem` (404 an ill-formed id, 400 an instant to come, 500 what cannot be opened), `errors.Away`.
    """
    root = await contacts.root_of(database, contact, as_of)
    found = await of(database, root, by, master, as_of)
    return {"contact_id": root, **contacts.merged_into(contact, root), **found}


async def of(
    database: servers.Database, root: str, by: hold.Rules, master: sealing.MasterKey, as_of: datetime | None
) -> dict[str, list[dict[str, Any]]]:
    """The same of a contact that belongs to no other then. Raises `Problem` (500), `errors.Away`."""
    standing = hold.standing(await _told(database, root, master, as_of), by)
    return {kind: [_shown(one) for one in standing[kind]] for kind in hold.KINDS}


async def change(
    database: servers.Database, log: telling.Way, contact: str, asked: Hold, actor: str, by: Means
) -> dict[str, Any]:
    """Record a change of a contact's own, or of one of its addresses; answers what was told.

    Raises `Problem` (400 for what is no address), `errors.Away`.
    """
    subject = identity.CONTACT + contacts.well_formed(contact)
    root = await contacts.root_of(database, contact)
    told = await _told(database, root, by.keys.master, None)
    whom = hold.whom(subject, asked.email)
    of_it = [one for one in told if (one.kind, one.whom) == (asked.kind, whom)]
    holds = bool(hold.standing(of_it, by.rules)[asked.kind])
    made: list[dict[str, Any]] = []
    if holds != asked.on:
        latest = max((one.time for one in of_it), default=None)
        made = [await _tell(database, log, subject, asked, actor, by, in_force.after(latest))]
    return {"contact_id": contact, "kind": asked.kind, "on": asked.on, "events": made}


async def _tell(
    database: servers.Database, log: telling.Way, subject: str, asked: Hold, actor: str, by: Means,
    time: datetime | None,
) -> dict[str, Any]:  # fmt: skip
    id, now = str(compat.uuid7()), datetime.now(UTC)
    data = {name: value for name, value in msgspec.to_builtins(asked).items() if value is not None}
    raw = msgspec.json.encode({
        "specversion": "1.0", "id": id, "source": telling.SOURCE, "type": hold.CHANGED, "subject": subject,
        "time": envelope.format_time(time or now), "data": data,
    })  # fmt: skip
    secret = await by.keys.secret_within(servers.APPEND_SECONDS)
    judged = admission.admit(
        raw, at=now, door=None, homes=by.homes, ahead=by.ahead, secret=secret,
        fill=completion.Fill(actor=actor),
    )  # fmt: skip
    if isinstance(judged, admission.Rejected):
        raise problems.Problem(problems.WRONG_VALUE, judged.detail)
    find = functools.partial(ingest.keys_of, database)
    await log.append(
        [judge.fact_record(one) for one in await by.keys.sealed_soon([judged], find, log.append)]
    )
    content = hold.HoldChanged(kind=asked.kind, on=asked.on)
    await in_force.folded(database, [telling.Entry(hold.CHANGED, subject, content, actor, id)])
    return {"source": telling.SOURCE, "id": id}


async def _told(
    database: servers.Database, root: str, master: sealing.MasterKey, as_of: datetime | None
) -> list[hold.Told]:
    rows = await database.bounded(_TOLD, contact=root, upto="infinity" if as_of is None else as_of)
    return await asyncio.to_thread(opened, rows, master)  # a KMS may be asked


def opened(rows: Sequence[Mapping[str, Any]], master: sealing.MasterKey) -> list[hold.Told]:
    """Rows as facts with their addresses; raises `Problem` (500) for what cannot be opened. Blocks."""
    kept = {
        row["kid"]: sealing.KeyRecord(row["kid"], row["wrapped"] and bytes(row["wrapped"]), row["master"])
        for row in rows
        if row["there"]
    }
    found = []
    try:
        keys = export.keys_of(kept, master)
        for row in rows:
            data = export.whole(row, kept, keys)
            if data is not None:
                content: Any = events.EVENTS[row["type"]].decode(data)
                found.append(
                    hold.Told(row["subject"], row["source"], row["id"], row["time"], row["actor"], content)
                )
    except (export.NotOpened, sealing.Unopened) as doubt:
        raise problems.Problem(problems.NOT_OPENED, str(doubt)) from doubt
    return found


def _shown(one: hold.Standing) -> dict[str, Any]:
    told = one.told
    return {
        "email": told.content.email, "since": told.time, "because": str(one.because),
        "subject": told.subject, "source": told.source, "id": told.id, "actor": told.actor,
    }  # fmt: skip
