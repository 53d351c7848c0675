"""PostgreSQL is put back from a backup that was made before a contact was erased: it stays erased (LAW-6)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests import cluster as clusters
from tests import readable, stack
from tests.faults import test_backup_keys
from tests.integration import test_cli, test_forgotten

PATHS = tuple(f"/v1/contacts/gone{path}" for path in test_forgotten.PATHS)


@pytest.fixture
def cluster(topics: str, database: str, launch: stack.Launcher, tmp_path: Path) -> Iterator[clusters.Cluster]:
    """One worker, on a database that others may take the place of."""
    made = clusters.Cluster(launch, topics, database, tmp_path)
    yield made.start("worker-1")
    made.tell()
    made.close()


@pytest.mark.slow
@pytest.mark.capability("LAW-6")
def test_an_erased_contact_stays_erased(
    servers: stack.Servers, cluster: clusters.Cluster, database: str, tmp_path: Path
) -> None:
    """Nobody is served from before it, neither by an API that has seen the erasure nor by one that starts."""
    seen = test_backup_keys.api(cluster)
    stays = test_forgotten.Words()
    assert set(test_forgotten.post(seen, stays.facts("contact:stays"))) == {"accepted"}
    words = test_forgotten.tell(cluster, seen)
    gone = words.sealed | words.parked
    dump = tmp_path / "dump"
    test_backup_keys.program("pg_dump", "-d", database, "-Fc", "-f", str(dump))
    done = test_cli.heed(cluster, "erase", "gone", "--yes", "--why", "She asked for it.")
    assert done.returncode == 0, done.stdout + done.stderr
    test_forgotten.wait_gone(cluster)

    assert cluster.workers["worker-1"].terminate() == 0
    cluster.close()
    test_backup_keys.put_back(servers, database, dump)
    assert any(test_forgotten.counted(cluster).values()), "by the database alone it is there again"
    fresh = test_backup_keys.api(cluster)
    answered: Counter[str] = Counter()

    def look() -> bool:
        for url in (seen, fresh):
            for path in (*PATHS, *test_forgotten.LISTS, *parked_of(cluster)):
                told = httpx.get(url + path, timeout=30)
                assert not readable.where(gone, {path: told.content}), path
                if path in PATHS:
                    assert told.status_code in (410, 503), (path, told.text)
                    answered[url] += told.status_code == 503
        return min(answered[url] for url in (seen, fresh)) > 20

    stack.eventually(look, "each was asked many times", clusters.patience(60), 0.1)
    export = test_cli.heed(cluster, "export", "gone")
    assert (export.returncode, export.stdout) == (69, ""), export.stderr
    cluster.start("worker-1")
    while any(test_forgotten.counted(cluster).values()):
        look()
    test_forgotten.wait_gone(cluster)
    for url in (seen, fresh):
        test_forgotten.see_nothing(cluster, servers, url, words, stays)


def parked_of(cluster: clusters.Cluster) -> list[str]:
    """The addresses of parked records that say whose they are."""
    found = cluster.sql("select id from heed_ops.parked where subject is not null order by id limit 5")
    return [f"/v1/parked/{one['id']}" for one in found]
