"""Homes agree with Kafka's own partitioner; topics are what names.md says."""

from __future__ import annotations

import pytest
from aiokafka import partitioner
from hypothesis import given
from hypothesis import strategies as st

from schemas import topics

# From Kafka's own tests: org.apache.kafka.common.utils.UtilsTest.
JAVA = {
    "21": -973932308,
    "foobar": -790332482,
    "a-little-bit-long-string": -985981536,
    "a-little-bit-longer-string": -1486304829,
    "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    "abc": 479470107,
}


@pytest.mark.parametrize("key", JAVA)
def test_murmur2_is_the_one_of_kafka_java(key: str) -> None:
    assert topics.murmur2(key.encode()) == JAVA[key] % 2**32


@given(st.binary(max_size=300))
def test_murmur2_agrees_with_another_client(key: bytes) -> None:
    assert topics.murmur2(key) == partitioner.murmur2(key) % 2**32


@given(st.text(st.characters(exclude_categories=["Cs"])), st.integers(1, 64))
def test_home_is_the_partition_of_the_default_partitioner(subject: str, homes: int) -> None:
    partitions = list(range(homes))
    assert topics.home(subject, homes) == partitioner.DefaultPartitioner()(
        subject.encode(), partitions, partitions
    )


def test_topics_are_those_of_the_names() -> None:
    wanted = {topic.name: topic for topic in topics.all_topics(32)}
    assert set(wanted) == {
        "email-activity",
        "custom-events",
        "contact-identity",
        "facts",
        "registry",
        "keys",
        "commands",
    }
    assert {name for name, topic in wanted.items() if topic.partitions == 1} == {"registry", "keys"}
    assert {topic.partitions for topic in wanted.values()} == {1, 32}
    keys = wanted.pop("keys").config
    assert keys["cleanup.policy"] == "compact"
    assert int(keys["max.compaction.lag.ms"]) == 86_400_000
    assert keys["message.timestamp.type"] == "LogAppendTime"
    days = {name: int(topic.config["retention.ms"]) / 86_400_000 for name, topic in wanted.items()}
    assert days["email-activity"] == days["contact-identity"] == 14
    assert days["commands"] == 7
    for name in ("facts", "registry"):
        assert wanted[name].config["retention.ms"] == wanted[name].config["retention.bytes"] == "-1"
    for topic in wanted.values():
        assert topic.config["message.timestamp.type"] == "LogAppendTime"
        assert topic.config["cleanup.policy"] == "delete"
        assert topic.config["max.message.bytes"] == str(2 * 1024 * 1024)
