"""Watchers: they read rows and positions all the while, as dashboards and clients do, and write down what
they saw.

Promises: one statement a look, so that rows and the offsets they were folded to are of one snapshot. A look
that fails is written down with its code; the watcher connects anew.
Limits: a sample: so many contacts a look, chosen by the seed.
Called by: `tests.soak.__main__`.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Self

import httpx
import psycopg

from schemas import topics
from tests import stack
from tests.oracle import instants, model
from tests.soak import history

LOOK_SECONDS = 0.5
STAND_SECONDS = 0.2
CONTACTS = 20
ASK_SECONDS = 0.1

# Contacts of a contact with a nudge are left out: their row is promised for later.
LOOK = """
select c.contact, (extract(epoch from date_trunc('milliseconds', statement_timestamp())) * 1000)::bigint,
    p.next_offset, v.contact_id is not null, v.date_first_click, v.date_last_click, v.frequency, v.volume,
    v.volume_last_30, v.period_months, (extract(epoch from e.valid_until) * 1000)::bigint,
    (extract(epoch from v.date_calculated) * 1000)::bigint
from unnest(%(contacts)s::text[], %(homes)s::int[]) as c(contact, home)
join heed_data.position p on p.reader = 'fold' and p.topic = 'facts' and p.part = c.home
left join heed_read.contact_engagement v on v.contact_id = c.contact
left join heed_data.engagement e on e.contact_id = c.contact
where not exists (select from heed_data.nudge n where n.subject = 'contact:' || c.contact)
"""
STANDS = """
select reader, topic, part, epoch, coalesce(owner, ''), next_offset,
    (extract(epoch from as_of) * 1000)::bigint
from (select * from heed_data.position union all select * from heed_ops.position) p
"""


class Watcher(threading.Thread):
    """A thread that looks again and again, until it is stopped."""

    pause = LOOK_SECONDS

    def __init__(self, name: str, write: history.Writer) -> None:
        super().__init__(name=name, daemon=True)
        self._write = write
        self._stopping = threading.Event()
        self.looks = 0
        self.errors: list[BaseException] = []

    def run(self) -> None:
        while not self._stopping.wait(self.pause):
            try:
                self.look()
                self.looks += 1
            except (psycopg.Error, httpx.TransportError) as error:
                code = getattr(error, "sqlstate", None) or ""
                self._write.write(history.Trouble(self.name, time.time(), code))
                self.again()
            except BaseException as error:
                self.errors.append(error)
                return

    def look(self) -> None:
        raise NotImplementedError

    def again(self) -> None:
        """Begin anew after a failure."""

    def stop(self) -> None:
        self._stopping.set()
        self.join(60)
        assert not self.errors, self.errors


class _OnDatabase(Watcher):
    """A watcher with a connection of its own."""

    def __init__(self, name: str, dsn: str, write: history.Writer) -> None:
        super().__init__(name, write)
        self._dsn = dsn
        self._connection: psycopg.Connection | None = None

    def ask(self, statement: str, named: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        if self._connection is None:
            self._connection = psycopg.connect(
                self._dsn, autocommit=True, connect_timeout=5, application_name=f"soak {self.name}",
                options="-c statement_timeout=20s -c timezone=UTC",
            )  # fmt: skip
        return self._connection.execute(statement.encode(), named).fetchall()

    def again(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None
        self._stopping.wait(0.3)


class Rows(_OnDatabase):
    """Looks at some contacts' rows, with the offset their homes have folded, in one statement."""

    def __init__(
        self, name: str, dsn: str, write: history.Writer, choose: Callable[[random.Random], str], seed: int
    ) -> None:
        super().__init__(name, dsn, write)
        self._choose = choose
        self._dice = random.Random(f"{name} {seed}")

    def look(self) -> None:
        contacts = [self._choose(self._dice) for _ in range(CONTACTS)]
        homes = [topics.home(f"contact:{one}", stack.HOMES) for one in contacts]
        invoked = time.time()
        found = self.ask(LOOK, {"contacts": contacts, "homes": homes})
        ended = time.time()
        for contact, at, upto, there, first, last, *counts, due, calculated in found:
            row = model.Row(contact, first, last, *counts) if there else None
            seen = calculated if there else at
            self._write.write(
                history.Read(self.name, self.looks, invoked, ended, contact, seen, row, upto, due)
            )


class Positions(_OnDatabase):
    """Looks where every partition stands; writes down what has changed since."""

    pause = STAND_SECONDS

    def __init__(self, name: str, dsn: str, write: history.Writer) -> None:
        super().__init__(name, dsn, write)
        self._last: dict[tuple[Any, ...], tuple[Any, ...]] = {}
        self.latest: list[history.Stand] = []

    def look(self) -> None:
        found = self.ask(STANDS)
        seen = time.time()
        self.latest = [history.Stand(seen, *line) for line in found]
        changed = [one for one, line in zip(self.latest, found, strict=True) if self._moved(line)]
        self._write.write(*changed)

    def _moved(self, line: tuple[Any, ...]) -> bool:
        before = self._last.get(line[:3])
        self._last[line[:3]] = line
        return before != line

    def slowest(self) -> float:
        """The instant (seconds since 1970) to which the last of all homes has been brought."""
        homes = [one.as_of for one in self.latest if one.topic == topics.FACTS]
        return min(homes, default=0) / 1000


class Asks(Watcher):
    """Asks the API for a contact's row, as a client does."""

    pause = ASK_SECONDS

    def __init__(
        self, name: str, url: str, write: history.Writer, choose: Callable[[random.Random], str], seed: int
    ) -> None:
        super().__init__(name, write)
        self._url, self._choose = url, choose
        self._dice = random.Random(f"{name} {seed}")
        self._client = httpx.Client(timeout=10)

    def look(self) -> None:
        contact = self._choose(self._dice)
        invoked = time.time()
        answer = self._client.get(f"{self._url}/v1/contacts/{contact}/engagement")
        if answer.status_code != 200:
            self._write.write(history.Trouble(self.name, time.time(), str(answer.status_code)))
            return
        told = answer.json()
        if told["date_calculated"] is None:
            return
        row = None
        if told["frequency"] is not None:
            names = ("frequency", "volume", "volume_last_30", "period_months")
            first, last = (_instant(told[name]) for name in ("date_first_click", "date_last_click"))
            row = model.Row(contact, first, last, *(told[name] for name in names))
        at = instants.instant(told["date_calculated"])
        self._write.write(history.Read(self.name, self.looks, invoked, time.time(), contact, at, row))


def _instant(text: str | None) -> datetime | None:
    return None if text is None else model.EPOCH + instants.instant(text) * model.MILLISECOND


class Watching:
    """All watchers of a run."""

    def __init__(self, *watchers: Watcher) -> None:
        self.watchers = watchers

    def __enter__(self) -> Self:
        for one in self.watchers:
            one.start()
        return self

    def __exit__(self, *_: object) -> None:
        for one in self.watchers:
            one.stop()
