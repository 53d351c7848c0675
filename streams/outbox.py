"""The relay: commands from the outbox onto the topic `commands`.

Promises: in the order of their ids within a home, at least once; it deletes nothing, since the fold deletes
an outbox row when it reads the command back. What was published but is still there after a minute is
published again, so a topic that lost it heals. Idempotent, not transactional: control records would leave
gaps.
Limits: homes that this worker's lanes own; a thread and a connection of its own.
Called by: `streams.app`.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Final

import psycopg
import structlog

from projections import database
from schemas import errors, metrics
from streams import process, producer, watchdog

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


class Relay:
    """Publishes the outbox of the homes that `homes` names at each look."""

    def __init__(
        self,
        owner: str,
        dsn: str,
        out: producer.LogProducer,
        loop: asyncio.AbstractEventLoop,
        homes: Callable[[], list[int]],
    ) -> None:
        self._owner, self._dsn = owner, dsn
        self._out, self._loop, self._homes = out, loop, homes
        self._after: dict[int, int] = {}
        self._since = time.monotonic()
        self._woken = threading.Event()
        self._stopping = False
        self._turns = 0
        self._connection: psycopg.Connection | None = None
        self._log = structlog.get_logger().bind(lane="relay")
        self._thread = threading.Thread(target=self._run, name="relay", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """There is something in the outbox."""
        self._woken.set()

    def stop(self) -> None:
        self._stopping = True
        self._woken.set()
        self._thread.join(5.0)

    def standing(self) -> watchdog.Standing:
        """Where the relay stands, for the watchdog: every look, with or without rows, moves it on."""
        return watchdog.Standing("relay", self._turns, self._thread.ident)

    def _run(self) -> None:
        waits = 0
        while not self._stopping:
            self._turns += 1
            try:
                if not self._publish():
                    self._woken.wait(LOOK)
                    self._woken.clear()
                waits = 0
            except (errors.Away, psycopg.Error) as error:
                if isinstance(error, psycopg.Error) and not database.is_away(error):
                    process.die(error)
                if waits % 20 == 0:
                    self._log.warning("waiting for a server", error=process.told(error))
                if self._connection is not None and isinstance(error, psycopg.Error):
                    self._connection.close()
                waits += 1
                time.sleep(min(2.0, 0.1 * 2 ** min(waits, 6)))
            except BaseException as error:
                process.die(error)

    def _publish(self) -> bool:
        homes = self._homes()
        if time.monotonic() - self._since > AGAIN:
            self._after, self._since = {}, time.monotonic()
        self._after = {home: self._after.get(home, 0) for home in homes}
        connection = self._connected()
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

    def _connected(self) -> psycopg.Connection:
        if self._connection is None or self._connection.closed:
            self._connection = database.connect(self._dsn, database.LIVE_PATH, f"{self._owner} relay")
        return self._connection
