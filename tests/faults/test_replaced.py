"""Kafka's data is not what was read: workers stop and say so, instead of skipping in silence."""

from __future__ import annotations

import shutil
import time

import pytest

from schemas import topics
from schemas.topics import all_topics
from tests import cluster as clusters
from tests import stack, traffic


@pytest.mark.capability("LAW-4")
def test_the_data_directory_is_replaced_under_a_living_database(
    cluster: clusters.Cluster, mortal: stack.Servers
) -> None:
    _fold(cluster, 200)
    mortal.kafka.kill()
    shutil.rmtree(mortal.kafka.home / "data")
    mortal.kafka.start()
    mortal.kafka.wait()
    stack.recreate_topics(mortal.bootstrap, all_topics(stack.HOMES))
    for name in clusters.THREE:
        _end_with_the_reason(cluster, name)
    again = cluster.add("worker-1")
    assert again.exit(60) == 3, "a supervisor's new start finds the same"
    assert _says_why(again.last_line), again.last_line
    facts = cluster.sql("select count(*) as n from heed_data.fact")
    assert facts[0]["n"] == 200


@pytest.mark.capability("LAW-4")
def test_a_topic_is_deleted_and_made_anew_with_as_many_records(cluster: clusters.Cluster) -> None:
    """Offsets alone would not tell: the same number of other records stands there."""
    _fold(cluster, 200)
    for name in clusters.THREE:
        assert cluster.workers[name].terminate() == 0
    stack.recreate_topics(
        cluster.bootstrap, tuple(one for one in all_topics(stack.HOMES) if one.name == topics.FACTS)
    )
    others = [(topics.FACTS, traffic.click(f"other{number}")) for number in range(4_000)]
    traffic.send_all(cluster.bootstrap, others)
    found = cluster.add("worker-1")
    assert found.exit(60) == 3
    assert "Replaced" in found.last_line
    assert "facts" in found.last_line


@pytest.mark.capability("LAW-4")
def test_a_topic_that_goes_while_workers_run(cluster: clusters.Cluster) -> None:
    _fold(cluster, 200)
    stack.recreate_topics(
        cluster.bootstrap, tuple(one for one in all_topics(stack.HOMES) if one.name == topics.FACTS)
    )
    for name in clusters.THREE:
        _end_with_the_reason(cluster, name)


@pytest.mark.capability("LAW-4")
@pytest.mark.parametrize("back", [True, False], ids=["for a while", "for good"])
def test_a_topic_is_gone_long_enough_for_its_homes_to_be_shared_out_without_it(
    cluster: clusters.Cluster, back: bool
) -> None:
    """A group shares out what its leader knows of: a topic away in that moment is nobody's, in silence."""
    _fold(cluster, 200)
    facts = tuple(one for one in all_topics(stack.HOMES) if one.name == topics.FACTS)
    stack.delete_topics(cluster.bootstrap, facts)
    time.sleep(3)
    if back:
        stack.recreate_topics(cluster.bootstrap, facts)
    for name in clusters.THREE:
        _end_with_the_reason(cluster, name)


def _fold(cluster: clusters.Cluster, count: int) -> None:
    sent = [(topics.EMAIL_ACTIVITY, traffic.click(f"c{number}")) for number in range(count)]
    traffic.send_all(cluster.bootstrap, sent)
    cluster.settle()


def _end_with_the_reason(cluster: clusters.Cluster, name: str) -> None:
    """Exit 3 with the reason as last line; one fenced before that learns it at its next start."""
    process = cluster.workers[name]
    stack.eventually(lambda: not process.alive, f"{name} stops", 90, 0.1)
    assert process.exit() == 3
    if "Fenced" in process.last_line:
        process = cluster.add(name)
        assert process.exit(90) == 3
    assert _says_why(process.last_line), process.last_line


def _says_why(line: str) -> bool:
    """The sentence names the trouble: what was replaced, truncated, lost or is missing."""
    return any(word in line for word in ("Replaced", "Lost", "Gap", "is missing", "is gone"))
