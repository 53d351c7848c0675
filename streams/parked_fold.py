"""Parked records of the log in a lane: the flag that says some wait, and the counting of what became of them.

Promises: without the flag a lane's transactions cost nothing more; which records wait is asked of the
database, so a flag that is lost with a process loses nothing.
Called by: the lanes of the log; `streams.parked_loop` raises the flag.
"""

from __future__ import annotations

import psycopg

from projections import parked, parked_again
from schemas import metrics
from streams import claims


class Asked:
    """Whether parked records of a lane's partitions are to be folded again; one a lane."""

    def __init__(self) -> None:
        self.waits = False

    def ask(self) -> None:
        """There are some; from any thread."""
        self.waits = True

    def take(self, connection: psycopg.Connection | None, claim: claims.Claim) -> list[parked.Kept]:
        """Those that the next transaction folds, oldest first; none unless somebody asked."""
        if not self.waits or connection is None:
            return []
        self.waits = False
        kept = parked_again.take(connection, [(tp.topic, tp.partition) for tp in claim.held])
        self.waits = len(kept) == parked.AT_ONCE
        return kept


def count(again: parked_again.Again | None) -> None:
    """Count what became of them, once the transaction has committed."""
    if again is not None:
        metrics.REDRIVEN.labels(outcome="driven").inc(len(again.driven))
        metrics.REDRIVEN.labels(outcome="parked").inc(len(again.still))
