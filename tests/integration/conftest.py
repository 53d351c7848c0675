"""Three workers for the tests of one file, on a database and topics of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.processes import free_ports
from schemas.topics import all_topics
from tests import cluster as clusters
from tests import stack


@pytest.fixture(scope="module")
def cluster(
    servers: stack.Servers, module_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[clusters.Cluster]:
    """Three workers that share all homes."""
    stack.recreate_topics(servers.bootstrap, all_topics(stack.HOMES))
    home: Path = tmp_path_factory.mktemp("home")
    with (
        stack.Launcher() as launch,
        contextlib.closing(clusters.Cluster(launch, servers.bootstrap, module_database, home)) as made,
    ):
        yield made.start(*clusters.THREE)


@pytest.fixture(scope="module")
def url(cluster: clusters.Cluster) -> str:
    """The address of an API beside the workers."""
    [port] = free_ports(1)
    cluster.launch.api(cluster.bootstrap, cluster.dsn, port, **cluster.env).wait_for("listening", 60)
    return f"http://127.0.0.1:{port}"
