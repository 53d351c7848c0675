"""The rows of a next pair: every contact brought to one instant, in sets, over several connections at once.

Promises: contacts are taken in their order, a chunk to each connection; how far that is, is recorded once
all of them have committed, so a replay that was killed makes at worst the same rows again. Contacts that
cannot be computed get a nudge with their error.
Limits: no two connections have the same contact; an interrupt ends the statements under way.
Called by: `projections.next_pair`, `projections.following`.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Final

import psycopg

from projections import engagement, halving, nudges, shadow
from schemas import topics

CHUNK: Final = 5000

Chunk = list[tuple[str, int]]  # contacts with their homes


def bring(
    connect: Callable[[], psycopg.Connection], homes: int, at: datetime, after: str, jobs: int
) -> Iterator[tuple[str, int]]:
    """Make the rows behind the subject `after`; yields, for each round, its last subject and how many
    contacts it had."""
    with contextlib.ExitStack() as stack:
        hands = [stack.enter_context(contextlib.closing(connect())) for _ in range(jobs)]
        pool = stack.enter_context(concurrent.futures.ThreadPoolExecutor(jobs))
        try:
            while chunks := _chunks(hands[0], homes, after, jobs):
                asked = [pool.submit(_bring, *pair, at) for pair in zip(hands, chunks, strict=False)]
                for one in asked:
                    one.result()
                after = f"contact:{chunks[-1][-1][0]}"
                yield after, sum(map(len, chunks))
        except BaseException:
            for hand in hands:
                hand.cancel_safe()
            raise


def _chunks(connection: psycopg.Connection, homes: int, after: str, jobs: int) -> list[Chunk]:
    chunks: list[Chunk] = []
    while len(chunks) < jobs:
        found = connection.execute(shadow.SUBJECTS, {"after": after, "most": CHUNK}).fetchall()
        if not found:
            break
        after = found[-1][0]
        chunks.append([(subject[8:], topics.home(subject, homes)) for (subject,) in found])
    return chunks


def _bring(connection: psycopg.Connection, asked: Chunk, at: datetime) -> None:
    with connection.transaction():
        brought = halving.halve(connection, asked, lambda some: engagement.bring(connection, some, at))
        for (contact, home), error in brought.failed:
            nudges.keep_error(connection, home, f"contact:{contact}", halving.told(error), 0, at)
