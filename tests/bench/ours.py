"""The product: its batch transport with nothing behind it, with a counter behind it, and the worker as it
is.

Promises: `noop` and `counter` use `streams.batches` and `streams.lanes` as the worker does; `worker` is
`streams.app.Worker` itself with intake, fold, timers and relay running, counted from outside: its fold
lanes are watched where a batch reaches them and where its transaction has committed.
Limits: a group of its own for every run.
Called by `tests.bench.contender`.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
from faust.types import TP

from projections import fold, positions
from schemas import settings, topics
from streams import app as worker_app
from streams import batches, broker, claims, faust_app, fold_loop, intake, lanes, log, process, topic_admin
from tests import keyring
from tests.bench import meter, sinks

LANES = 2


class Noop:
    """A lane that only counts; it claims nothing and is always ready."""

    name = "noop"

    def __init__(self, counted: meter.Meter) -> None:
        self._meter = counted
        self._offsets: dict[TP, int] = {}

    def owns(self, tp: TP) -> bool:
        return tp.topic == topics.FACTS

    def assign(self, tps: frozenset[TP]) -> None:
        self._offsets = dict.fromkeys(tps, 0)

    def ready(self) -> bool:
        return True

    def reserve(self, _: int) -> None:
        return

    def claimed(self) -> tuple[int, Mapping[TP, int]]:
        return (1, self._offsets) if self._offsets else (0, {})

    def offer(self, batch: batches.Batch) -> None:
        self._meter.start()
        self._meter.add(sum(len(span.records) for span in batch.spans.values()))


class CounterLane(lanes.Lane):
    """A lane of the product's making that keeps the counter rows."""

    reader = "bench"
    path = "bench"

    def __init__(self, index: int, counted: meter.Meter, *given: Any) -> None:
        super().__init__(f"counter-{index}", *given)
        self._index = index
        self._meter = counted
        self._sink = sinks.Counter()

    def owns(self, tp: TP) -> bool:
        return tp.topic == topics.FACTS and tp.partition % LANES == self._index

    def look(self, _: claims.Claim) -> bool:
        return False

    def opened(self, connection: psycopg.Connection) -> None:
        connection.execute(self._sink.stage.encode())

    def work(self, claim: claims.Claim, spans: Mapping[TP, Any]) -> bool:
        assert self.connection is not None
        self._meter.start()
        moves = claim.moves(spans, lambda _: None)
        plan = self._sink.plan(record for span in spans.values() for record in span.records)
        with self.connection.transaction():
            if plan:
                self._sink.copy(self.connection, plan)
            at = positions.move(self.connection, self.reader, moves)
            if plan:
                self._sink.write(self.connection, plan, at)
        self.moved(claim, spans)
        self._meter.add(sum(len(span.records) for span in spans.values()))
        return False


def run(spec: dict[str, Any], counted: meter.Meter) -> None:
    """The product as `spec` asks for it, until the meter ends the process."""
    chosen = configured(spec)
    process.set_up_logs("warning", worker="bench")
    if spec["mode"] in ("worker", "door"):
        asyncio.run(_worker(chosen, counted, from_door=spec["mode"] == "door"))
    elif spec["mode"] == "delay":
        asyncio.run(_delays(chosen))
    elif spec["mode"] == "timers":
        asyncio.run(_timers(chosen, spec["count"]))
    else:
        asyncio.run(_lanes(chosen, spec, counted))


def configured(spec: dict[str, Any]) -> settings.Settings:
    """The product's settings in a run, with a group that no other run has."""
    folder = Path(spec["folder"])
    (folder / "faust" / "worker-1").mkdir(parents=True, exist_ok=True)
    return settings.Settings(
        kafka=spec["kafka"], postgres=spec["dsn"], home=folder, homes=spec["homes"],
        group=f"bench-{uuid.uuid4().hex[:8]}", master_key=keyring.MASTER_TEXT,
    )  # fmt: skip


