"""Events by HTTP: each is judged by the one admission, written to the log, and answered by itself.

Promises: 202 only after the log has acknowledged every event it speaks of; an outcome for each event, in the
order sent; one bad event refuses no other; the same event sent again counts once. Kafka away: 503 within five
seconds, and then nothing is promised, but sending again is safe.

Limits: 32 KB an event, 512,000 bytes a request, `MAX_WAITING_BYTES` of requests waiting for the log at one
time.

Route of `api.routes`; `api.segment` puts the events of Segment's messages.
"""

from __future__ import annotations

import asyncio
import functools
import re
from collections.abc import Container, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import sqlalchemy as sa
from litestar import Request, Response
from sqlalchemy.dialects import postgresql

from api import auth, bodies, problems, servers
from projections import tables
from schemas import admission, completion, errors, metrics, sealing
from streams import judge, producer, tracing, vault

MAX_WAITING_BYTES = 64 * 1024 * 1024
MAX_KEY_CHARACTERS = 255
EVENTS_PER_TURN = 64
KEY_SECONDS = 0.5
ACCEPTED, PARKED, REFUSED = "accepted", "parked", "refused"

_LARGE_BYTES = 65_536
_MEDIA_TYPE = "application/json"
_KEYS_OF = (
    sa.select(tables.data_key)
    .where(tables.data_key.c.subject == sa.any_(sa.bindparam("subjects", type_=postgresql.ARRAY(sa.Text))))
    .where(~tables.data_key.c.destroyed)
    .order_by(tables.data_key.c.off)
)
_encode = msgspec.json.Encoder().encode
_is_traceparent = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}").fullmatch


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """What became of one event: accepted, parked or refused, and why."""

    id: str | None
    status: str
    reason: str | None = None
    detail: str | None = None


