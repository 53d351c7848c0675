"""A contact with 100,000 facts that is hit 500 times a second holds up nobody."""

from __future__ import annotations

import threading
import time
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from schemas import topics
from tests import cluster as clusters
from tests import traffic

HOT = "hot"
FACTS = 100_000
SECONDS = 20
RATE = 500
OTHERS = 50


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.capability("CEE-1")
def test_a_hot_contact_holds_up_nobody(cluster: clusters.Cluster) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    history = (
        traffic.click(HOT, mailing=f"m{number % 5_000}", time=now - timedelta(minutes=number))
        for number in range(FACTS)
    )
    traffic.send_all(cluster.bootstrap, ((topics.EMAIL_ACTIVITY, raw) for raw in history))
    cluster.settle(180)
    delays: list[float] = []
    with _Hits(cluster.bootstrap) as hits:
        began = time.monotonic()
        for number in range(OTHERS):
            contact = f"other-{uuid.uuid4().hex[:8]}"
            traffic.send_all(cluster.bootstrap, [(topics.EMAIL_ACTIVITY, traffic.click(contact))])
            delays.append(cluster.wait_row(contact, 1, 60))
            while time.monotonic() - began < number * SECONDS / OTHERS:
                time.sleep(0.01)
    delays.sort()
    told = [f"{name} {seconds * 1000:.0f} ms" for name, seconds in _summary(delays).items()]
    print(
        f"others' delay while one contact is hit {RATE} times a second ({hits.count} hits): {', '.join(told)}"
    )
    assert _summary(delays)["p95"] < clusters.patience(1.0)
    cluster.settle(180)
    cluster.assert_alive(*clusters.THREE)
    cluster.check()


def _summary(ordered: list[float]) -> dict[str, float]:
    return {"median": ordered[OTHERS // 2], "p95": ordered[OTHERS * 95 // 100], "most": ordered[-1]}


class _Hits:
    """Clicks of the hot contact, at a rate, from a thread."""

    def __init__(self, bootstrap: str) -> None:
        self.count = 0
        self._producer = traffic.plain_producer(bootstrap)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hits")

    def __enter__(self) -> _Hits:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()
        assert self._producer.flush(60) == 0

    def _run(self) -> None:
        began = time.monotonic()
        while not self._stopping.is_set():
            traffic.send(self._producer, topics.EMAIL_ACTIVITY, traffic.click(HOT, mailing=f"h{self.count}"))
            self.count += 1
            self._producer.poll(0)
            self._stopping.wait(max(0.0, began + self.count / RATE - time.monotonic()))
