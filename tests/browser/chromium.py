"""A real browser for tests: Debian's Chromium, without a window, driven by Playwright.

Promises: the one that is installed, else Debian's package, fetched once into the cache; where neither can be
had, the test that asks is skipped and says why. It ends with the `with` block, and asks nothing of any other
host.
Limits: Playwright's loop runs in this thread while a browser is open, so no test of the same module may be
`async`.
Called by the tests of this folder.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from deploy import debian, kafka
from schemas import errors

INSTALLED = (Path("/usr/lib/chromium/chromium"), Path("/usr/bin/chromium"))
PROGRAM = "usr/lib/chromium/chromium"
RESOURCES = "usr/lib/chromium/icudtl.dat"
FONT = "usr/share/fonts/truetype/dejavu/DejaVuSans.ttf"
# Of ours are the pages alone: nothing is looked for, reported or brought up to date.
ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip
_FONTS = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <dir>/usr/share/fonts</dir><dir>{folder}/usr/share/fonts</dir><cachedir>{folder}/fontconfig</cachedir>
</fontconfig>
"""


@contextmanager
def running() -> Iterator[Browser]:
    """A browser; skips the test where there is none to be had."""
    program, env = _require()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(ARGUMENTS), env=env)
        try:
            yield browser
        finally:
            browser.close()


def _require() -> tuple[Path, dict[str, str | float | bool]]:
    found = _found()
    if isinstance(found, str):
        pytest.skip(found)
    return found


@functools.cache
def _found() -> tuple[Path, dict[str, str | float | bool]] | str:
    """The program and its environment; or why there is none."""
    env: dict[str, str | float | bool] = dict(os.environ)
    for one in INSTALLED:
        if one.is_file():
            return one, env
    try:
        folder = debian.unpacked(
            "chromium", [PROGRAM, RESOURCES, FONT], kafka.default_cache() / "chromium", lambda _: None,
            "install chromium.", libraries=True, beside=("chromium-common", "fonts-dejavu-core"),
        )  # fmt: skip
    except errors.Away as away:
        return str(away)
    fonts = folder / "fonts.conf"
    fonts.write_text(_FONTS.format(folder=folder))
    libraries = {str(one.parent) for one in (folder / "usr/lib").glob("*-linux-gnu/**/*.so*")}
    named = os.pathsep.join(sorted(libraries | {str(folder / "usr/lib")}))
    return folder / PROGRAM, env | {"LD_LIBRARY_PATH": named, "FONTCONFIG_FILE": str(fonts)}
