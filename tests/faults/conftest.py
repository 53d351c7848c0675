"""Servers that die, and workers on them.

`mortal` servers live for the session like the ones of other tests, but may be killed, stopped and emptied;
each test finds them up again. `cluster` is three workers of a test alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from schemas.topics import all_topics
from tests import cluster as clusters
from tests import stack


@pytest.fixture(scope="session")
def mortals() -> Iterator[stack.Servers]:
    with stack.running_servers() as running:
        yield running


@pytest.fixture
def mortal(mortals: stack.Servers) -> stack.Servers:
    """Servers that are up, with new topics, to be killed at will."""
    for server in (mortals.kafka, mortals.postgres):
        if server.process is None or server.process.poll() is not None:
            server.start()
        server.wait()  # it may still be recovering from what the test before did to it
    stack.recreate_topics(mortals.bootstrap, all_topics(stack.HOMES))
    return mortals


@pytest.fixture
def fresh(mortal: stack.Servers) -> str:
    """A new database on them; it goes with the servers."""
    return mortal.make_database()


@pytest.fixture
def workers(
    mortal: stack.Servers, fresh: str, launch: stack.Launcher, tmp_path: Path
) -> Iterator[Callable[..., clusters.Cluster]]:
    """Makes a cluster with the settings given."""
    made: list[clusters.Cluster] = []

    def make(*names: str, **env: str) -> clusters.Cluster:
        made.append(clusters.Cluster(launch, mortal.bootstrap, fresh, tmp_path, **env))
        return made[-1].start(*names)

    yield make
    for one in made:
        one.tell()
        one.close()


@pytest.fixture
def cluster(workers: Callable[..., clusters.Cluster]) -> clusters.Cluster:
    """Three workers that share all homes."""
    return workers(*clusters.THREE)
