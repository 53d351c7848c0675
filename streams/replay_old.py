"""The tables of before a replay: back to them, or away with them; and away with a replay that is not wanted.

Promises: `back` first folds the old tables on from their own positions, beside live traffic, up to where live
is; then it swaps as a replay does, with the same promises, so they come back whole and no command is lost.
Ended early (Ctrl-C, SIGTERM, kill -9, a server away), nothing was swapped, and the next `back` goes on where
this one was. What is dropped is named by its size.
Limits: while no replay runs; `cancel` ends one first. Old tables with fewer facts than live are refused.
Called by: `heed replay --back`, `--drop-old`, `--cancel`.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import rich.console

from projections import database, following, pairs, replay_lock, swap
from projections.migrations import sql
from schemas import errors, settings
from streams import broker, replay, replay_follow, replay_log, replay_signals


@dataclasses.dataclass(slots=True)
class Done:
    """What a return did; `records`: how many of the log the old tables had not read."""

    facts: int
    records: int
    seconds: float
    pause_seconds: float
    tries: int
    errors: dict[str, str]

    def sentence(self) -> str:
        """What was done, in two lines."""
        return (
            f"The tables of before the replay are live again; they read {self.records} records first, in "
            f"{self.seconds:.1f} s. Folding stood still for {self.pause_seconds:.3f} s.\n"
            "What was live is the old pair now: `heed replay --back` returns to it, `heed replay --drop-old` "
            "drops it."
        )

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def back(chosen: settings.Settings, *, quiet: bool = False) -> Done:
    """Return to the old tables; the live ones become the old ones. Prints progress unless `quiet`."""
    console = rich.console.Console(stderr=True, quiet=quiet)
    try:
        with (
            replay_signals.Signals() as signals,
            following.Pair(chosen.postgres, chosen.homes, pairs.OLD) as old,
            database.connect(chosen.postgres, "heed_ops", following.NAME, statement_seconds=0) as live,
        ):
            done = _back(chosen, console, signals, old, live)
    except KeyboardInterrupt:
        raise errors.Usage(
            "The return was stopped; the live tables stay as they are. `heed replay --back` goes on with it."
        ) from None
    except psycopg.Error as error:
        if not database.is_away(error):
            raise
        raise errors.Away(
            f"PostgreSQL ended the return ({type(error).__name__}); `heed replay --back` goes on with it."
        ) from error
    if not quiet:
        replay.tell_errors(done.errors)
    return done


def _back(
    chosen: settings.Settings,
    console: rich.console.Console,
    signals: replay_signals.Signals,
    old: following.Pair,
    live: psycopg.Connection,
) -> Done:
    began = time.monotonic()
    if pairs.find(live, pairs.OLD) is None:
        raise errors.Usage("There are no old tables to return to.")
    swap.check_revision(live, pairs.OLD)
    old.claim()
    first = old.read_to()
    kafka = broker.of(chosen)
    replay_log.check(kafka, swap.read_up_to(live), first)
    old.number_apart()
    with (
        replay_follow.progress(console) as progress,
        replay_log.Source(kafka, chosen.homes, first) as source,
    ):
        follower = replay_follow.Follower(chosen, signals, live, old, source, progress)
        follower.follow()
        facts = follower.count(_fewer)
        failed = old.failed()
        swapped = follower.put_in_place()
    return Done(
        facts,
        sum(old.read_to().values()) - sum(first.values()),
        round(time.monotonic() - began, 3),
        round(swapped.pause_seconds, 3),
        swapped.tries,
        failed,
    )


def _fewer(topic: str, there: int, table: str, known: int) -> str:
    return (
        f"the old table `{table}` holds {there} facts, the live one {known}, though both have read `{topic}` "
        "up to the same place. Nothing was swapped. Drop the old ones (`heed replay --drop-old`); replay."
    )


def drop_old(chosen: settings.Settings) -> int:
    """Drop the old tables; answers how many bytes they took."""
    return _drop(chosen, pairs.OLD)


def cancel(chosen: settings.Settings) -> int:
    """End a replay that runs and drop what it built, or what a stopped one left; answers the bytes freed."""
    with database.connect(chosen.postgres, "heed_ops", following.NAME) as connection:
        replay_lock.end_holder(connection)
    return _drop(chosen, pairs.NEXT)


def _drop(chosen: settings.Settings, names: sql.Pair) -> int:
    with _alone(chosen) as connection:
        found = pairs.find(connection, names)
        pairs.drop(connection, names)
        return found.size if found else 0


@contextmanager
def _alone(chosen: settings.Settings) -> Iterator[psycopg.Connection]:
    """A connection, while no replay runs."""
    with database.connect(chosen.postgres, "heed_ops", following.NAME, statement_seconds=0) as connection:
        replay_lock.take(connection)
        yield connection
