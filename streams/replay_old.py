"""The tables of before a replay: back to them, or away with them; and away with a replay that is not wanted.

Promises: `back` is a swap like that of a replay, with the same promises; the tables fold on from their own
positions, so a while later they hold every fact again. What is dropped is named by its size.
Limits: while no replay runs; `cancel` ends one first.
Called by: `heed replay --back`, `--drop-old`, `--cancel`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from projections import database, next_pair, pairs, replay_lock, swap
from projections.migrations import sql
from schemas import errors, settings
from streams import replay_signals


def back(chosen: settings.Settings) -> swap.Swapped:
    """Return to the old tables, which fold on from their own positions; the live ones become the old ones."""
    with replay_signals.Signals() as signals, _alone(chosen, pairs.OLD) as connection:
        if pairs.find(connection, pairs.OLD) is None:
            raise errors.Usage("There are no old tables to return to.")
        swap.check_revision(connection, pairs.OLD)
        swap.carry_due(connection)
        signals.held = True
        return swap.swap(chosen.postgres, pairs.OLD, lambda _: None, own_offsets=True, asked=signals.heed)


def drop_old(chosen: settings.Settings) -> int:
    """Drop the old tables; answers how many bytes they took."""
    return _drop(chosen, pairs.OLD)


def cancel(chosen: settings.Settings) -> int:
    """End a replay that runs and drop what it built, or what a stopped one left; answers the bytes freed."""
    with database.connect(chosen.postgres, "heed_ops", next_pair.NAME) as connection:
        replay_lock.end_holder(connection)
    return _drop(chosen, pairs.NEXT)


def _drop(chosen: settings.Settings, names: sql.Pair) -> int:
    with _alone(chosen, names) as connection:
        found = pairs.find(connection, names)
        pairs.drop(connection, names)
        return found.size if found else 0


@contextmanager
def _alone(chosen: settings.Settings, names: sql.Pair) -> Iterator[psycopg.Connection]:
    """A connection that works in this pair, while no replay runs."""
    path = f"{names.data}, heed_ops"
    with database.connect(chosen.postgres, path, next_pair.NAME, statement_seconds=0) as connection:
        replay_lock.take(connection)
        yield connection
