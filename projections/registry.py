"""The registry folded: what was decided for all of Heed, and who belongs to whom, by one writer.

Promises: the position of the topic, its facts, the rule that rows depend on and the table `member` commit
together (*One writer* of the design), with nudges for whom they concern (`projections.membership`). Each
fact once for ever; of two contents under one key the smaller (time, digest) stands, of one content told by
several the smallest actor, nobody last, and of several facts about one subject the latest by (time, id)
holds: order decides nothing (LAW-1). When the rule changes,
everyone is put up for recalculation in that very transaction (CEE-7). What cannot be read, or says a value
that no setting takes, is set aside with its reason and stops nothing.
Limits: the connection has search_path = <pair>, heed_ops and is in autocommit; one partition.
Called by: the registry's lane (`streams.registry_loop`), replay, law tests.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final

import msgspec
import psycopg

from projections import (
    database,
    erasure,
    membership,
    parked,
    parked_again,
    positions,
    recalculation,
    records,
)
from schemas import codec, envelope, errors, events, identified, identity, registry, settings, topics

READER: Final = "fold"
TP: Final = (topics.REGISTRY, 0)

COLUMNS: Final = {
    "subject": "text", "key": "uuid", "source": "text", "id": "text", "type": "text", "time": "timestamptz",
    "version": "smallint", "digest": "uuid", "accepted": "timestamptz", "actor": "text", "off": "bigint",
    "target": "text", "undoes": "text", "data": "jsonb",
}  # fmt: skip
MERGE: Final = """
insert into registry as r (subject, key, source, id, type, time, version, digest, accepted, actor, off,
    target, undoes, data)
select subject, key, source, id, type, time, version, digest, accepted, nullif(actor, ''), off,
    nullif(target, ''), nullif(undoes, '')::uuid, data
from unnest({arrays}) as u({columns})
on conflict (subject, key) do update set type = excluded.type, time = excluded.time,
    version = excluded.version, digest = excluded.digest, accepted = excluded.accepted,
    actor = excluded.actor, off = excluded.off, target = excluded.target, undoes = excluded.undoes,
    data = excluded.data
where (excluded.time, excluded.digest, excluded.actor is null, excluded.actor collate "C")
    < (r.time, r.digest, r.actor is null, r.actor collate "C")
""".format(columns=", ".join(COLUMNS), arrays=", ".join(f"%s::{type_}[]" for type_ in COLUMNS.values()))
# Purpose: the rule as the registry has it now; answers it only when it has changed.
RULE: Final = """
update rule r set period_months = n.period_months, keep_row_without_clicks = n.keep
from (select coalesce(setting_at('engagement_period_months', 'infinity')::int, o.period_months)
            as period_months,
        coalesce(setting_at('keep_row_without_clicks', 'infinity')::bool, o.keep_row_without_clicks) as keep
    from rule o) n
