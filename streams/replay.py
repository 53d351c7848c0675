"""`heed replay --check`: the log folded from its start into a shadow, and compared with the live tables.

Promises: beside live traffic, whose tables it only reads; leaves nothing behind, also when interrupted
(SIGINT, SIGTERM; after kill -9 the next replay clears up). Reads exactly as far as live has folded, so both
sides hold the same facts; nothing is published. Contacts that cannot be computed are errors of their own.
Limits: one at a time; needs room for the facts once more.
Called by: `heed replay`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import signal
import sys
import time
from typing import Any

import aiokafka
import rich.console
import rich.progress

from projections import records, shadow
from schemas import errors, settings, topics
from streams import batches, broker, log

NEAR_SECONDS = 5.0
WAIT_MS = 200
STUCK_SECONDS = 60.0


@dataclasses.dataclass(slots=True)
class Found:
    """What a check found."""

    rows: int = 0
    facts: int = 0
    carried: int = 0
    seconds: float = 0.0
    differing: int = 0
    differences: list[shadow.Difference] = dataclasses.field(default_factory=list)
    errors: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def clean(self) -> bool:
        return not self.differing and not self.errors

    def sentence(self) -> str:
        """What was found, in a line."""
        return (
            f"{self.differing} of {self.rows} rows differ "
            f"({self.facts} facts replayed in {self.seconds:.1f} s; "
            f"{self.carried} rows carried to the instant)."
        )

    def as_dict(self) -> dict[str, Any]:
        listed = [dataclasses.asdict(one) for one in self.differences]
        return dataclasses.asdict(self) | {"differences": listed}


def check(chosen: settings.Settings, *, quiet: bool = False) -> Found:
    """Replay and compare; prints progress and what differs unless `quiet`."""
    signal.signal(signal.SIGTERM, _interrupt)
    console = rich.console.Console(stderr=True, quiet=quiet)
    began = time.monotonic()
    found = Found()
    try:
        with (
            shadow.Shadow(chosen.postgres, chosen.homes) as built,
            shadow.Live(chosen.postgres, chosen.homes) as live,
        ):
            asyncio.run(_check(chosen, console, built, live, found))
    except (KeyboardInterrupt, asyncio.CancelledError):
        # An interrupt within a step of asyncio's own may leave it as a cancelling.
        raise errors.Usage("The replay was interrupted; nothing of it is left behind.") from None
    found.seconds = round(time.monotonic() - began, 3)
    if not quiet:
        _tell(found)
    return found


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


async def _check(
    chosen: settings.Settings,
    console: rich.console.Console,
    built: shadow.Shadow,
    live: shadow.Live,
    found: Found,
) -> None:
    columns = (
        rich.progress.TextColumn("{task.description}"), rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(), Rate(),
        rich.progress.TimeRemainingColumn(),
    )  # fmt: skip
    with rich.progress.Progress(*columns, console=console, refresh_per_second=2) as progress:
        async with log.reading(broker.of(chosen)) as consumer:
            reader = Reader(consumer, chosen.homes, built)
            task = progress.add_task("facts", total=sum(live.read_up_to().values()))
            await reader.come_near(
                live, lambda done, total: progress.update(task, completed=done, total=total)
            )
            offsets = live.snapshot()
            await reader.read_to(offsets)
            progress.update(task, completed=sum(offsets.values()), total=sum(offsets.values()))
        at = live.instant()
        task = progress.add_task("rows", total=None)
        for brought in built.bring(at):
            progress.advance(task, brought)
        found.carried = live.carry(at)
        found.errors = built.failed | live.failed
        found.rows, found.facts, found.differing = live.compare(
            lambda one: found.differences.append(one) if len(found.differences) < shadow.SHOWN else None
        )


class Rate(rich.progress.ProgressColumn):
    def render(self, task: rich.progress.Task) -> Any:
        return "" if not task.speed else f"{task.speed:,.0f}/s"


def _tell(found: Found) -> None:
    tell_errors(found.errors)
    for one in found.differences:
        sys.stdout.write(f"{one}\n")
    if found.differing > len(found.differences):
        sys.stdout.write(f"… and {found.differing - len(found.differences)} more\n")


def tell_errors(failed: dict[str, str]) -> None:
    """Print the contacts that cannot be computed, and why."""
    for contact, error in sorted(failed.items())[: shadow.SHOWN]:
        sys.stdout.write(f"{contact} cannot be computed: {error}\n")
    if len(failed) > shadow.SHOWN:
        sys.stdout.write(f"… and {len(failed) - shadow.SHOWN} more\n")


class Reader:
    """Reads `facts` from its start into the shadow, never past where live has folded."""

    def __init__(self, consumer: aiokafka.AIOKafkaConsumer, homes: int, built: shadow.Shadow) -> None:
        self._consumer, self._homes, self._built = consumer, homes, built
        self._at = dict.fromkeys(range(homes), 0)
        self._tps = {part: aiokafka.TopicPartition(topics.FACTS, part) for part in range(homes)}
        consumer.assign(list(self._tps.values()))
        for tp in self._tps.values():
            consumer.seek(tp, 0)

    async def come_near(self, live: shadow.Live, progress: Any) -> None:
        """Follow live until what is left takes less than five seconds at the rate so far."""
        first = await self._consumer.beginning_offsets(list(self._tps.values()))
        lost = sum(first.values())
        if lost:
            raise errors.Doubt(
                f"the log does not start at 0: {lost} facts are gone. Restore `facts`, then replay."
            )
        began = time.monotonic()
        while True:
            bounds = live.read_up_to()
            await self._read(bounds)
            done, total = sum(self._at.values()), sum(bounds.values())
            progress(done, total)
            rate = done / max(0.001, time.monotonic() - began)
            if total - done <= rate * NEAR_SECONDS:
                return

    async def read_to(self, bounds: dict[int, int]) -> None:
        """Read to exactly these offsets."""
        stuck = time.monotonic() + STUCK_SECONDS
        while any(self._at[part] < bound for part, bound in bounds.items()):
            if await self._read(bounds):
                stuck = time.monotonic() + STUCK_SECONDS
            elif time.monotonic() > stuck:
                raise errors.Away(
                    f"Kafka gave nothing for {STUCK_SECONDS:.0f} s, though live has read further"
                )

    async def _read(self, bounds: dict[int, int]) -> int:
        open_ = [self._tps[part] for part in self._at if self._at[part] < bounds.get(part, 0)]
        if not open_:
            return 0
        found = await self._consumer.getmany(*open_, timeout_ms=WAIT_MS, max_records=batches.TARGET)
        taken: list[Any] = []
        ends: dict[int, int] = {}
        for tp, some in found.items():
            bound = bounds[tp.partition]
            end = some.end
            if end > bound:
                self._consumer.seek(tp, bound)
                end, some = bound, [record for record in some if record.offset < bound]
            taken.extend(some)
            ends[tp.partition] = self._at[tp.partition] = end
        if ends:
            decoded = records.decode(taken, self._homes)
            await asyncio.to_thread(self._built.take, decoded, ends)
        return len(ends)
