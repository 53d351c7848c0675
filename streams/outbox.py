"""The relay: commands from the outbox onto the topic `commands`.

Promises: in the order of their ids within a home, at least once; it deletes nothing, since the fold deletes
an outbox row when it reads the command back. What was published but is still there after a minute is
published again, so a topic that lost it heals. Idempotent, not transactional: control records would leave
gaps.
Limits: homes that this worker's lanes own.
Called by: `streams.app`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

import psycopg

from projections import database
from schemas import metrics
from streams import producer, server_loop

MOST: Final = 500
LOOK: Final = 1.0
AGAIN: Final = 60.0

NEXT: Final = """
select o.id, o.home, o.topic, o.key, o.body from outbox o
join unnest(%(homes)s::smallint[], %(after)s::bigint[]) as u(home, after)
    on o.home = u.home and o.id > u.after
order by o.home, o.id limit %(most)s
"""
# Purpose: what waits in these homes: commands to publish or read back and their age, nudges, errors.
WAITING: Final = """
select (select count(*) from outbox where home = any(%(homes)s::smallint[])),
    (select count(*) from nudge where home = any(%(homes)s::smallint[])),
    (select count(distinct subject) from nudge where home = any(%(homes)s::smallint[]) and error is not null),
    (select coalesce(greatest(0, extract(epoch from clock_timestamp() - min(created_at))), 0)::float8
        from outbox where home = any(%(homes)s::smallint[]))
"""
SHOWN: Final = (metrics.OUTBOX_BACKLOG, metrics.NUDGES, metrics.CONTACT_ERRORS, metrics.OUTBOX_SECONDS)


class Relay(server_loop.ServerLoop):
    """Publishes the outbox of the homes that `homes` names at each look."""

    def __init__(
        self,
        owner: str,
        dsn: str,
        out: producer.LogProducer,
        loop: asyncio.AbstractEventLoop,
        homes: Callable[[], list[int]],
    ) -> None:
        super().__init__("relay")
        self._owner, self._dsn = owner, dsn
        self._out, self._loop, self._homes = out, loop, homes
        self._after: dict[int, int] = {}
        self._since = time.monotonic()

    def connect(self) -> psycopg.Connection:
        return database.connect(self._dsn, database.LIVE_PATH, f"{self._owner} relay")

    def look(self, connection: psycopg.Connection) -> float:
        return 0.0 if self._publish(connection) else LOOK

    def _publish(self, connection: psycopg.Connection) -> bool:
        """Publish what comes next; whether there may be more."""
        homes = self._homes()
        if time.monotonic() - self._since > AGAIN:
            self._after, self._since = {}, time.monotonic()
        self._after = {home: self._after.get(home, 0) for home in homes}
        (waiting,) = connection.execute(WAITING, {"homes": homes}).fetchall()
        for gauge, number in zip(SHOWN, waiting, strict=True):
            gauge.set(number)
        if not waiting[0]:
            return False
        named = {"homes": homes, "after": [self._after[home] for home in homes], "most": MOST}
        rows = connection.execute(NEXT, named).fetchall()
        if not rows:
            return False
        records = [
            producer.Record(topic, home, key.encode(), bytes(body)) for _, home, topic, key, body in rows
        ]
        self._out.append_from_thread(records, self._loop)
        for id_, home, *_ in rows:
            if home in self._after:
                self._after[home] = max(id_, self._after[home])
        return len(rows) == MOST
