"""The log, read ahead for a replay: fetched and decoded in a thread while the database works.

Promises: records come in the order of their partitions, with the offsets that they cover, from where it was
told to begin and never past the bounds given; none is passed over when its taker fails. `size` finds a log
that does not begin at 0, or ends before what live has folded, which is doubt, with the figure; `check` one
that lacks what a pair still has to read.
Limits: three batches ahead; one reader at a time.
Called by: `streams.replay_follow`, `streams.replay_swap`, `streams.replay_old`, `streams.replay_crew`.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import aiokafka
import aiokafka.errors

from projections import records, registry
from projections.positions import TP
from schemas import errors, topics
from streams import batches, broker, log

AHEAD: Final = 3
WAIT_MS: Final = 100
STUCK_SECONDS: Final = 60.0

# Facts, facts of the registry, and the offsets that partitions are read up to.
Taken = tuple[records.Decoded, registry.Batch, dict[TP, int]]


class Source:
    """Partitions of `facts` and `registry` from given offsets on; `with` starts its thread and ends it.

    Without `homes` facts are decoded for tables alone (`records.decode`).
    """

    def __init__(self, kafka: broker.Broker, homes: int | None, starts: Mapping[TP, int]) -> None:
        self._kafka, self._homes = kafka, homes
        self._at = dict(starts)
        self._given = dict(starts)
        self._bounds = dict(starts)
        self._tps = {name: aiokafka.TopicPartition(*name) for name in starts}
        self._taken: queue.Queue[Taken | BaseException] = queue.Queue(AHEAD)
        self._undone: Taken | None = None  # given, and not known to be taken in
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="replay-log", daemon=True)

    def __enter__(self) -> Source:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(10.0)

    def upto(self, bounds: Mapping[TP, int], patience: float = STUCK_SECONDS) -> Iterator[Taken]:
        """What stands below these offsets and was not taken in yet; raises errors.Away when Kafka stalls.

        A batch is taken in once the next is asked for: whoever fails at one is given it again.
        """
        self._bounds = self._bounds | {name: max(self._bounds[name], bound) for name, bound in bounds.items()}
        until = time.monotonic() + patience
        while any(self._given[name] < bound for name, bound in bounds.items()):
            try:
                found = self._undone or self._taken.get(timeout=0.2)
            except queue.Empty:
                if time.monotonic() > until:
                    raise errors.Away(
                        f"Kafka gave nothing for {patience:.0f} s, though live has read further"
                    ) from None
                continue
            if isinstance(found, BaseException):
                raise found
            until = time.monotonic() + patience
            self._undone = found
            yield found
            self._undone = None
            self._given |= found[2]

    def _run(self) -> None:
        try:
            asyncio.run(self._read())
        except aiokafka.errors.KafkaError as error:
            self._fail(_away(error))
        except BaseException as error:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        """Whoever waits learns it, once there is room."""
        told = False
        while not (told or self._stopping.is_set()):
            with contextlib.suppress(queue.Full):
                self._taken.put(error, timeout=0.2)
                told = True

    async def _read(self) -> None:
        async with log.reading(self._kafka) as consumer:
            consumer.assign(list(self._tps.values()))
            for name, tp in self._tps.items():
                consumer.seek(tp, self._at[name])
            while not self._stopping.is_set():
                found = await self._some(consumer)
                while found is not None and not self._stopping.is_set():
                    try:
                        self._taken.put_nowait(found)
                        found = None
                    except queue.Full:
                        await asyncio.sleep(0.002)

    async def _some(self, consumer: aiokafka.AIOKafkaConsumer) -> Taken | None:
        bounds = self._bounds
        open_ = [self._tps[name] for name in self._at if self._at[name] < bounds[name]]
        if not open_:
            await asyncio.sleep(0.002)
            return None
        found = await consumer.getmany(*open_, timeout_ms=WAIT_MS, max_records=batches.TARGET)
        facts: list[Any] = []
        registered: list[Any] = []
        ends: dict[TP, int] = {}
        for tp, some in found.items():
            name = (tp.topic, tp.partition)
            end, bound = some.end, bounds[name]
            if end > bound:
                consumer.seek(tp, bound)
                end, some = bound, [record for record in some if record.offset < bound]
            (facts if tp.topic == topics.FACTS else registered).extend(some)
            ends[name] = self._at[name] = end
        if not ends:
            return None
        return records.decode(facts, self._homes), registry.decode(registered), ends


def check(kafka: broker.Broker, live: Mapping[TP, int], own: Mapping[TP, int]) -> None:
    """That a pair can be folded on from its `own` offsets to live's; raises errors.Doubt, errors.Away."""
    first, end = _bounds(kafka, live)
    if lost := sum(max(0, first[name] - own.get(name, 0)) for name in live):
        raise errors.Doubt(
            f"{lost} records are gone from the log that the old tables have not read, and live has. "
            "Nothing was changed."
        )
    _refuse_short(end, live)


def size(kafka: broker.Broker, live: Mapping[TP, int]) -> int:
    """Facts of the log; raises errors.Doubt when it lacks some that live has read, errors.Away."""
    first, end = _bounds(kafka, live)
    if lost := sum(first.values()):
        raise errors.Doubt(f"the log does not start at 0: {lost} facts are gone. Restore it, then replay.")
    _refuse_short(end, live)
    return sum(at for (topic, _), at in end.items() if topic == topics.FACTS)


def _refuse_short(end: Mapping[TP, int], live: Mapping[TP, int]) -> None:
    if short := sum(max(0, offset - end[name]) for name, offset in live.items()):
        raise errors.Doubt(
            f"the log ends {short} records before what live has folded. Restore it, then replay."
        )


def _bounds(kafka: broker.Broker, names: Mapping[TP, int]) -> tuple[dict[TP, int], dict[TP, int]]:
    try:
        return asyncio.run(_ends(kafka, list(names)))
    except aiokafka.errors.KafkaError as error:
        raise _away(error) from error


async def _ends(kafka: broker.Broker, names: Sequence[TP]) -> tuple[dict[TP, int], dict[TP, int]]:
    async with log.reading(kafka) as consumer:
        tps = {name: aiokafka.TopicPartition(*name) for name in names}
        first = await consumer.beginning_offsets(list(tps.values()))
        end = await consumer.end_offsets(list(tps.values()))
    return {name: first[tp] for name, tp in tps.items()}, {name: end[tp] for name, tp in tps.items()}


def _away(error: aiokafka.errors.KafkaError) -> errors.Away:
    return errors.Away(f"Kafka cannot be reached ({type(error).__name__})")
