"""Ctrl-C and SIGTERM while a replay runs: the one cancels it, the other stops it.

Promises: both end what is under way, statements of the database too; while `held` they wait until they are
asked for, so that a swap is done or not done.
Limits: of the main thread.
Called by: `streams.replay_follow`, `streams.replay_swap`, `streams.replay_old`.
"""

from __future__ import annotations

import signal


class Stopped(KeyboardInterrupt):
    """Asked to stop: what was built stays."""


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
