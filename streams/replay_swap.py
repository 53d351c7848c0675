"""`heed replay`: the log folded anew beside live, which then takes the live tables' place.

Promises: traffic goes on; the live tables are only read until the swap. Stopped (SIGTERM, kill -9), the next
`heed replay` goes on where this one was; cancelled (Ctrl-C, `--cancel`), nothing of it is left. Nothing is
swapped in that holds fewer facts than live, or too many contacts that cannot be computed. The old tables stay
until `--drop-old`; `--back` returns to them, and they fold on from their own positions.
Limits: one at a time; needs room for the facts once more; folding stands still during the swap, for as long
as the last lines say.
Called by: `heed replay`.
"""

from __future__ import annotations

import dataclasses
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import psycopg
import rich.console
import rich.progress

from projections import database, next_pair, pairs, shadow, swap
from projections.next_pair import Phase
from schemas import errors, settings
from streams import replay, replay_log, room

NEAR_SECONDS: Final = 0.5  # a pass of the log that took no longer is near enough to swap after
PASSES: Final = 100
CATCH_UP_SECONDS: Final = 3.0
ERRORS: Final = (100, 0.01)  # so many contacts that cannot be computed, and this share, are a bad deploy


class Stopped(KeyboardInterrupt):
    """Asked to stop: what was built stays."""


@dataclasses.dataclass(slots=True)
class Done:
    """What a replay did."""

    facts: int = 0
    seconds: float = 0.0
    facts_per_second: float = 0.0
    pause_seconds: float = 0.0
    tries: int = 0
    resumed: bool = False
    errors: dict[str, str] = dataclasses.field(default_factory=dict)

    def sentence(self) -> str:
        """What was done, in two lines."""
        return (
            f"{self.facts} facts replayed in {self.seconds:.1f} s ({self.facts_per_second:,.0f}/s) and "
            f"swapped in; folding stood still for {self.pause_seconds:.3f} s.\n"
            "The old tables stay: `heed replay --back` returns to them, `heed replay --drop-old` drops them."
        )

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


class Signals:
    """Ctrl-C and SIGTERM as exceptions, except while `held`: then they wait to be asked for."""

    def __init__(self) -> None:
        self.held = False
        self._asked: type[KeyboardInterrupt] | None = None

    def __enter__(self) -> Signals:
        signal.signal(signal.SIGINT, lambda *_: self._take(KeyboardInterrupt))
        signal.signal(signal.SIGTERM, lambda *_: self._take(Stopped))
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def _take(self, kind: type[KeyboardInterrupt]) -> None:
        if not self.held:
            raise kind
        self._asked = kind

    def heed(self) -> None:
        """Raise what was asked for meanwhile."""
        if self._asked is not None:
            raise self._asked


def run(chosen: settings.Settings, *, quiet: bool = False) -> Done:
    """Replay and swap; prints progress and what was done unless `quiet`."""
    console = rich.console.Console(stderr=True, quiet=quiet)
    with Signals() as signals, next_pair.Next(chosen.postgres, chosen.homes) as built:
        try:
            done = _Replay(chosen, console, signals, built).run()
        except Stopped:
            raise errors.Usage(
                "The replay was stopped; `heed replay` goes on with it, `heed replay --cancel` drops it."
            ) from None
        except KeyboardInterrupt:
            built.drop()
            raise errors.Usage("The replay was cancelled; nothing of it is left behind.") from None
    if not quiet:
        replay.tell_errors(done.errors)
    return done


