"""What was parked: an overview, a list, one record with its bytes, driven again or discarded (LAW-7).

Promises: lists never show the bytes; one record shows them, under the scope that every route here has. Pages
go by id, so what is parked meanwhile moves none. A walk over a backlog ends at `max_seconds`, says where it
is, and goes on from there when asked again; nothing is lost or done twice by being cut off.
Limits: `WALKS` walks at a time, each a thread and a connection; of outcomes the first 10,000; of groups the
1,000 largest.
Routes of `api.routes`; `heed parked` asks the same.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, Literal, get_args

import msgspec
import psycopg
import sqlalchemy as sa

from api import parameters, problems, servers
from projections import database, tables
from projections import parked as store
from schemas import errors, topics
from streams import discarding, producer, vault
from streams import parked as driving

PAGE_SIZE: Final = 100
LARGEST_PAGE: Final = 1_000
WALKS: Final = 2
MOST_IDS: Final = 10_000
SECONDS: Final = 30
MOST_SECONDS: Final = 600

Door = Literal["email-activity", "custom-events", "contact-identity"]
Topic = Literal["email-activity", "custom-events", "contact-identity", "facts", "commands", "registry"]
Moment = Annotated[datetime, msgspec.Meta(tz=True)]
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Id = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]

Make = Callable[[psycopg.Connection, driving.Append], driving.Step]

assert get_args(Door) == topics.DOORS
FILTERS: Final = ("reason", "type", "door", "topic", "parked_since", "parked_before")
LISTED: Final = (*FILTERS, "after", "limit")
GROUPED: Final = (*FILTERS, "limit")


class Wanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a walk: ids, or what a list is filtered by, or `all`; and how long, and from where."""

    ids: Annotated[list[Id], msgspec.Meta(min_length=1, max_length=MOST_IDS)] | None = None
    reason: errors.Reason | None = None
    type: Text | None = None
    door: Door | None = None
    topic: Topic | None = None
    parked_since: Moment | None = None
    parked_before: Moment | None = None
    all: bool = False
    after: Annotated[str, msgspec.Meta(pattern="^[0-9]{1,18}$")] = "0"
    max_seconds: Annotated[int, msgspec.Meta(ge=1, le=MOST_SECONDS)] = SECONDS


_wanted: Final = msgspec.json.Decoder(Wanted).decode


def wanted(body: bytes) -> Wanted:
    """The body of a walk; raises `Problem` (400) that names the member."""
    try:
        found = _wanted(body)
    except msgspec.ValidationError as error:
        raise problems.Problem(problems.WRONG_VALUE, _explained(str(error))) from None
    except (msgspec.DecodeError, RecursionError):
        raise problems.Problem(problems.WRONG_VALUE, "The body is not a JSON object in UTF-8.") from None
    ways = (found.ids is not None, not chosen(found).empty, found.all)
    if sum(ways) != 1:
        detail = f"Say which records: either `ids`, or at least one of {', '.join(FILTERS)}, or `all`."
        raise problems.Problem(problems.WRONG_VALUE, detail)
    return found


def chosen(one: Wanted) -> store.Filter:
    """The filter that a body means."""
    return filtered(one.reason, one.type, one.door, one.topic, one.parked_since, one.parked_before)


def asked(
    reason: errors.Reason | None,
    type: str | None,
    door: str | None,
    topic: str | None,
    parked_since: str | None,
    parked_before: str | None,
) -> store.Filter:
    """The filter that a query means; raises `Problem` (400) for what is none."""
    since = None if parked_since is None else parameters.instant("parked_since", parked_since)
    before = None if parked_before is None else parameters.instant("parked_before", parked_before)
    return filtered(reason, type, door, topic, since, before)


def filtered(
    reason: errors.Reason | None = None,
    type: str | None = None,
    door: str | None = None,
    topic: str | None = None,
    parked_since: datetime | None = None,
    parked_before: datetime | None = None,
) -> store.Filter:
    """A filter that a database can be asked with; raises `Problem` (400) for what none can be."""
    if type is not None and (not type.isprintable() or not 0 < len(type) <= 256):
        raise problems.Problem(problems.WRONG_PARAMETER, "type has 1 to 256 printable characters.")
    for moment in (parked_since, parked_before):
        if moment is not None and moment.tzinfo is None:
            detail = "parked_since and parked_before are RFC 3339 with a zone, as 2026-01-31T09:00:00Z."
            raise problems.Problem(problems.WRONG_PARAMETER, detail)
    return store.Filter(reason, type, door, topic, parked_since, parked_before)


async def page(
    database: servers.Database, which: store.Filter, *, after: int | None, limit: int
) -> dict[str, Any]:
    """A page of what was parked, newest first; `next`, given back as `after`, asks for the page behind it."""
    view = tables.parked.c
    asked = sa.select(tables.parked).where(*_conditions(which)).order_by(view.id.desc()).limit(limit + 1)
    if after is not None:
        asked = asked.where(view.id < after)
    items = await database.rows(asked)
    more = len(items) > limit
    items = items[:limit]
    return {"items": items, "next": str(items[-1]["id"]) if more else None}


