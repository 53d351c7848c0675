"""Whether the topic `keys` has been read far enough for what is to be done.

Promises: a reader that asks does nothing before `keys` was read to where it ended at the reader's start. A
fact may only name a key that the topic has: its key was acknowledged before it. One that is not there once
`keys` has been read to its present end is `Missing`: doubt, and never taken for erased.
Limits: waits `SECONDS` for the reader of the topic, which may be another worker's; then `errors.Away`. Knows
up to `MOST` keys by heart.
Called by: the lanes of intake and of the fold, each with one of its own.
"""

from __future__ import annotations

import time
from typing import Final

import psycopg
from faust.types import TP

from projections import data_keys
from schemas import errors
from streams import log

KEYS: Final = TP(*data_keys.TP)
SECONDS: Final = 5.0
SOON_SECONDS: Final = 0.5  # within which the reader of the topic has a key that was just made
PAUSE: Final = 0.005
MOST: Final = 50_000


class Missing(errors.Doubt):
    """A fact names a key that the topic keys does not have: that was truncated or replaced."""


class KeyWatch:
    """One lane's view of the topic `keys`."""

    def __init__(self, inspector: log.Inspector) -> None:
        self._inspector = inspector
        self._begun = False
        self._known: set[str] = set()

    def begin(self, connection: psycopg.Connection) -> None:
        """Wait, the first time, until `keys` is read to its end; raises `errors.Away`."""
        if not self._begun:
            self._wait(connection)
            self._begun = True

    def demand(self, connection: psycopg.Connection, kids: set[str]) -> None:
        """Every one of these keys is there, or was destroyed; raises `Missing`, `errors.Away`."""
        new = kids - self._known
        if not new:
            return
        until = time.monotonic() + SOON_SECONDS
        while (missing := data_keys.missing(connection, new)) and time.monotonic() < until:
            time.sleep(PAUSE)
        if missing:
            self._wait(connection)
            missing = data_keys.missing(connection, missing)
        if missing:
            raise Missing(
                f"Facts name {len(missing)} keys that the topic keys does not have: it was truncated, "
                "replaced or written to. Restore it, then start again."
            )
        if len(self._known) + len(new) > MOST:
            self._known.clear()
        self._known |= new

    def _wait(self, connection: psycopg.Connection) -> None:
        """Until `keys` has been read to where it ends now."""
        end = self._inspector.ends([KEYS])[KEYS].end
        until = time.monotonic() + SECONDS
        while data_keys.read_to(connection) < end:
            if time.monotonic() > until:
                raise errors.Away("the topic keys is read first, and that is under way")
            time.sleep(PAUSE)
