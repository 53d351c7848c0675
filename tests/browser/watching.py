"""Pages that are watched while a test uses them.

Promises: with the test ends every page it opened; a message of the browser's console that is a warning or an
error, a script that fails, a violation of the content security policy, and a request to any other host than
the first fails it.
Called by the fixtures of this folder.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request

# That a page is an error is what several tests are about; the browser says so of each.
_STATUS = "Failed to load resource: the server responded with a status of 4"


class Visit:
    """What one test does in the browser."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._contexts: list[BrowserContext] = []
        self.wrong: list[str] = []
        self.hosts: set[str] = set()

    def page(self, **options: Any) -> Page:
        """A page of a new profile; `options` are those of a context, as `color_scheme`."""
        context = self._browser.new_context(**{"viewport": {"width": 1200, "height": 800}, **options})
        self._contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on("console", self._told)
        page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        page.on("dialog", lambda dialog: self.wrong.append(f"dialog: {dialog.message}"))
        page.on("request", self._asked)
        return page

    def close(self) -> None:
        """Ends the pages; raises AssertionError for what went wrong in any of them."""
        for context in self._contexts:
            context.close()
        assert not self.wrong, self.wrong
        assert len(self.hosts) <= 1, self.hosts

    def _told(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not message.text.startswith(_STATUS):
            self.wrong.append(f"{message.type}: {message.text}")

    def _asked(self, request: Request) -> None:
        self.hosts.add(urlsplit(request.url).netloc)
