"""Segment's tracking API: `POST /v1/track`, `identify`, `alias`, `page` and `batch`, for its own clients.

Promises: answered once the log has acknowledged, as `POST /v1/events` is; a message sent again counts once;
one that cannot be taken refuses no other of its batch, and is named in `outcomes`. `success` says whether
none was refused. Where none of a request is taken, that is a `Problem`: 400.
Limits: 32 KB a message, 512,000 bytes a request. A batch whose JSON is broken is refused whole. Of a message
that makes two events one may be refused: then `refused` stands for the message, and sent again mended it
counts once all the same.
Route of `api.routes`; what a message says is decided in `schemas.segment`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from litestar import Request

from api import bodies, ingest, problems
from schemas import completion, errors, metrics, segment

_BATCH: Final = "batch"
_GRAVEST: Final = (ingest.REFUSED, ingest.PARKED, ingest.ACCEPTED)
_NO_BATCH: Final = "The body is a JSON object with the member batch, a list of messages; sentAt is a string."


class _Batch(msgspec.Struct, rename="camel", frozen=True):
    batch: list[msgspec.Raw]
    sent_at: str | None = None


_decode: Final = msgspec.json.Decoder(_Batch).decode


async def take(way: ingest.Ingest, request: Request[Any, Any, Any]) -> dict[str, Any]:
    """Answers one request: `success`, and the outcome of each message; raises `Problem`."""
    at = ingest.now()
    headers = request.headers
    if bodies.mode_of(headers.get("content-type", ""), ()) is not bodies.Mode.PLAIN:
        raise problems.Problem(problems.MEDIA, "The body is not application/json.")
    key = ingest.idempotency_key(headers.get("idempotency-key"))
    body = bodies.inflate(await request.body(), headers.get("content-encoding", ""))
    route = request.scope["path"].rpartition("/")[2]
    batch = _read(body) if route == _BATCH else _Batch([msgspec.Raw(body)])
    kind = None if route == _BATCH else route
    events: list[bytes] = []
    spans: list[segment.Refused | tuple[str, int]] = []
    for index, raw in enumerate(batch.batch):
        if index and index % ingest.EVENTS_PER_TURN == 0:
            await asyncio.sleep(0)
        made = completion.made_id(at, completion.Fill(key, index))
        try:
            told = segment.told(bytes(raw), kind, at=at, sent_at=batch.sent_at, made_id=made)
        except segment.Refused as refused:
            metrics.REFUSED.labels(refused.reason).inc()
            spans.append(refused)
        else:
            events += told.events
            spans.append((told.id, len(told.events)))
    found = iter(await way.put(events, at, request, len(body)))
    outcomes = [
        ingest.Outcome(one.id, ingest.REFUSED, one.reason, one.detail)
        if isinstance(one, segment.Refused)
        else _gravest(one[0], [next(found) for _ in range(one[1])])
        for one in spans
    ]
    refused_too = [one.status == ingest.REFUSED for one in outcomes]
    if outcomes and all(refused_too):
        raise ingest.nothing_taken(outcomes)
    return {"success": not any(refused_too), "outcomes": [msgspec.structs.asdict(one) for one in outcomes]}


def _read(body: bytes) -> _Batch:
    try:
        body.decode()
        return _decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        metrics.REFUSED.labels(errors.Reason.UNDECODABLE).inc()
        whole = ingest.Outcome(None, ingest.REFUSED, errors.Reason.UNDECODABLE, _NO_BATCH)
        raise ingest.nothing_taken([whole]) from None


def _gravest(id: str, outcomes: Sequence[ingest.Outcome]) -> ingest.Outcome:
    """What became of a message, by what became of its events; without events it is accepted."""
    for status in _GRAVEST:
        for one in outcomes:
            if one.status == status:
                return msgspec.structs.replace(one, id=id)
    return ingest.Outcome(id, ingest.ACCEPTED)
