"""When errors of contacts are no longer single contacts.

Promises: over 1 % and at least 100 different ones of the last 10,000 contacts in error stop the process:
that is a bad deploy. A single contact never does, however often it is tried.
Called by: the fold lanes.
"""

from __future__ import annotations

import collections
from collections.abc import Collection

from schemas import errors


class TooManyErrors(errors.Doubt):
    """More than 1 % of the last 10,000 contacts could not be brought: a bad deploy, not a bad contact."""


class ErrorRate:
    """Counts contacts brought, and different contacts that failed, over a sliding window of contacts.

    One contact that fails again at every try is one contact in error, however often it is tried.
    """

    def __init__(self, window: int = 10_000, most: float = 0.01, least: int = 100) -> None:
        self.window, self.most, self.least = window, most, least
        self._seen: collections.deque[tuple[int, tuple[str, ...]]] = collections.deque()
        self._contacts = 0
        self._failed: collections.Counter[str] = collections.Counter()

    def add(self, contacts: int, failed: Collection[str]) -> None:
        """Count a transaction: how many contacts, and which of them failed; raises `TooManyErrors`."""
        if not contacts:
            return
        self._seen.append((contacts, tuple(failed)))
        self._contacts += contacts
        self._failed.update(failed)
        while self._contacts - self._seen[0][0] >= self.window:
            gone, gone_failed = self._seen.popleft()
            self._contacts -= gone
            for contact in gone_failed:
                self._failed[contact] -= 1
                if not self._failed[contact]:
                    del self._failed[contact]
        if len(self._failed) >= self.least and len(self._failed) > self.most * self._contacts:
            raise TooManyErrors
