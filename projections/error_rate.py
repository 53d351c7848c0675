"""When errors of contacts are no longer single contacts.

Promises: over 1 % and at least 100 of the last 10,000 contacts in error stop the process: that is a bad
deploy.
Called by: the fold lanes.
"""

from __future__ import annotations

import collections

from schemas import errors


class TooManyErrors(errors.Doubt):
    """More than 1 % of the last 10,000 contacts could not be brought: a bad deploy, not a bad contact."""


class ErrorRate:
    """Counts contacts brought and failed over a sliding window of contacts."""

    def __init__(self, window: int = 10_000, most: float = 0.01, least: int = 100) -> None:
        self.window, self.most, self.least = window, most, least
        self._seen: collections.deque[tuple[int, int]] = collections.deque()
        self._contacts = self._failed = 0

    def add(self, contacts: int, failed: int) -> None:
        """Count a transaction; raises `TooManyErrors`."""
        if not contacts:
            return
        self._seen.append((contacts, failed))
        self._contacts += contacts
        self._failed += failed
        while self._contacts - self._seen[0][0] >= self.window:
            gone, gone_failed = self._seen.popleft()
            self._contacts -= gone
            self._failed -= gone_failed
        if self._failed >= self.least and self._failed > self.most * self._contacts:
            raise TooManyErrors