async def overview(database: servers.Database, which: store.Filter, *, limit: int) -> dict[str, Any]:
    """How many are parked and since when, by reason, type and door: the largest groups, and all together."""
    view = tables.parked.c
    names = (view.reason, view.type, view.door, view.topic)
    groups = (
        sa.select(
            *names,
            sa.func.count().label("count"),
            sa.func.min(view.parked_at).label("oldest"),
            sa.func.max(view.parked_at).label("newest"),
            sa.func.sum(sa.func.count()).over().cast(sa.BigInteger).label("total"),
            sa.func.count().over().label("groups"),
        )
        .where(*_conditions(which))
        .group_by(*names)
        .order_by(sa.desc("count"), *names)
        .limit(limit)
    )
    items = await database.rows(groups)
    total = items[0]["total"] if items else 0
    number = items[0]["groups"] if items else 0
    items = [{name: one[name] for name in one if name not in ("total", "groups")} for one in items]
    return {"total": total, "groups": number, "items": items}


async def one(database: servers.Database, id: str) -> dict[str, Any]:
    """One record with its bytes, as base64 and, where they are UTF-8, as text; raises `Problem` (404)."""
    if not (id.isascii() and id.isdigit() and len(id) <= 18):
        raise problems.Problem(problems.NO_PARKED, f"{problems.NO_PARKED.title}.")
    kept = tables.parked_bytes.c
    both = tables.parked.join(tables.parked_bytes, kept.id == tables.parked.c.id)
    asked = sa.select(tables.parked, kept.batch, kept.bytes).select_from(both)
    found = await database.rows(asked.where(tables.parked.c.id == int(id)))
    if not found:
        raise problems.Problem(problems.NO_PARKED, f"{problems.NO_PARKED.title}.")
    value = bytes(found[0]["bytes"])
    try:
        text: str | None = value.decode()
    except UnicodeDecodeError:
        text = None
    return found[0] | {"bytes": base64.b64encode(value).decode(), "text": text}


class Walks:
    """Walks over what is parked, each in a thread of its own; one of these a process."""

    def __init__(
        self, log: servers.Log, dsn: str, *, homes: int, ahead: timedelta, keys: vault.Vault
    ) -> None:
        self._log, self._dsn, self._vault = log, dsn, keys
        self._homes, self._ahead = homes, ahead
        self._running: set[asyncio.Future[None]] = set()
        self._stopping = threading.Event()

    async def stop(self) -> None:
        """Those under way end with the step they are at; waits a while for them."""
        self._stopping.set()
        if self._running:
            await asyncio.wait(self._running, timeout=servers.STOP_SECONDS)

    async def redrive(self, body: bytes) -> dict[str, Any]:
        """Drive records again: how many by status, the first outcomes, and `next` where it is not done.

        Raises `Problem`: 400 for a body that is not `Wanted`, 429 when too many walk already.
        """
        report = driving.Report(dict.fromkeys((driving.DRIVEN, driving.PARKED, driving.GONE), 0))

        def step(connection: psycopg.Connection, append: driving.Append) -> driving.Step:
            return driving.Driver(
                connection, append, homes=self._homes, ahead=self._ahead, keys=self._vault
            ).step

        return await self._walk(wanted(body), step, report)

    async def discard(self, body: bytes, actor: str) -> dict[str, Any]:
        """Discard records on this actor's word: as `redrive`."""
        report = driving.Report(dict.fromkeys((discarding.DISCARDED, driving.PARKED, driving.GONE), 0))

        def step(connection: psycopg.Connection, append: driving.Append) -> driving.Step:
            return discarding.Discarder(connection, append, actor).step

        return await self._walk(wanted(body), step, report)

    async def _walk(self, body: Wanted, make: Make, report: driving.Report) -> dict[str, Any]:
        if len(self._running) >= WALKS:
            detail = f"{WALKS} walks over parked records are under way; ask again when one has ended."
            raise problems.Problem(problems.TOO_MANY, detail)
        loop = asyncio.get_running_loop()

        def append(records: Sequence[producer.Record]) -> None:
            asyncio.run_coroutine_threadsafe(self._log.append(records), loop).result()

        def walk() -> None:
            with self._connected() as connection:
                which = chosen(body) if body.ids is None else body.ids
                driving.walk(
                    connection, which, make(connection, append), report,
                    after=int(body.after), seconds=body.max_seconds, stopped=self._stopping.is_set,
                )  # fmt: skip

        running = loop.run_in_executor(None, walk)
        self._running.add(running)
        running.add_done_callback(self._running.discard)
        await asyncio.shield(running)  # a request that is cut off leaves its step to come to an end
        return told(report)

    @contextlib.contextmanager
    def _connected(self) -> Iterator[psycopg.Connection]:
        name = "heed-api parked"
        with database.connect(
            self._dsn, database.OPS_PATH, name, idle_seconds=driving.IDLE_SECONDS
        ) as connection:
            yield connection


def told(report: driving.Report) -> dict[str, Any]:
    """A report as it is answered."""
    going_on = None if report.next is None else str(report.next)
    return {
        **report.counts,
        "next": going_on,
        "outcomes": [dataclasses.asdict(outcome) for outcome in report.outcomes],
    }


def _conditions(which: store.Filter) -> list[sa.ColumnElement[bool]]:
    view = tables.parked.c
    found: list[sa.ColumnElement[bool]] = []
    for name in ("reason", "type", "door", "topic"):
        value = getattr(which, name)
        if value is not None:
            found.append(view[name] == str(value))
    if which.since is not None:
        found.append(view.parked_at >= which.since)
    if which.before is not None:
        found.append(view.parked_at < which.before)
    return found


def _explained(text: str) -> str:
    """Which member it was, by our own names; what was sent for it is left out."""
    names = [name for name in Wanted.__struct_fields__ if f"`$.{name}" in text]
    if names:
        return f"`{names[0]}` is not what this route takes; /openapi.json has its type."
    return f"The body is a JSON object with some of: {', '.join(Wanted.__struct_fields__)}."