where (r.period_months, r.keep_row_without_clicks) is distinct from (n.period_months, n.keep)
returning r.period_months
"""
# Purpose: whose identifiers are by facts that stand under the keys of these.
STANDING: Final = """
select distinct r.target from unnest(%s::text[], %s::uuid[]) as u(subject, key)
join registry r on r.subject = u.subject and r.key = u.key where r.target is not null
"""
SETTINGS: Final = """
select distinct on (subject) substr(subject, 9), data->>'value' from registry
where type = 'setting.changed' order by subject, time desc, id desc, source desc
"""


@dataclasses.dataclass(slots=True)
class Batch:
    """What one transaction reads of the registry, and how far its partition moves.

    `facts` are rows by subject and key, each once; `linked` are subjects whose links may have changed,
    `holders` contacts that an identifier was linked to,
    `erased` those that an erasure covers.
    """

    moves: dict[positions.TP, positions.Move]
    facts: dict[tuple[str, str], tuple[object, ...]] = dataclasses.field(default_factory=dict)
    types: list[str] = dataclasses.field(default_factory=list)
    linked: set[str] = dataclasses.field(default_factory=set)
    holders: set[str] = dataclasses.field(default_factory=set)
    erased: set[str] = dataclasses.field(default_factory=set)
    asides: list[records.Aside] = dataclasses.field(default_factory=list)
    again: parked_again.Again | None = None


@dataclasses.dataclass(slots=True)
class Done:
    """What one transaction did; `more`: contacts are still being put into the queue."""

    at: datetime
    changed: bool = False
    more: bool = False


def decode(found: Iterable[records.Record]) -> Batch:
    """Records of the registry as rows of its table; never raises for what a record holds."""
    batch = Batch({})
    for record in found:
        try:
            _take(batch, record)
        except codec.Unreadable as error:
            batch.asides.append(records.aside(record, error.reason, error.detail))
    return batch


def advance(connection: psycopg.Connection, batch: Batch, homes: int, at: datetime | None = None) -> Done:
    """Fold a batch (which may be empty), and put a step of those who wait into the queue; one transaction.

    Blocks for the database only. Raises `positions.Fenced`; psycopg.Error when the server is away.
    """
    with connection.transaction():
        done = Done(positions.move(connection, READER, batch.moves, at))
        done.changed = merge(connection, batch)
        if done.changed:
            recalculation.everyone(connection, recalculation.RULE, done.at)
        membership.follow(connection, batch.linked, batch.holders, homes)
        erasure.tell(connection, batch.erased, homes)
        erasure.destroy_keys(connection, batch.erased)
        if batch.again is not None:
            parked_again.settle(connection, batch.again)
        parked.park(connection, batch.asides)
        done.more = recalculation.queue_step(connection, homes, done.at)
    return done


def merge(connection: psycopg.Connection, batch: Batch) -> bool:
    """Facts into the table, inside the caller's transaction; whether the rule has changed by them."""
    if not batch.facts:
        return False
    named = [name for name in batch.facts if name[0].startswith(identity.IDENTIFIERS)]
    if named:  # another contact may have stood where one does now, and have lost its primary address
        found = connection.execute(STANDING, [list(column) for column in zip(*named, strict=True)])
        batch.holders |= {target for (target,) in found.fetchall()}
    columns = zip(*batch.facts.values(), strict=True)
    connection.execute(MERGE.encode(), [database.array(column) for column in columns])
    batch.linked |= erasure.follow(connection, batch.erased, batch.linked)
    return bool(connection.execute(RULE).fetchall())


def values(connection: psycopg.Connection) -> Mapping[str, str]:
    """Every setting that the registry speaks of, with the value that holds, as its variable would have it."""
    return dict(connection.execute(SETTINGS).fetchall())


def _take(batch: Batch, record: records.Record) -> None:
    if isinstance(record.value, records.Unread):
        raise codec.Unreadable(errors.Reason.UNDECODABLE, record.value.detail)
    fact = envelope.read_fact(record.value or b"")
    event = events.EVENTS.get(fact.type)
    if event is None or not event.registered:
        raise codec.Unreadable(errors.Reason.UNKNOWN_TYPE, "this Heed does not know the type of this fact.")
    content = codec.content(event, codec.version(fact.dataschema, event), fact.data)
    _check(event, content, fact.subject)
    target, undoes = membership.link_of(content)
    name = fact.subject, codec.key(fact.source, fact.id)
    batch.types.append(fact.type)
    if target or undoes:
        batch.linked.add(fact.subject)
        if target and isinstance(content, identified.IdentifierLinked):
            batch.holders.add(target)
    if isinstance(content, registry.ContactErased):
        batch.erased.update(content.covers)
    standing = batch.facts.get(name)
    if standing is not None and (standing[5], standing[7], _actor(standing[9])) <= (
        fact.time,
        fact.digest,
        _actor(fact.actor),
    ):
        return
    batch.facts[name] = (
        *name, fact.source, fact.id, fact.type, fact.time, event.version, fact.digest, fact.accepted,
        fact.actor or "", record.offset, target, undoes, msgspec.json.encode(content).decode(),
    )  # fmt: skip


def _actor(actor: object) -> tuple[bool, str]:
    """Actors in order; nobody comes last."""
    return not actor, str(actor or "")


def _check(event: events.EventType, content: msgspec.Struct, subject: str) -> None:
    """A stranger's word is none that would stop every row, or links what cannot be linked."""
    if isinstance(content, identified.IdentifierLinked):
        admitted = identity.is_identifier(subject) is not None
    else:
        admitted = event.door is None or bool(
            subject.startswith(event.subjects) and identity.is_logged(subject)
        )
    if not admitted:
        raise codec.Unreadable(errors.Reason.INVALID, "the subject of this fact is none that Heed admits.")
    if not isinstance(content, registry.SettingChanged):
        return
    try:
        if content.name not in settings.CHANGING or subject != registry.setting(content.name):
            raise errors.Usage
        settings.parse(content.name, content.value)
    except errors.Usage:
        detail = "data is not a setting of this Heed with a value that it takes."
        raise codec.Unreadable(errors.Reason.INVALID, detail) from None
