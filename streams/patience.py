"""Waiting for a server that is away: longer each time, never for long.

Promises: from a tenth of a second to five, each time between half of that and the whole, so that many who
wait do not come back at once.
Called by: `streams.lanes`, `streams.claims`.
"""

from __future__ import annotations

import random
from typing import Final

FIRST: Final = 0.1  # seconds
LONGEST: Final = 5.0
SAID_EVERY: Final = 20


class Patience:
    """How often in a row a server was found away, and how long to wait for it now."""

    def __init__(self) -> None:
        self._waits = 0
        self.tries = 0  # in all

    def reset(self) -> None:
        """It answered."""
        self._waits = 0

    def says(self) -> bool:
        """Whether this time is one to tell of: the first in a row, and now and then."""
        return self._waits % SAID_EVERY == 0

    def delay(self) -> float:
        """It is away once more: the seconds until the next try."""
        delay: float = min(LONGEST, FIRST * 2 ** min(self._waits, 10))
        self._waits += 1
        self.tries += 1
        return delay * (0.5 + random.random() / 2)