class Ingest:
    """Takes the events of requests to the log; one a process, since it counts the bytes that wait."""

    def __init__(
        self,
        log: servers.Log,
        database: servers.Database,
        homes: int,
        ahead: timedelta,
        keys: vault.Vault,
        erased: Container[str] = (),
    ) -> None:
        self._log, self._database = log, database
        self._erased = erased
        self._vault = keys
        self._homes = homes
        self._ahead = ahead
        self._waiting = 0

    async def take(self, request: Request[Any, Any, Any]) -> Response[bytes]:
        """Answers one request; raises `Problem` for whatever is no 202."""
        at = now()
        headers = request.headers
        mode = bodies.mode_of(headers.get("content-type", ""), headers.keys())
        key = idempotency_key(headers.get("idempotency-key"))
        body = bodies.inflate(await request.body(), headers.get("content-encoding", ""))
        if mode is bodies.Mode.HEADERS:
            events: list[bytes] | None = [bodies.from_headers(headers, body)]
        elif len(body) > _LARGE_BYTES:
            events = await asyncio.to_thread(bodies.split, body, mode)
        else:
            events = bodies.split(body, mode)
        if events is None:
            metrics.REFUSED.labels(errors.Reason.UNDECODABLE).inc()
            raise nothing_taken([_NO_ARRAY])
        outcomes = await self.put(events, at, request, len(body), key)
        if outcomes and all(one.status == REFUSED for one in outcomes):
            raise nothing_taken(outcomes)
        return Response(_encode({"outcomes": outcomes}), status_code=202, media_type=_MEDIA_TYPE)

    async def put(
        self,
        events: Sequence[bytes],
        at: datetime,
        request: Request[Any, Any, Any],
        size: int,
        key: str | None = None,
    ) -> list[Outcome]:
        """What became of each event, once the log has acknowledged all that is not refused.

        `at` is when HTTP accepted them, `size` the bytes of the request, `key` its Idempotency-Key. Raises
        `Problem`: 429, 503.
        """
        trace = tracing.current() or _trace(request.headers.get(tracing.TRACEPARENT))
        outcomes, taken = await self._judge(events, at, completion.Fill(key, actor=auth.of_key(request)))
        await self._append(await self._records(taken, trace), size)
        admitted = sum(isinstance(one, admission.Admitted) for one in taken)
        if admitted:
            metrics.ADMITTED.labels("http").inc(admitted)
        return outcomes

    async def _judge(
        self, events: Sequence[bytes], at: datetime, fill: completion.Fill
    ) -> tuple[list[Outcome], list[admission.Admitted | producer.Record]]:
        """An outcome for each event; what is admitted, and records of what is parked. Lets others run between
        large steps.
        """
        outcomes: list[Outcome] = []
        taken: list[admission.Admitted | producer.Record] = []
        secret = await self._secret()
        for index, raw in enumerate(events):
            if index and index % EVENTS_PER_TURN == 0:
                await asyncio.sleep(0)
            named = completion.Fill(fill.idempotency_key, index, fill.actor)
            found = admission.admit(
                raw, at=at, door=None, homes=self._homes, ahead=self._ahead, secret=secret, fill=named
            )
            if (found.subject or "") in self._erased:
                metrics.REFUSED.labels(errors.Reason.ERASED).inc()
                outcomes.append(Outcome(found.id, REFUSED, errors.Reason.ERASED, judge.ERASED))
            elif isinstance(found, admission.Admitted):
                outcomes.append(Outcome(found.id, ACCEPTED))
                taken.append(found)
            elif found.reason in admission.PARKED_BY_HTTP and found.door is not None:
                outcomes.append(Outcome(found.id, PARKED, found.reason, found.detail))
                taken.append(producer.Record(found.door, None, None, found.raw, []))
            else:
                metrics.REFUSED.labels(found.reason).inc()
                outcomes.append(Outcome(found.id, REFUSED, found.reason, found.detail))
        return outcomes, taken

    async def _records(
        self, taken: Sequence[admission.Admitted | producer.Record], trace: str | None
    ) -> list[producer.Record]:
        """All as records, facts sealed; new keys are on their topic by then. Raises `Problem`: 503."""
        facts = [one for one in taken if isinstance(one, admission.Admitted)]
        try:
            sealed = iter(
                await self._vault.sealed_soon(
                    facts, functools.partial(keys_of, self._database), self._log.append
                )
            )
        except errors.Away:
            raise problems.Problem(problems.LOG_AWAY, "Kafka has not acknowledged in time.") from None
        return [
            record
            for one in taken
            for record in (
                [one] if isinstance(one, producer.Record) else judge.fact_records(next(sealed), trace=trace)
            )
        ]

    async def _secret(self) -> bytes:
        """The installation's secret; raises `Problem` (503) where it cannot be read yet."""
        try:
            return await self._vault.secret_within(servers.APPEND_SECONDS)
        except errors.Away:
            raise problems.Problem(problems.LOG_AWAY, "The topic keys has not been read yet.") from None

    async def _append(self, records: Sequence[producer.Record], size: int) -> None:
        """Returns when the log has all records; raises `Problem`: 503 Kafka away, 429 too much waits."""
        if not records:
            return
        if self._waiting + size > MAX_WAITING_BYTES:
            raise problems.Problem(problems.TOO_MANY, f"{problems.TOO_MANY.title}.")
        self._waiting += size
        try:
            with tracing.span("append", "producer", records=len(records)):
                await self._log.append(records)
        except errors.Away:
            raise problems.Problem(problems.LOG_AWAY, "Kafka has not acknowledged in time.") from None
        finally:
            self._waiting -= size


_NO_ARRAY = Outcome(None, REFUSED, errors.Reason.UNDECODABLE, "The body is not a JSON array of events.")


async def keys_of(database: servers.Database, subjects: Iterable[str]) -> list[sealing.KeyRecord]:
    """Keys that there are; raises `errors.Away` soon: whoever cannot look for one makes another."""
    try:
        async with asyncio.timeout(KEY_SECONDS):
            found = await database.rows(_KEYS_OF, subjects=list(subjects))
    except TimeoutError:
        raise errors.Away from None
    return [sealing.KeyRecord(one["kid"], one["wrapped"], one["master"]) for one in found]


def nothing_taken(outcomes: Sequence[Outcome]) -> problems.Problem:
    """What a request is answered of which every event was refused."""
    return problems.Problem(
        problems.NOTHING_TAKEN, "Every event was refused; see outcomes.", outcomes=outcomes
    )


def _trace(text: str | None) -> str | None:
    return text if text is not None and _is_traceparent(text) else None


def idempotency_key(text: str | None) -> str | None:
    """The header itself, if it can be one; raises `Problem`."""
    if text is None or (0 < len(text) <= MAX_KEY_CHARACTERS and text.isascii() and text.isprintable()):
        return text
    raise problems.Problem(
        problems.WRONG_PARAMETER,
        f"Idempotency-Key has 1 to {MAX_KEY_CHARACTERS} visible ASCII characters.",
    )


def now() -> datetime:
    """When a request is accepted: UTC, to the millisecond."""
    at = datetime.now(UTC)
    return at.replace(microsecond=at.microsecond // 1000 * 1000)
