"""Workers join and leave under load: exact, and one owner per home at every moment."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import psycopg
import pytest

from tests import cluster as clusters
from tests import traffic
from tests.laws import generator


@pytest.mark.slow
@pytest.mark.capability("LAW-4")
def test_one_joins_and_one_leaves_under_load(cluster: clusters.Cluster) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    sent = generator.seeded(41, 9_000, 600, now).sent
    with _Epochs(cluster.dsn) as epochs, traffic.Traffic(cluster.bootstrap, sent, 600) as load:
        cluster.wait_row_count(50)
        cluster.add("worker-4")
        joined = cluster.wait_shared()
        assert load.count < len(sent), "the load has to last longer than the rebalances"
        left = cluster.workers["worker-2"].terminate()
        gone = cluster.wait_shared("worker-1", "worker-3", "worker-4")
        load.finish()
    assert left == 0, cluster.workers["worker-2"].last_line
    assert max(joined, gone) < clusters.patience(10.0)
    cluster.settle()
    cluster.assert_alive("worker-1", "worker-3", "worker-4")
    assert cluster.check() > 500
    assert epochs.wrong == []


class _Epochs:
    """Looks at the positions all the time: an epoch has one owner, and never runs back."""

    def __init__(self, dsn: str) -> None:
        self.wrong: list[str] = []
        self._seen: dict[tuple[str, int, int], str] = {}
        self._latest: dict[tuple[str, int], int] = {}
        self._dsn = dsn
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="epochs")

    def __enter__(self) -> _Epochs:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            while not self._stopping.wait(0.02):
                found = connection.execute(
                    "select topic, part, epoch, owner from heed_data.position where reader = 'fold'"
                )
                for topic, part, epoch, owner in found.fetchall():
                    self._note(topic, part, epoch, owner)

    def _note(self, topic: str, part: int, epoch: int, owner: str) -> None:
        if self._seen.setdefault((topic, part, epoch), owner) != owner:
            self.wrong.append(f"{topic} {part}: epoch {epoch} has two owners")
        if epoch < self._latest.get((topic, part), 0):
            self.wrong.append(f"{topic} {part}: the epoch ran back to {epoch}")
        self._latest[topic, part] = epoch
