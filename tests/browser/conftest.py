"""A browser for the tests of one file, and pages that fail the test when anything goes wrong in them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.browser import chromium, watching


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium."""
    with chromium.running() as found:
        yield found


@pytest.fixture
def visit(browser: Browser) -> Iterator[watching.Visit]:
    """Opens pages; closed, and held to account, with the test."""
    made = watching.Visit(browser)
    yield made
    made.close()
