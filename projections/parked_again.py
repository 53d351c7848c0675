"""Parked records of the log, folded again by the owner of their partition (LAW-7).

Promises: a record leaves `parked` in the very transaction that folds it, so it is neither lost nor folded by
two. Which are due: those that somebody asked for, and those that a worker with another table of event types
was too old to read. What still cannot be read stays, with the reason of today.
Limits: one transaction takes at most `parked.AT_ONCE` records or `parked.AT_ONCE_BYTES`.
Called by: `projections.fold`, the lanes of the log, `streams.parked_loop`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Final

import psycopg

from projections import parked, records
from schemas import events

# Purpose: what another table of event types could not read, in these partitions.
UNREAD: Final = """
select p.id from unnest(%(topics)s::text[], %(parts)s::int[]) o(topic, part)
cross join lateral (
    select id from parked
    where topic = o.topic and part = o.part and reason in ('unknown_type', 'newer_version')
        and judged_by <> %(judged_by)s order by id limit %(most)s) p
order by p.id limit %(most)s
"""
ASKED: Final = """
select p.id from unnest(%(topics)s::text[], %(parts)s::int[]) o(topic, part)
cross join lateral (
    select id from parked where topic = o.topic and part = o.part and asked order by id limit %(most)s) p
order by p.id limit %(most)s
"""
SIZES: Final = "select id, octet_length(bytes) from parked where id = any(%s) order by id"
TAKE: Final = "select id, reason, detail, topic, part, off, bytes from parked where id = any(%s) order by id"


Name = tuple[str, int, int, bytes]


@dataclasses.dataclass(slots=True)
class Again:
    """Parked records of the log that one transaction reads again: those it folds, those that stay."""

    ids: dict[Name, int]
    still: dict[int, records.Aside] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, kept: Sequence[parked.Kept]) -> Again:
        """These, of which nothing is known yet."""
        return cls({(*one.place, one.value): one.id for one in kept})

    @property
    def driven(self) -> list[int]:
        """Those that nothing speaks against."""
        return [id_ for id_ in self.ids.values() if id_ not in self.still]

    def take_out(self, asides: list[records.Aside]) -> None:
        """What was set aside again stays under its number, with the reason of today; the rest is left."""
        others = []
        for one in asides:
            id_ = self.ids.get((one.topic, one.part, one.off, one.raw))
            if id_ is None:
                others.append(one)
            else:
                self.still[id_] = one
        asides[:] = others


def unread(connection: psycopg.Connection, places: parked.Places) -> list[int]:
    """Records of these partitions that another table of event types did not know."""
    return parked.ids_of(connection, UNREAD, parked.named(places) | {"judged_by": events.fingerprint()})


def asked(connection: psycopg.Connection, places: parked.Places) -> list[int]:
    """Records of these partitions that their owner was asked to fold again."""
    return parked.ids_of(connection, ASKED, parked.named(places))


def take(connection: psycopg.Connection, places: parked.Places) -> list[parked.Kept]:
    """Records of the log that the owner of these partitions folds again: as many as fit a transaction."""
    ids = sorted({*asked(connection, places), *unread(connection, places)})[: parked.AT_ONCE]
    chosen: list[int] = []
    size = 0
    for id_, length in connection.execute(SIZES, (ids,)).fetchall() if ids else []:
        size += length
        if chosen and size > parked.AT_ONCE_BYTES:
            break
        chosen.append(id_)
    rows = connection.execute(TAKE, (chosen,)).fetchall() if chosen else []
    return [
        parked.Kept(id_, reason, detail, topic, part, off, bytes(raw))
        for id_, reason, detail, topic, part, off, raw in rows
    ]


def settle(connection: psycopg.Connection, again: Again) -> None:
    """Inside the transaction that folds them: those that are driven go, the others say why they stay."""
    parked.let_go(connection, again.driven)
    parked.keep(connection, again.still.items())
