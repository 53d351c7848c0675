"""Who is to blame, found by halving: what PostgreSQL refuses of many is done in halves, down to single ones.

Promises: everything else is done; a single one that is refused is named with its error and stops no other.
When one that runs into the connection's statement_timeout (F) is looked for too, it is found within 4 F: a
half may take half the time of its whole, F/16 at least, a single one F again. After 4 F what was not tried is
handed back as left, so that a slow server cannot make one transaction last; every call settles at least one.
Limits: inside the caller's transaction; each piece has a savepoint. The server's other troubles go up.
Called by: `projections.fold`, `projections.facts`, `projections.shadow`.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

import psycopg

from projections import database

T = TypeVar("T")
R = TypeVar("R")

TIMEOUT: Final = "select setting::int from pg_settings where name = 'statement_timeout'"
LIMIT: Final = "select set_config('statement_timeout', %s, true)"
SHORTEST: Final = 16  # the part of F that a piece of several has at least
PATIENCE: Final = 4  # how many F one call may last


@dataclasses.dataclass(slots=True)
class Halved(Generic[T, R]):
    """What came of it: the answers of what was done, who failed and why, and who is left to a later try."""

    answers: list[R] = dataclasses.field(default_factory=list)
    failed: list[tuple[T, psycopg.Error]] = dataclasses.field(default_factory=list)
    left: list[T] = dataclasses.field(default_factory=list)


def halve(
    connection: psycopg.Connection,
    items: Sequence[T],
    do: Callable[[Sequence[T]], R],
    *,
    slow: bool = False,
    undo: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> Halved[T, R]:
    """Do it for all of them, or for as many as it can be done for.

    `slow`: who runs into the timeout is looked for too. `undo` takes every piece back: a trial. Raises
    psycopg.Error when the server is away.
    """
    found: Halved[T, R] = Halved()
    began, whole, limit = clock(), 0, 0  # ms; 0 until a piece has run into the timeout
    waiting = [(items, 0)] if items else []
    while waiting:
        if whole and (found.answers or found.failed) and (clock() - began) * 1000 > PATIENCE * whole:
            found.left = [one for piece, _ in reversed(waiting) for one in piece]
            break
        piece, most = waiting.pop()
        most = most or whole
        if most != limit:
            connection.execute(LIMIT, (str(most),))
            limit = most
        try:
            with connection.transaction(force_rollback=undo):
                answer = do(piece)
            found.answers.append(answer)
            continue
        except psycopg.Error as error:
            ran_out = slow and isinstance(error, psycopg.errors.QueryCanceled)
            if database.is_away(error) and not ran_out:
                raise
            if len(piece) == 1:
                found.failed.append((piece[0], error))
                continue
        if ran_out and not whole:
            [(whole,)] = connection.execute(TIMEOUT).fetchall()
            most = limit = whole
        middle = len(piece) // 2
        least = max(most // 2, whole // SHORTEST)
        halves = (piece[middle:], piece[:middle])
        waiting += [(half, whole if len(half) == 1 else least) for half in halves]
    if limit != whole:
        connection.execute(LIMIT, (str(whole),))
    return found


def told(error: psycopg.Error) -> str:
    """An error as it is kept and shown: what PostgreSQL says, not what it was asked."""
    return f"{type(error).__name__}: {error.diag.message_primary}"
