"""A pair brought to where live is, beside live traffic, and then put in its place.

Promises: the same for what a replay has built and for old tables that come back: passes of the log until one
is short, facts counted against live's, then the swap at live's offsets. Before each try of the swap what came
meanwhile is folded, so little is left to do while folding stands still. A signal ends it between tries.
Limits: the caller holds the lock of replays; what ends it early leaves the pair as far as it has come.
Called by: `streams.replay_swap`, `streams.replay_old`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import psycopg
import rich.console
import rich.progress

from projections import following, swap
from schemas import errors, settings, topics
from streams import replay, replay_log, replay_signals

NEAR_SECONDS: Final = 0.5  # a pass of the log that took no longer is near enough to swap after
PASSES: Final = 100
CATCH_UP_SECONDS: Final = 3.0
KNOWN: Final = "select (select count(*) from heed_data.fact), (select count(*) from heed_data.registry)"


class Follower:
    """Has a pair follow live by what a source reads of the log."""

    def __init__(
        self,
        chosen: settings.Settings,
        signals: replay_signals.Signals,
        live: psycopg.Connection,
        pair: following.Pair,
        source: replay_log.Source,
        progress: rich.progress.Progress,
    ) -> None:
        self._chosen, self._signals, self._live = chosen, signals, live
        self._pair, self._source = pair, source
        self._progress = progress
        self._task = progress.add_task("follow", total=None)

    def follow(self) -> None:
        """Fold what came meanwhile, and make due what is, until a pass is short."""
        for _ in range(PASSES):
            began = time.monotonic()
            self._pair.claim()
            bounds = swap.read_up_to(self._live)
            self._progress.update(self._task, total=sum(bounds.values()))
            self._read(bounds)
            self._settle()
            self._pair.carry_due()
            if time.monotonic() - began < NEAR_SECONDS:
                break

    def count(self, fewer: Callable[[str, int, str, int], str]) -> int:
        """How many facts the pair holds; raises errors.Doubt when live holds more, also of the registry.

        `fewer` words it: a topic, how many facts of it the pair holds, their table, and how many live holds.
        """
        offsets, known, registered = self._counted()
        self._read(offsets)
        facts, there = self._pair.count()
        if facts < known:
            raise errors.Doubt(fewer(topics.FACTS, facts, "fact", known))
        if there < registered:
            raise errors.Doubt(fewer(topics.REGISTRY, there, "registry", registered))
        return facts

    def put_in_place(self) -> swap.Swapped:
        """Put the pair in live's place; raises what ended it, errors.Usage, errors.Away."""

        def asked() -> None:
            self._signals.held = False
            self._signals.heed()
            self._pair.check_alive()
            self.follow()
            self._signals.held = True

        return swap.swap(self._chosen.postgres, self._pair.names, self._catch_up, asked=asked)

    def _catch_up(self, bounds: swap.Offsets) -> None:
        self._pair.claim()
        try:
            self._read(bounds, patience=CATCH_UP_SECONDS)
        except errors.Away as away:
            raise swap.Behind from away
        if not self._pair.is_settled():  # a rule has changed just now: everyone first, beside traffic
            raise swap.Behind

    def _settle(self) -> None:
        if self._pair.is_settled():
            return
        task = self._progress.add_task("rows", total=self._pair.estimate())
        for brought in self._pair.settle():
            self._progress.advance(task, brought)

    def _counted(self) -> tuple[swap.Offsets, int, int]:
        """The offsets of live, how many facts it holds, and how many of the registry, of one instant."""
        with self._live.transaction():
            self._live.execute("set transaction isolation level repeatable read, read only")
            offsets = swap.read_up_to(self._live)
            [(known, registered)] = self._live.execute(KNOWN).fetchall()
        return offsets, int(known), int(registered)

    def _read(self, bounds: swap.Offsets, **patience: float) -> None:
        for taken in self._source.upto(bounds, **patience):
            self._pair.take(*taken)
            self._progress.update(self._task, completed=sum(self._pair.read_to().values()))


@contextmanager
def progress(console: rich.console.Console) -> Iterator[rich.progress.Progress]:
    """Bars of what is done, with rates and estimates."""
    columns = (
        rich.progress.TextColumn("{task.description}"), rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(), replay.Rate(), rich.progress.TimeRemainingColumn(),
    )  # fmt: skip
    with rich.progress.Progress(*columns, console=console, refresh_per_second=2) as made:
        yield made
