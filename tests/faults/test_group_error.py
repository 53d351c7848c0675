"""Kafka answers a join of the group with an error of its own: the worker joins again, by itself.

aiokafka hands such an error to whoever polls and waits until it was taken; Faust never takes it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from schemas import topics
from tests import cluster as clusters
from tests import traffic

# What a broker that is just being replaced answered once: an error that no client expects.
FAILING = """
import aiokafka.errors
from aiokafka.consumer import group_coordinator

_join, _left = group_coordinator.GroupCoordinator._do_rejoin_group, [{times}]


async def _fail_first(self, subscription):
    if _left[0]:
        _left[0] -= 1
        raise aiokafka.errors.KafkaError("UnknownError()")
    return await _join(self, subscription)


group_coordinator.GroupCoordinator._do_rejoin_group = _fail_first
"""


@pytest.mark.capability("LAW-4")
def test_a_join_that_is_answered_with_an_error_is_tried_again(
    workers: Callable[..., clusters.Cluster], tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(FAILING.format(times=2))
    cluster = workers("worker-1", PYTHONPATH=str(tmp_path))
    traffic.send_all(cluster.bootstrap, [(topics.EMAIL_ACTIVITY, traffic.click("after"))])
    cluster.wait_row("after")
    told = [line for line in cluster.workers["worker-1"].lines if "joining the group again" in line]
    assert len(told) == 2, told
    assert all("KafkaError: UnknownError()" in line for line in told)
