"""The worker: a Faust app whose agents hand batches to lanes.

Promises: two readers as ordinary agents, `intake` (doors to log or parked) and `fold` (log, registry and
keys to tables), one consumer group; positions live in PostgreSQL, what Kafka keeps of them is advice for
lag tools. SIGTERM finishes the transactions under way and leaves the group.
Limits: classic group protocol, range assignor (all topics have as many partitions, so a home's stay
together).
Called by: `heed worker`.
"""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, cast

import structlog
from faust.types import TP

from projections import error_rate
from schemas import errors, metrics, settings, topics
from streams import (
    batches,
    broker,
    faust_app,
    fold_loop,
    intake,
    keys_loop,
    lanes,
    log,
    master_key,
    outbox,
    parked_loop,
    process,
    producer,
    registry_loop,
    schedules,
    topic_admin,
    tracing,
    vault,
    watchdog,
)  # fmt: skip

LANES = 2
ADVICE_SECONDS = 2.0
JOIN_SECONDS = 1.0
STOP_SECONDS = 8.0
BEHIND_SECONDS = 10.0  # how long a log end below our position is a broker's stammer, not a replaced topic


class Worker:
    """One worker process: the app, its lanes, the relay."""

    def __init__(self, chosen: settings.Settings) -> None:
        self.chosen = chosen
        self.kafka = broker.of(chosen)
        self.app = faust_app.make(chosen)
        self.loop = asyncio.get_running_loop()
        self.wake = asyncio.Event()
        self.vault = vault.Vault(master_key.of(chosen), chosen.postgres)
        self.out = producer.LogProducer(self.kafka, f"heed-{chosen.worker_name}")
        self.inspector = log.Inspector(self.kafka, self.loop)
        rate = error_rate.ErrorRate()
        common = (chosen.worker_name, chosen.postgres, self.inspector, self._wake)
        self.folds = [
            fold_loop.FoldLane(
                index, LANES, *common, homes=chosen.homes, timers=chosen.timers,
                recalculate=chosen.recalculate == "auto", rate=rate,
                highwater=self._highwater, told=self._tell_relay,
            )
            for index in range(LANES)
        ]  # fmt: skip
        self.intake = intake.IntakeLane(
            *common, homes=chosen.homes, ahead=timedelta(seconds=chosen.ahead_seconds), keys=self.vault,
            out=self.out, loop=self.loop, highwater=self._highwater,
        )  # fmt: skip
        self.registry = registry_loop.RegistryLane(
            *common, chosen=chosen, stated=settings.stated(),
            out=self.out, loop=self.loop, highwater=self._highwater,
        )  # fmt: skip
        self.keys = keys_loop.KeysLane(*common, out=self.out, loop=self.loop, highwater=self._highwater)
        self.lanes: list[lanes.Lane] = [self.intake, self.registry, self.keys, *self.folds]
        self.relay = outbox.Relay(chosen.worker_name, chosen.postgres, self.out, self.loop, self._homes)
        self.parked = parked_loop.ParkedLoop(
            chosen.worker_name, chosen.postgres, self.out, self.loop, self.intake,
            [self.registry, *self.folds], homes=chosen.homes,
            ahead=timedelta(seconds=chosen.ahead_seconds), days=chosen.parked_days, keys=self.vault,
        )  # fmt: skip
        eyes = watchdog.Eyes(self.kafka, chosen.postgres, chosen.worker_name)
        self.watchdog = watchdog.Watchdog(chosen.watchdog_seconds, self._standings, eyes)
        self.schedules = [
            schedules.Keeper(chosen.worker_name, chosen.postgres, one) for one in schedules.schedules(chosen)
        ]
        self._behind: dict[TP, float] = {}
        self._checking_topics: asyncio.Future[None] = self.loop.create_future()  # since the last assignment
        self._agents()

    def _agents(self) -> None:
        schema = batches.Schema()
        doors = self.app.topic(*topics.DOORS, schema=schema, acks=False)
        log_of_heed = (topics.FACTS, topics.COMMANDS, topics.REGISTRY, topics.KEYS)
        of_fold = self.app.topic(*log_of_heed, schema=schema, acks=False)

        @self.app.agent(doors, name="intake")
        async def intake_agent(stream: Any) -> None:
            async for batch in stream:
                batch.lane.offer(batch)

        @self.app.agent(of_fold, name="fold")
        async def fold_agent(stream: Any) -> None:
            async for batch in stream:
                batch.lane.offer(batch)

        @self.app.on_partitions_revoked.connect
        async def released(*_: Any, **__: Any) -> None:
            await asyncio.gather(*(asyncio.to_thread(lane.release) for lane in self.lanes))

        @self.app.on_partitions_assigned.connect
        async def assigned(*_: Any, **__: Any) -> None:
            self._checking_topics.cancel()
            self._checking_topics = asyncio.create_task(self._check_topics())

    async def _check_topics(self) -> None:
        """A topic that is gone is shared out to nobody, without a word: ask whether all are there."""
        try:
            await topic_admin.check_there(self.kafka, self.chosen.homes)
        except errors.Away:
            return  # it is waited for where it is needed; the next assignment asks again
        except Exception as error:
            process.die(error)

    def _tell_relay(self) -> None:
        self.relay.wake()

    def _wake(self) -> None:
        self.loop.call_soon_threadsafe(self.wake.set)

    def _homes(self) -> list[int]:
        return [home for lane in self.folds for home in lane.mine()]

    def _standings(self) -> list[watchdog.Standing]:
        lanes_ = (lane.standing() for lane in self.lanes)
        return [*lanes_, self.relay.standing(), self.parked.standing()]

    def _consumer(self) -> batches.Consumer:
        return cast("batches.Consumer", self.app.consumer)

    def _highwater(self, tp: TP) -> int | None:
        try:
            return self._consumer().highwater(tp)
        except Exception:  # not assigned at this moment: nothing is known of its end
            return None

    async def run(self) -> None:
        """Work until SIGTERM or SIGINT, which are heeded while it starts too."""
        stopped = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            self.loop.add_signal_handler(number, stopped.set)
        stop = asyncio.create_task(stopped.wait())
        starting, joining = asyncio.create_task(self._start()), asyncio.create_task(self._join())
        await asyncio.wait([starting, joining, stop], return_when=asyncio.FIRST_COMPLETED)
        if joining.done():
            process.die(joining.exception() or RuntimeError("nobody looks after the group"))
        if not starting.done():
            process.leave("stopped while starting: nothing was under way")
        starting.result()
        tending, crashed = asyncio.create_task(self._tend()), asyncio.create_task(self._crashed())
        await asyncio.wait([stop, joining, tending, crashed], return_when=asyncio.FIRST_COMPLETED)
        if crashed.done():
            process.die(crashed.result())
        for one in (joining, tending):
            if one.done():
                process.die(one.exception() or RuntimeError("nobody tends the worker"))
            one.cancel()
        await self._stop()

    async def _start(self) -> None:
        await topic_admin.wait(self.kafka, self.chosen.homes)
        await self.vault.wait(self.kafka, self.out.append)
        self._consumer().use(self.lanes, self.wake)
        for lane in self.lanes:
            lane.start()
        self.relay.start()
        self.watchdog.start()
        for keeper in self.schedules:
            keeper.start()
        self.parked.start()
        await self.app.start()
        # What was loaded stays: a full collection over it would hold up every lane for tens of milliseconds.
        gc.collect()
        gc.freeze()

    async def _stop(self) -> None:
        structlog.get_logger().info("stopping")
        self.watchdog.stop()
        await asyncio.gather(*(asyncio.to_thread(lane.stop) for lane in self.lanes))
        await asyncio.gather(*(asyncio.to_thread(one.stop) for one in (self.relay, self.parked)))
        await asyncio.to_thread(tracing.stop)
        for keeper in self.schedules:
            keeper.stop()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self.app.stop()
                await self.out.stop()
        except TimeoutError:
            process.leave("stopped without Kafka's goodbye; every transaction was finished")

    async def _crashed(self) -> BaseException:
        await self.app._crashed.wait()
        reason: BaseException | None = self.app.crash_reason
        return reason or RuntimeError("the Faust app crashed")

    async def _tend(self) -> None:
        """Advice for lag tools, lag metrics, and a look whether the log still reaches to where we stand."""
        while True:
            await asyncio.sleep(ADVICE_SECONDS)
            nexts: dict[TP, int] = {}
            for reader, of_reader in self._readers():
                lag, oldest = 0, 0.0
                for lane in of_reader:
                    _, offsets = lane.claimed()
                    nexts.update(offsets)
                    records_, seconds = lane.lag(self._highwater)
                    lag, oldest = lag + records_, max(oldest, seconds)
                metrics.LAG_RECORDS.labels(reader=reader).set(lag)
                metrics.LAG_SECONDS.labels(reader=reader).set(oldest)
            self._doubt_shorter_log(nexts)
            if nexts:
                await self._consumer().advise(nexts)

    async def _join(self) -> None:
        """Whatever error Kafka answers a join with: the next one may do."""
        while True:
            await asyncio.sleep(JOIN_SECONDS)
            error = await self._consumer().group_error()
            if error is not None:
                structlog.get_logger().warning("joining the group again", error=process.told(error))

    def _readers(self) -> tuple[tuple[str, Sequence[lanes.Lane]], ...]:
        return (
            ("intake", [self.intake]),
            ("fold", self.folds),
            ("registry", [self.registry]),
            ("keys", [self.keys]),
        )

    def _doubt_shorter_log(self, nexts: dict[TP, int]) -> None:
        now = self.loop.time()
        short = {
            tp for tp, offset in nexts.items() if (end := self._highwater(tp)) is not None and end < offset
        }
        self._behind = {tp: self._behind.get(tp, now) for tp in short}
        for tp, since in self._behind.items():
            if now - since > BEHIND_SECONDS:
                process.die(
                    log.Replaced(
                        f"{tp.topic} {tp.partition} ends before {nexts[tp]}, where this worker stands: "
                        "Kafka's data was truncated or replaced. Restore it, or start on a new database."
                    )
                )


def run(chosen: settings.Settings) -> None:
    """A worker process, to its end."""
    folder = chosen.home / "faust" / chosen.worker_name
    folder.mkdir(parents=True, exist_ok=True)
    process.recall_fences(folder / "fenced")
    process.set_up_logs(chosen.log_level, worker=chosen.worker_name)
    process.serve_metrics(chosen.metrics_port)
    tracing.start(chosen.otlp_endpoint, "heed-worker", chosen.worker_name)
    try:
        asyncio.run(_run(chosen))
    except Exception as error:
        process.die(error)


async def _run(chosen: settings.Settings) -> None:
    await Worker(chosen).run()
