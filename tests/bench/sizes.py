"""How much a bench does: tiny shows that everything runs, small is the default, full is what is quoted.

Limits: figures of a tiny run say nothing, those of a small one little. A full one wants a quiet machine of
two cores, 24 GiB and 40 GB of disk for some two hours.
Called by `tests.bench.__main__` and the rungs.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(slots=True)
class Sizes:
    """Counts and seconds of every rung."""

    facts: int  # there before
    events: int  # of the fast contenders; the warm ones get as many again to warm up
    repeats: int
    seconds: int  # of every delay run, and of each side of the checkpoint
    waiting: tuple[int, ...]  # rows that wait for their time
    due: int  # rows that fall due
    within: int  # seconds in which they do
    replayed: int  # facts in the log of a replay
    homes_rate: int  # events a second to every home during handovers


TINY = Sizes(4_000, 2_000, 1, 1, (1_000,), 200, 2, 2_000, 10)
SMALL = Sizes(200_000, 80_000, 1, 5, (10_000, 100_000), 2_000, 10, 40_000, 20)
FULL = Sizes(20_000_000, 400_000, 3, 20, (10_000, 1_000_000, 10_000_000), 100_000, 60, 1_000_000, 25)
NAMED = {"tiny": TINY, "small": SMALL, "full": FULL}
