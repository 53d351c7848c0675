"""The tests in two halves, side by side: `pytest -n 2` (pytest-xdist) runs each in a process of its own.

Promises: tests that have workers, and with them times to keep, follow one another in one half. The other half
(unit, laws, contracts, pages, checks) gives way to them: it runs at a lower priority.
Limits: two processes; more find nothing to do.
Called by: `tests/conftest.py`.
"""

from __future__ import annotations

import os
from typing import Any

from xdist.scheduler import LoadScopeScheduling

WITH_WORKERS = ("tests/faults/", "tests/integration/", "tests/test_docs.py")
NICENESS = 5


class Halves(LoadScopeScheduling):  # type: ignore[misc]
    """Gives each process one half."""

    def _split_scope(self, nodeid: str) -> str:
        return "with workers" if has_workers(nodeid) else "without"


class GivesWay:
    """The plugin of a process of xdist's: lowers its priority at the first test without workers."""

    def __init__(self) -> None:
        self._nice = False

    def pytest_runtest_setup(self, item: Any) -> None:
        if not self._nice and not has_workers(item.nodeid):
            self._nice = True
            os.nice(NICENESS)


def has_workers(nodeid: str) -> bool:
    return nodeid.startswith(WITH_WORKERS)
