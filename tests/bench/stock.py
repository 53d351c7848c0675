"""Faust as it comes: an agent per event, and an agent with `take(1000)`.

Promises: Faust's own transport and defaults; only its web server, its leader topic and the making of
topics are off, and bytes are not decoded by it. Without a sink nothing is done with an event; with one,
an event is one upsert, or a thousand are one transaction of the very statements that the others run.
Limits: no positions in the database, so it is at least once where the others are exact. The connection is
used from the event loop: a stock agent has nothing else to do meanwhile.
Called by `tests.bench.contender`.
"""

from __future__ import annotations

import asyncio
import os
import traceback
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple

import faust
import psycopg

from schemas import topics
from tests.bench import meter, sink_engagement, sinks

TAKE = 1000
WITHIN = 0.2


class Taken(NamedTuple):
    """An event with what a sink reads of it."""

    value: bytes
    partition: int
    offset: int


def run(spec: dict[str, Any], counted: meter.Meter) -> None:
    """One stock worker, until the meter ends the process."""
    asyncio.run(_run(spec, counted))


async def _run(spec: dict[str, Any], counted: meter.Meter) -> None:
    app = faust.App(
        f"bench-{uuid.uuid4().hex[:8]}",
        broker=f"kafka://{spec['kafka']}",
        store="memory://",
        datadir=spec["folder"],
        autodiscover=False,
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        consumer_auto_offset_reset="earliest",
    )
    topic = app.topic(
        topics.FACTS, value_type=bytes, key_type=bytes, value_serializer="raw", key_serializer="raw"
    )
    sink = sink_engagement.SINKS[spec["sink"]]() if spec["sink"] else None
    connection = sinks.connect(spec["dsn"], sink, batches=spec["mode"] == "take") if sink else None
    body = _each if spec["mode"] == "each" else _take

    @app.agent(topic)
    async def fold(stream: Any) -> None:
        await _or_die(body, stream, counted, sink, connection)

    await app.start()
    await asyncio.Event().wait()


async def _each(stream: Any, counted: meter.Meter, sink: sinks.Sink | None, connection: Any) -> None:
    async for event in stream.events():
        counted.start()
        if sink is not None:
            sink.each(connection, _taken(event))
        counted.add(1)


async def _take(stream: Any, counted: meter.Meter, sink: sinks.Sink | None, connection: Any) -> None:
    async for some in stream.take_events(TAKE, within=WITHIN):
        counted.start()
        if sink is not None:
            _write(connection, sink, [_taken(event) for event in some])
        counted.add(len(some))


def _write(connection: psycopg.Connection, sink: sinks.Sink, some: list[Taken]) -> None:
    plan = sink.plan(some)
    with connection.transaction():
        sink.copy(connection, plan)
        sink.write(connection, plan, datetime.now(UTC))


def _taken(event: Any) -> Taken:
    return Taken(event.value, event.message.partition, event.message.offset)


async def _or_die(body: Callable[..., Awaitable[None]], *given: Any) -> None:
    try:
        await body(*given)
    except BaseException:
        traceback.print_exc()
        os._exit(3)
