"""Fixtures of the law tests: one database a file, emptied for each test; a worker that owns every home."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.laws import registrar as registrars
from tests.laws import world


@pytest.fixture(scope="module")
def shared_observer(module_database: str) -> Iterator[world.Observer]:
    observer = world.Observer(module_database)
    yield observer
    observer.close()


@pytest.fixture
def observer(shared_observer: world.Observer) -> world.Observer:
    """Looks at tables that are empty, with the rules as the migrations leave them."""
    shared_observer.clear()
    return shared_observer


@pytest.fixture
def worker(module_database: str, observer: world.Observer) -> Iterator[world.Worker]:
    """Owns every home of a log of its own."""
    worker = world.Worker("w0", module_database, world.Log())
    worker.claim_all()
    yield worker
    worker.close()


@pytest.fixture
def registrar(module_database: str, observer: world.Observer) -> Iterator[registrars.Registrar]:
    made = registrars.Registrar(module_database)
    yield made
    made.connection.execute("delete from position where topic = 'registry'")
    made.connection.close()
