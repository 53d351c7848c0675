"""Which tests show which capability, and how they last went.

A test says so with `@pytest.mark.capability("CEE-3")`. Every run notes the results of such tests in pytest's
cache; `make capabilities` (`pytest --capabilities`) collects, runs nothing and prints id, tests, last result.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime

import pytest

_CACHE = "heed/capabilities"
NOT_RUN = {"result": "not run", "at": ""}


def add_option(parser: pytest.Parser) -> None:
    parser.addoption(
        "--capabilities", action="store_true", help="print each capability, its tests and their last results"
    )


class Recorder:
    """The plugin: notes results while tests run, or prints the table instead of running them."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._shown: dict[str, list[str]] = defaultdict(list)
        self._results: dict[str, dict[str, str]] = {}

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        for item in session.items:
            for mark in item.iter_markers("capability"):
                for capability in mark.args:
                    self._shown[capability].append(item.nodeid)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        return True if session.config.getoption("--capabilities") else None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            at = datetime.now(UTC).strftime("%Y-%m-%d %H:%M")
            self._results[report.nodeid] = {"result": report.outcome, "at": at}

    def pytest_sessionfinish(self) -> None:
        if self._results and self._config.pluginmanager.hasplugin("cacheprovider"):
            self._config.cache.set(_CACHE, self._last_results() | self._results)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self._config.getoption("--capabilities"):
            return
        last = self._last_results()
        for capability in sorted(self._shown, key=_by_number):
            terminalreporter.write_line(capability)
            cases: dict[str, list[dict[str, str]]] = defaultdict(list)
            for nodeid in self._shown[capability]:
                cases[nodeid.partition("[")[0]].append(last.get(nodeid, NOT_RUN))
            for test, results in cases.items():
                terminalreporter.write_line(f"  {_summary(results):<38}{test}")

    def _last_results(self) -> dict[str, dict[str, str]]:
        kept = self._config.pluginmanager.hasplugin("cacheprovider")
        return dict(self._config.cache.get(_CACHE, {})) if kept else {}


def _summary(results: list[dict[str, str]]) -> str:
    """The worst result of a test's cases, how many share it, and when the last of these was."""
    worst = next(each for each in ("failed", "not run", "skipped", "passed") if each in _kinds(results))
    same = [told["at"] for told in results if told["result"] == worst]
    count = f" {len(same)} of {len(results)}" if len(results) > 1 else ""
    return f"{worst}{count} {max(same)}".strip()


def _kinds(results: list[dict[str, str]]) -> set[str]:
    return {told["result"] for told in results}


def _by_number(capability: str) -> tuple[str, int, str]:
    family, _, number = capability.partition("-")
    return family, int(number) if number.isdigit() else 0, capability
