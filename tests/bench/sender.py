"""A producer of events at a given rate, in a process of its own: `python -m tests.bench.sender SPEC`.

Promises: open-loop: what is due is sent whether or not answers are late, so a slow server finds no mercy.
Rate 0 keeps `ATONCE` requests under way instead, to see how many are carried. Prints how many events were
accepted and over how many seconds.
Limits: by HTTP an answer other than 202 ends the run; by a door all that was sent is acknowledged or the run
ends.
Called by `tests.bench.delay`.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import aiohttp
import uvloop
from confluent_kafka import Producer

from schemas import topics
from tests.bench import traffic

ATONCE = 16
SEED = 23


def main(spec: dict[str, Any]) -> None:
    """Send what `spec` asks for: way, bootstrap, port, load (events/s), each (events a request), seconds."""
    if spec["way"] == "http":
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            accepted, seconds = runner.run(_by_http(spec))
    else:
        accepted, seconds = _by_door(spec)
    sys.stdout.write(json.dumps({"accepted": accepted, "load": round(accepted / seconds)}) + "\n")


async def _by_http(spec: dict[str, Any]) -> tuple[int, float]:
    each, load = spec["each"], spec["load"]
    url = f"http://127.0.0.1:{spec['port']}/v1/events"
    media = "application/cloudevents+json" if each == 1 else "application/cloudevents-batch+json"
    bodies = _bodies(each, spec["contacts"])
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def send() -> None:
            async with session.post(url, data=next(bodies), headers={"Content-Type": media}) as answer:
                if answer.status != 202:
                    raise RuntimeError(f"{answer.status}: {await answer.text()}")

        async def keep_sending(until: float) -> int:
            sent = 0
            while time.monotonic() < until:
                await send()
                sent += 1
            return sent

        began = time.monotonic()
        if load:
            requests = load * spec["seconds"] // each
            async with asyncio.TaskGroup() as group:
                for number in range(requests):
                    await _until(began + number * each / load)
                    group.create_task(send())
        else:
            until = began + spec["seconds"]
            requests = sum(await asyncio.gather(*(keep_sending(until) for _ in range(ATONCE))))
        return requests * each, time.monotonic() - began


def _for_ever(contacts: int) -> Iterator[int]:
    """Contacts, each once, and then again."""
    return itertools.cycle(traffic.contacts("distinct", SEED, contacts))


def _bodies(each: int, contacts: int) -> Iterator[bytes]:
    draw = random.Random(SEED)
    events = (traffic.event(draw, number, None)[1] for number in _for_ever(contacts))
    while some := list(itertools.islice(events, each)):
        yield some[0] if each == 1 else b"[" + b",".join(some) + b"]"


async def _until(due: float) -> None:
    wait = due - time.monotonic()
    if wait > 0:
        await asyncio.sleep(wait)


def _by_door(spec: dict[str, Any]) -> tuple[int, float]:
    load, count = spec["load"], spec["load"] * spec["seconds"]
    producer = Producer(
        {"bootstrap.servers": spec["bootstrap"], "log_level": 2, **traffic.SETTINGS, "linger.ms": 5}
    )
    draw = random.Random(SEED)
    began = time.monotonic()
    for number, contact in zip(range(count), _for_ever(spec["contacts"]), strict=False):
        due = began + number / load
        if due > time.monotonic() + 0.001:
            producer.poll(0)
            time.sleep(max(0.0, due - time.monotonic()))
        subject, raw = traffic.event(draw, contact * spec.get("apart", 1), datetime.now(UTC))
        producer.produce(topics.EMAIL_ACTIVITY, raw, subject)
    if left := producer.flush(30):
        raise RuntimeError(f"{left} records were not acknowledged")
    return count, time.monotonic() - began


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
