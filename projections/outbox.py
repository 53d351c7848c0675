"""The outbox: commands decided in a fold's transaction, until they are read back from the topic.

Promises: a row is written in the transaction that decided it and deleted in one that has read it back, so a
command is published at least once whatever dies; its id lets whoever reads it twice know.
Limits: a command names at most 1,000 contacts of one home.
Called by: `projections.fold`; `streams.outbox` publishes.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Final

import psycopg

from schemas import commands, topics

MOST: Final = 1000

SEND: Final = "insert into outbox (home, event_id, topic, key, body) values (%s, %s, %s, %s, %s)"
READ_BACK: Final = "delete from outbox where event_id = any(%s::uuid[])"


def send(
    connection: psycopg.Connection, kind: str, due: Iterable[tuple[int, str, datetime]], at: datetime
) -> int:
    """Write commands for (home, contact, due); answers how many commands there are."""
    by_home: dict[int, list[tuple[str, datetime]]] = {}
    for home, contact, moment in due:
        by_home.setdefault(home, []).append((contact, moment))
    made = [
        commands.make(kind, home, items[i : i + MOST], at)
        for home, items in sorted(by_home.items())
        for i in range(0, len(items), MOST)
    ]
    rows = [(c.home, c.id, topics.COMMANDS, commands.subject(c.home), c.body) for c in made]
    with connection.cursor() as cursor:
        cursor.executemany(SEND, rows)
    return len(made)


def read_back(connection: psycopg.Connection, ids: list[str]) -> None:
    """Commands that have been read from the topic need no row any more."""
    if ids:
        connection.execute(READ_BACK, (ids,))