async def _lanes(chosen: settings.Settings, spec: dict[str, Any], counted: meter.Meter) -> None:
    loop = asyncio.get_running_loop()
    app = faust_app.make(chosen)
    wake = asyncio.Event()
    used: list[Any] = [Noop(counted)]
    if spec["mode"] == "counter":
        inspector = log.Inspector(broker.of(chosen), loop)
        given = ("bench", chosen.postgres, inspector, lambda: loop.call_soon_threadsafe(wake.set))
        used = [CounterLane(index, counted, *given) for index in range(LANES)]
        for lane in used:
            lane.start()
    topic = app.topic(topics.FACTS, schema=batches.Schema(), acks=False)

    @app.agent(topic, name="fold")
    async def fold_agent(stream: Any) -> None:
        async for batch in stream:
            batch.lane.offer(batch)

    consumer: Any = app.consumer
    consumer.use(used, wake)
    await app.start()
    await asyncio.Event().wait()


async def _worker(chosen: settings.Settings, counted: meter.Meter, *, from_door: bool) -> None:
    await topic_admin.check(broker.of(chosen), chosen.homes)
    worker = worker_app.Worker(chosen)
    for lane in worker.folds:
        watch(lane, counted.start, lambda batch, _: counted.add(len(batch.facts.lines)))
    if from_door:
        _watch_intake(worker.intake, counted.start)
    await worker.run()


def _watch_intake(lane: intake.IntakeLane, began: Callable[[], None]) -> None:
    work = lane.work

    def watched(claim: claims.Claim, spans: Mapping[TP, Any]) -> bool:
        if spans:
            began()
        return work(claim, spans)

    lane.work = watched  # type: ignore[method-assign]


async def _delays(chosen: settings.Settings) -> None:
    """Says when it has claimed; told numbers on stdin, gives the delays of so many events, once they are
    committed, all together and one number after the other."""
    delays: list[float] = []
    first: list[float] = []
    lock = threading.Lock()

    def committed(batch: fold.Batch, _: fold.Done) -> None:
        now = time.time()
        with lock:
            first[:] = first or [now]
            delays.extend(now - datetime.fromisoformat(one).timestamp() for one in batch.facts.accepted)

    def tell() -> None:
        while not all(lane.claimed()[0] for lane in worker.lanes):
            time.sleep(0.05)
        sys.stdout.write("claimed\n")
        sys.stdout.flush()
        wanted = [int(one) for one in sys.stdin.readline().split()]
        while len(delays) < sum(wanted):
            time.sleep(0.02)
        took = time.time() - first[0]
        parts, at = [], 0
        for part in wanted:
            parts.append(quantiles(delays[at : at + part]))
            at += part
        whole = quantiles(delays[len(delays) // 5 :])
        meter.tell(events=len(delays), carried=round(len(delays) / took), parts=parts, **whole)

    await topic_admin.check(broker.of(chosen), chosen.homes)
    worker = worker_app.Worker(chosen)
    for lane in worker.folds:
        watch(lane, lambda: None, committed)
    threading.Thread(target=tell, daemon=True).start()
    await worker.run()


def quantiles(seconds: Sequence[float]) -> dict[str, float]:
    """Medians and tails, in ms."""
    found = sorted(seconds)
    return {f"p{q}": round(1000 * found[len(found) * q // 100], 1) for q in (50, 95, 99)}


async def _timers(chosen: settings.Settings, count: int) -> None:
    """Ends when so many rows that were due have been taken; gives how late they were."""
    late: list[float] = []
    lock = threading.Lock()

    def committed(_: fold.Batch, done: fold.Done) -> None:
        now = time.time()
        with lock:
            late.extend(now - due.timestamp() for due in done.expired)
            if len(late) >= count:
                meter.tell(events=len(late), most=round(1000 * max(late), 1), rate=0, **quantiles(late))

    await topic_admin.check(broker.of(chosen), chosen.homes)
    worker = worker_app.Worker(chosen)
    for lane in worker.folds:
        watch(lane, lambda: None, committed)
    await worker.run()


def watch(
    lane: fold_loop.FoldLane, began: Callable[[], None], committed: Callable[[fold.Batch, fold.Done], None]
) -> None:
    """Call `began` when a lane takes records in hand, `committed` when a transaction that took facts or due
    rows has committed."""
    read, advance = lane._read, lane._advance

    def watched_read(claim: claims.Claim, spans: Mapping[TP, Any]) -> fold.Batch:
        if spans:
            began()
        return read(claim, spans)

    def watched_advance(batch: fold.Batch) -> fold.Done:
        done = advance(batch)
        if batch.facts.lines or done.expired:
            committed(batch, done)
        return done

    lane._read = watched_read  # type: ignore[method-assign]
    lane._advance = watched_advance  # type: ignore[method-assign]
