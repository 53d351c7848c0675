"""What a reader could not fold, kept with its reason and its bytes (LAW-7).

Promises: a record is parked once, by its topic, partition and offset, in the transaction that moves the
position.
Limits: text that PostgreSQL cannot keep loses what it cannot keep; the bytes are kept as they came.
Called by: intake, `projections.fold`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import psycopg

from projections import records

PARK: Final = """
insert into parked (reason, detail, type, source, event_id, door, topic, part, off, event_time, bytes)
values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) on conflict (topic, part, off) do nothing
"""


def park(connection: psycopg.Connection, asides: Sequence[records.Aside]) -> None:
    """Set records aside, inside the caller's transaction; one that stands there already is left as it is."""
    if asides:
        with connection.cursor() as cursor:
            cursor.executemany(PARK, [_row(aside) for aside in asides])


def _row(one: records.Aside) -> tuple[object, ...]:
    told = (_plain(one.type), _plain(one.source), _plain(one.event_id))
    return (one.reason, one.detail, *told, one.door, one.topic, one.part, one.off, one.event_time, one.raw)


def _plain(text: str | None) -> str | None:
    """Text as PostgreSQL can keep it: without NUL and lone surrogates."""
    if text is None:
        return None
    return text.replace("\0", "").encode("utf-8", "replace").decode()[:256]
