"""`heed replay`: the log folded anew beside live, which then takes the live tables' place.

Promises: traffic goes on; the live tables are only read until the swap. Stopped (SIGTERM, kill -9), the next
`heed replay` goes on where this one was; cancelled (Ctrl-C, `--cancel`), nothing of it is left. Nothing is
swapped in that holds fewer facts than live, also of the registry, or too many contacts that cannot be
computed. The old tables stay (`streams.replay_old`).
Limits: one at a time; needs room for the facts once more; folding stands still during the swap, for as long
as the last lines say.
Called by: `heed replay`.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import psycopg
import rich.console
import rich.progress

from projections import database, following, next_pair, pairs, positions, shadow, swap
from projections.next_pair import Phase
from schemas import errors, settings, topics
from streams import broker, replay, replay_crew, replay_follow, replay_log, replay_signals, room

PASSES: Final = 100  # of the log, in the phase of facts


@dataclasses.dataclass(slots=True)
class Done:
    """What a replay did."""

    facts: int = 0
    seconds: float = 0.0
    facts_per_second: float = 0.0
    pause_seconds: float = 0.0
    tries: int = 0
    resumed: bool = False
    phases: dict[str, float] = dataclasses.field(default_factory=dict)  # seconds of each
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


def run(chosen: settings.Settings, *, quiet: bool = False) -> Done:
    """Replay and swap; prints progress and what was done unless `quiet`."""
    console = rich.console.Console(stderr=True, quiet=quiet)
    jobs = replay_crew.jobs(chosen)
    with (
        replay_signals.Signals() as signals,
        replay_crew.Crew(chosen, jobs) as crew,
        next_pair.Next(chosen.postgres, chosen.homes) as built,
    ):
        try:
            done = _Replay(chosen, console, signals, crew, built, jobs).run()
        except replay_signals.Stopped:
            raise errors.Usage(
                "The replay was stopped; `heed replay` goes on with it, `heed replay --cancel` drops it."
            ) from None
        except KeyboardInterrupt:
            built.drop()
            raise errors.Usage("The replay was cancelled; nothing of it is left behind.") from None
        except psycopg.Error as error:
            if not database.is_away(error):
                raise
            raise errors.Away(
                f"PostgreSQL ended the replay ({type(error).__name__}); `heed replay` goes on with "
                "what is left."
            ) from error
    if not quiet:
        replay.tell_errors(done.errors)
    return done


class _Replay:
    """One run of the command, phase by phase."""

    def __init__(
        self,
        chosen: settings.Settings,
        console: rich.console.Console,
        signals: replay_signals.Signals,
        crew: replay_crew.Crew,
        built: next_pair.Next,
        jobs: int,
    ) -> None:
        self._chosen, self._console, self._signals = chosen, console, signals
        self._crew, self._built, self._jobs = crew, built, jobs
        self._live = database.connect(chosen.postgres, "heed_ops", following.NAME, statement_seconds=0)
        self._done = Done()

    def run(self) -> Done:
        """Every phase that is left, then the swap."""
        began = time.monotonic()
        with self._live, replay_follow.progress(self._console) as progress:
            _refuse_old(self._live)
            found = self._built.find()
            self._refuse()
            if found is None:
                self._built.begin()
            self._done.resumed = self._built.resumed
            self._build(progress)
            kafka = broker.of(self._chosen)
            with replay_log.Source(kafka, self._chosen.homes, self._built.read_to()) as source:
                follower = replay_follow.Follower(
                    self._chosen, self._signals, self._live, self._built, source, progress
                )
                with self._timed("follow"):
                    follower.follow()
                    self._done.facts = follower.count(_fewer)
                    self._done.errors = self._built.failed()
                with self._timed("swap"):
                    swapped = follower.put_in_place()
        self._done.pause_seconds, self._done.tries = round(swapped.pause_seconds, 3), swapped.tries
        self._done.seconds = round(time.monotonic() - began, 3)
        self._done.facts_per_second = round(self._done.facts / max(0.001, self._done.seconds), 1)
        return self._done

    def _build(self, progress: rich.progress.Progress) -> None:
        """The phases up to the rows, each from where an earlier replay left it."""
        if self._built.phase is Phase.FACTS:
            with self._timed("facts"):
                self._read_facts(progress)
            self._built.enter(Phase.INDEXES)
        if self._built.phase is Phase.INDEXES:
            task = progress.add_task("indexes", total=None)
            with self._timed("indexes"):
                self._built.index()
            progress.update(task, total=1, completed=1)
        if self._built.phase is Phase.ROWS:
            with self._timed("rows"):
                self._bring(progress)
            self._built.enter(Phase.FOLLOW)

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self._done.phases[phase] = round(time.monotonic() - began, 3)

    def _refuse(self) -> None:
        """Raises errors.Usage or errors.Doubt for a replay that cannot come to a good end."""
        read = positions.log_starts(self._chosen.homes) | swap.read_up_to(self._live)
        records = replay_log.size(broker.of(self._chosen), read)
        [(known,)] = self._live.execute("select count(*) from heed_data.fact").fetchall()
        if records < known:
            raise errors.Doubt(_fewer(topics.FACTS, records, "fact", known))
        room.check(self._live, self._chosen, records)

    def _read_facts(self, progress: rich.progress.Progress) -> None:
        """The log up to where live is, again and again, until a pass is short."""
        task = progress.add_task("facts", total=None)
        standing = self._built.read_to()

        def told(ends: swap.Offsets) -> None:
            standing.update(ends)
            progress.update(task, completed=sum(standing.values()))

        self._crew.begin(self._built.moves())
        for _ in range(PASSES):
            began = time.monotonic()
            bounds = swap.read_up_to(self._live)
            progress.update(task, total=sum(bounds.values()), completed=sum(standing.values()))
            self._crew.load(bounds, told)
            if time.monotonic() - began < replay.NEAR_SECONDS:
                break
        self._built.claim()

    def _bring(self, progress: rich.progress.Progress) -> None:
        self._built.vacuum()
        task = progress.add_task("rows", total=self._built.estimate())
        [(at,)] = self._live.execute(shadow.INSTANT).fetchall()
        brought = 0
        for number in self._built.bring(at, self._jobs):
            brought += number
            progress.update(task, completed=brought)
        progress.update(task, total=brought, completed=brought)
        self._built.vacuum()
        self._built.failed()


def _fewer(topic: str, there: int, table: str, known: int) -> str:
    return (
        f"the log `{topic}` holds {there} facts, the table `{table}` {known}: {known - there} of them are "
        f"not in the log. Nothing was swapped. Restore `{topic}`, then replay."
    )


def _refuse_old(connection: psycopg.Connection) -> None:
    old = pairs.find(connection, pairs.OLD)
    if old is not None:
        raise errors.Usage(
            f"The old tables are still there ({old.size / 1e9:.1f} GB in {pairs.OLD.data}): return to them "
            "with `heed replay --back`, or drop them with `heed replay --drop-old`."
        )
