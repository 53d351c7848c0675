"""Fixtures that every test may use: servers, a database, the topics, and processes to start.

`servers` lives for the session and is started by the first test that asks; `database` and `topics` are made
for each test; `launch` ends what it started. `make capabilities` is answered by `tests.capabilities`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from schemas.topics import all_topics
from tests import capabilities, halves, stack


def pytest_addoption(parser: pytest.Parser) -> None:
    capabilities.add_option(parser)


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(capabilities.Recorder(config), "heed-capabilities")
    if hasattr(config, "workerinput"):
        config.pluginmanager.register(halves.GivesWay(), "heed-halves")


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> halves.Halves:
    return halves.Halves(config, log)


@pytest.fixture(scope="session")
def servers() -> Iterator[stack.Servers]:
    """One real Kafka and one real PostgreSQL for the whole session."""
    with stack.running_servers() as running:
        yield running


@pytest.fixture
def own_servers() -> Iterator[stack.Servers]:
    """Servers for one test alone, which may kill them and put others in their place."""
    with stack.running_servers() as running:
        yield running


@pytest.fixture
def database(servers: stack.Servers) -> Iterator[str]:
    """The DSN of a fresh, migrated database."""
    dsn = servers.make_database()
    yield dsn
    servers.drop_database(dsn)


@pytest.fixture(scope="module")
def module_database(servers: stack.Servers) -> Iterator[str]:
    """The DSN of a fresh, migrated database that the tests of one file share."""
    dsn = servers.make_database()
    yield dsn
    servers.drop_database(dsn)


@pytest.fixture
def topics(servers: stack.Servers) -> str:
    """Heed's topics, new and empty; gives the broker's address."""
    stack.recreate_topics(servers.bootstrap, all_topics(stack.HOMES))
    return servers.bootstrap


@pytest.fixture
def launch() -> Iterator[stack.Launcher]:
    """Starts workers, APIs and other commands; ends them with the test."""
    with stack.Launcher() as launcher:
        yield launcher
