"""An error inside one contact: the others go on, no process dies, the nudge shows it, and it heals."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from schemas import topics
from tests import broken, stack, traffic
from tests import cluster as clusters

SECONDS = 6


@pytest.mark.capability("LAW-4")
def test_one_contact_that_raises_stops_nobody(cluster: clusters.Cluster) -> None:
    traffic.send_all(cluster.bootstrap, [(topics.EMAIL_ACTIVITY, traffic.click("first"))])
    cluster.settle()
    cluster.sql(broken.BREAK)
    slow = []
    for second in range(SECONDS):
        events = [
            traffic.click(broken.BAD, mailing=f"m{second}"),
            *(traffic.click(f"o{n}", mailing=f"m{second}") for n in range(20)),
        ]
        traffic.send_all(cluster.bootstrap, [(topics.EMAIL_ACTIVITY, raw) for raw in events])
        waited = max(cluster.wait_row(f"o{n}", second + 1) for n in range(20))
        slow += [waited] if waited > clusters.patience(1.0) else []
    assert slow == []
    cluster.assert_alive(*clusters.THREE)

    kept = _nudges(cluster)
    assert [(one["subject"], one["reason"]) for one in kept] == [(f"contact:{broken.BAD}", "error")]
    assert "DivisionByZero: this model divides by zero" in kept[0]["error"]
    assert kept[0]["attempts"] >= 2
    assert cluster.row(broken.BAD) is None
    facts = cluster.sql(
        "select count(*) as n from heed_data.fact where subject = %s", f"contact:{broken.BAD}"
    )
    assert facts[0]["n"] == SECONDS, "its facts are kept"
    _check_backoff(cluster, kept[0])

    cluster.sql(broken.MEND)
    cluster.sql("update heed_data.nudge set retry_at = clock_timestamp()")  # rather than to wait for minutes
    cluster.wait_row(broken.BAD, SECONDS)
    stack.eventually(lambda: not _nudges(cluster), "the nudge is gone")
    cluster.settle()
    cluster.check()


def _check_backoff(cluster: clusters.Cluster, kept: dict[str, Any]) -> None:
    """It is tried again later and later, while nobody tells of it."""

    def tried() -> bool:
        now = _nudges(cluster)
        return bool(now) and now[0]["attempts"] > kept["attempts"]

    waits: datetime = kept["retry_at"] - kept["created_at"]
    assert 2 ** (kept["attempts"] - 1) * 0.9 < waits.total_seconds() < 2 ** (kept["attempts"] - 1) * 1.1 + 1  # type: ignore[attr-defined]
    if kept["attempts"] <= 4:
        stack.eventually(tried, "it is tried again", 30)


def _nudges(cluster: clusters.Cluster) -> list[dict[str, Any]]:
    return cluster.sql("select * from heed_data.nudge where error is not null")