class _Replay:
    """One run of the command, phase by phase."""

    def __init__(
        self,
        chosen: settings.Settings,
        console: rich.console.Console,
        signals: Signals,
        built: next_pair.Next,
    ) -> None:
        self._chosen, self._console, self._signals, self._built = chosen, console, signals, built
        self._live = database.connect(chosen.postgres, "heed_ops", next_pair.NAME, statement_seconds=0)
        self._done = Done()

    def run(self) -> Done:
        """Every phase that is left, then the swap."""
        began = time.monotonic()
        with self._live, self._progress() as progress:
            _refuse_old(self._live)
            starts = self._open_source()
            with replay_log.Source(self._chosen.kafka, self._chosen.homes, starts) as source:
                records = source.size(swap.read_up_to(self._live))
                self._refuse(records)
                if not self._built.resumed:
                    self._built.begin()
                self._done.resumed = self._built.resumed
                if self._built.phase is Phase.FACTS:
                    self._read_facts(source, progress)
                    self._built.enter(Phase.INDEXES)
                if self._built.phase is Phase.INDEXES:
                    task = progress.add_task("indexes", total=None)
                    self._built.index()
                    progress.update(task, total=1, completed=1)
                    self._built.enter(Phase.ROWS)
                if self._built.phase is Phase.ROWS:
                    self._bring(progress)
                    self._built.enter(Phase.FOLLOW)
                self._follow(source)
                self._swap(source)
        self._done.seconds = round(time.monotonic() - began, 3)
        self._done.facts_per_second = round(self._done.facts / max(0.001, self._done.seconds), 1)
        self._done.errors = self._built.failed
        return self._done

    def _open_source(self) -> dict[int, int]:
        return self._built.find() or dict.fromkeys(range(self._chosen.homes), 0)

    def _refuse(self, records: int) -> None:
        """Raises errors.Usage or errors.Doubt for a replay that cannot come to a good end."""
        [(known,)] = self._live.execute("select count(*) from heed_data.fact").fetchall()
        if records < known:
            raise errors.Doubt(_fewer(records, known))
        room.check(self._live, self._chosen, records)

    def _read_facts(self, source: replay_log.Source, progress: rich.progress.Progress) -> None:
        """The log up to where live is, again and again, until a pass is short."""
        task = progress.add_task("facts", total=None)
        for _ in range(PASSES):
            began = time.monotonic()
            bounds = swap.read_up_to(self._live)
            progress.update(task, total=sum(bounds.values()), completed=sum(self._built.read_to().values()))
            for facts, ends in source.upto(bounds):
                self._built.take(facts, ends)
                progress.update(task, completed=sum(self._built.read_to().values()))
            if time.monotonic() - began < replay.NEAR_SECONDS:
                return

    def _bring(self, progress: rich.progress.Progress) -> None:
        task = progress.add_task("rows", total=self._built.estimate())
        [(at,)] = self._live.execute(shadow.INSTANT).fetchall()
        brought = 0
        for number in self._built.bring(at):
            brought += number
            progress.update(task, completed=brought)
        progress.update(task, total=brought, completed=brought)
        self._built.vacuum()
        if len(self._built.failed) > max(ERRORS[0], brought * ERRORS[1]):
            raise errors.Doubt(
                f"{len(self._built.failed)} of {brought} contacts cannot be computed, as "
                f"{next(iter(self._built.failed.items()))}: nothing was swapped, "
                "`heed replay --cancel` drops it."
            )

    def _follow(self, source: replay_log.Source) -> None:
        """Fold what came meanwhile, until a pass is short; then the facts are counted."""
        for _ in range(PASSES):
            began = time.monotonic()
            self._built.claim()
            self._read(source, swap.read_up_to(self._live))
            self._built.carry_due()
            if time.monotonic() - began < NEAR_SECONDS:
                break
        offsets, known = self._counted()
        self._read(source, offsets)
        self._done.facts = self._built.count()
        if self._done.facts < known:
            raise errors.Doubt(_fewer(self._done.facts, known))

    def _counted(self) -> tuple[dict[int, int], int]:
        """The offsets of live, and how many facts it holds, of one instant."""
        with self._live.transaction():
            self._live.execute("set transaction isolation level repeatable read, read only")
            offsets = swap.read_up_to(self._live)
            [(known,)] = self._live.execute("select count(*) from heed_data.fact").fetchall()
        return offsets, int(known)

    def _read(self, source: replay_log.Source, bounds: dict[int, int], **patience: float) -> None:
        for facts, ends in source.upto(bounds, **patience):
            self._built.take(facts, ends)

    def _swap(self, source: replay_log.Source) -> None:
        def catch_up(bounds: dict[int, int]) -> None:
            self._signals.heed()
            self._built.claim()
            try:
                self._read(source, bounds, patience=CATCH_UP_SECONDS)
            except errors.Away as away:
                raise swap.Behind from away

        self._signals.held = True
        found = swap.swap(self._chosen.postgres, pairs.NEXT, catch_up)
        self._done.pause_seconds, self._done.tries = round(found.pause_seconds, 3), found.tries

    @contextmanager
    def _progress(self) -> Iterator[rich.progress.Progress]:
        columns = (
            rich.progress.TextColumn("{task.description}"), rich.progress.BarColumn(),
            rich.progress.MofNCompleteColumn(), replay.Rate(), rich.progress.TimeRemainingColumn(),
        )  # fmt: skip
        with rich.progress.Progress(*columns, console=self._console, refresh_per_second=2) as progress:
            yield progress


def _fewer(there: int, known: int) -> str:
    return (
        f"the log holds {there} facts, the table `fact` {known}: {known - there} of them are not in the log. "
        "Nothing was swapped. Restore `facts`, then replay."
    )


def _refuse_old(connection: psycopg.Connection) -> None:
    old = pairs.find(connection, pairs.OLD)
    if old is not None:
        raise errors.Usage(
            f"The old tables are still there ({old.size / 1e9:.1f} GB in {pairs.OLD.data}): return to them "
            "with `heed replay --back`, or drop them with `heed replay --drop-old`."
        )


def back(chosen: settings.Settings) -> swap.Swapped:
    """Return to the old tables, which fold on from their own positions; the live ones become the old ones."""
    with Signals() as signals, _alone(chosen, pairs.OLD) as connection:
        if pairs.find(connection, pairs.OLD) is None:
            raise errors.Usage("There are no old tables to return to.")
        swap.check_revision(connection, pairs.OLD)
        swap.carry_due(connection)
        signals.held = True
        return swap.swap(chosen.postgres, pairs.OLD, lambda _: signals.heed(), own_offsets=True)


def drop_old(chosen: settings.Settings) -> int:
    """Drop the old tables; answers how many bytes they took."""
    return _drop(chosen, pairs.OLD)


def cancel(chosen: settings.Settings) -> int:
    """End a replay that runs and drop what it built, or what a stopped one left; answers the bytes freed."""
    with database.connect(chosen.postgres, "heed_ops", next_pair.NAME) as connection:
        next_pair.end_other(connection)
    return _drop(chosen, pairs.NEXT)


def _drop(chosen: settings.Settings, names: Any) -> int:
    with _alone(chosen, names) as connection:
        found = pairs.find(connection, names)
        pairs.drop(connection, names)
        return found.size if found else 0


@contextmanager
def _alone(chosen: settings.Settings, names: Any) -> Iterator[psycopg.Connection]:
    """A connection that works in this pair, while no replay runs."""
    path = f"{names.data}, heed_ops"
    with database.connect(chosen.postgres, path, next_pair.NAME, statement_seconds=0) as connection:
        next_pair.lock(connection)
        yield connection
