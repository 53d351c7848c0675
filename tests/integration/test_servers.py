"""The servers themselves: they keep data and port, mend what is broken, and say what is missing."""

from __future__ import annotations

import time
from pathlib import Path

import psycopg
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from deploy import kafka, postgres
from deploy.processes import free_ports
from schemas import errors
from schemas.topics import Topic, all_topics
from tests import stack

KEPT = Topic("kept", 1, {})


def test_kafka_keeps_data_and_port_over_kill_9_and_a_clean_stop(own_servers: stack.Servers) -> None:
    broker = own_servers.kafka
    stack.recreate_topics(broker.bootstrap, (KEPT,))
    address = broker.bootstrap
    for turn, end in enumerate((broker.kill, broker.stop)):
        _produce(address, f"before {turn}")
        end()
        assert not broker.answers()
        began = time.monotonic()
        broker.start()
        broker.wait()
        assert time.monotonic() - began < 20
        assert broker.bootstrap == address
    assert _consume(address, 2) == ["before 0", "before 1"]


def test_postgres_keeps_data_and_port_over_kill_9_and_a_clean_stop(own_servers: stack.Servers) -> None:
    server = own_servers.postgres
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute("create table kept (turn int)")
    for turn, end in enumerate((server.kill, server.stop)):
        # a session that is open keeps backends of the killed server busy for a moment
        open_session = psycopg.connect(server.dsn(), autocommit=True)
        open_session.execute("insert into kept values (%s)", [turn])
        end()
        server.start()
        server.wait()
        open_session.close()
    with psycopg.connect(server.dsn()) as connection:
        assert connection.execute("select turn from kept order by turn").fetchall() == [(0,), (1,)]


def test_postgres_is_set_as_heed_expects(servers: stack.Servers) -> None:
    with psycopg.connect(servers.postgres.dsn()) as connection:
        told = dict[str, str](
            connection.execute("select lower(name), current_setting(name) from pg_settings").fetchall()
        )
        is_superuser = connection.execute(
            "select rolsuper from pg_roles where rolname = current_user"
        ).fetchone()
    for name, value in postgres.SETTINGS.items():
        if name != "max_wal_size":  # follows the size of the disk
            assert told[name] == value
    assert told["fsync"] == told["synchronous_commit"] == "on"
    assert told["server_version"].startswith("18.")
    assert told["listen_addresses"] == "127.0.0.1"
    assert is_superuser == (False,)


def test_topics_are_made_anew_and_empty(topics: str) -> None:
    facts = next(topic for topic in all_topics(stack.HOMES) if topic.name == "facts")
    _produce(topics, "old", facts.name)
    assert _consume(topics, 1, facts) == ["old"]
    stack.recreate_topics(topics, all_topics(stack.HOMES))
    assert _consume(topics, 0, facts) == []


def test_a_port_that_is_taken_is_one_sentence(servers: stack.Servers, tmp_path: Path) -> None:
    taken = servers.kafka.port
    for second in (kafka.Kafka(tmp_path, taken, free_ports(1)[0]), postgres.Postgres(tmp_path, taken)):
        with pytest.raises(errors.Away, match=f"cannot have port {taken}: another program listens there"):
            second.start()
        assert second.process is None


def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(errors.Away, match=r"GB of free disk and Heed needs .* set HEED_HOME to a folder"):
        kafka.need_room(tmp_path / "home", gigabytes=1e6)


def test_a_machine_without_java_gets_the_one_that_is_brought_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "bin" / "java"
    old.parent.mkdir()
    old.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\" 2019-01-15' >&2\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", f"{old.parent}:/bin")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert kafka.java_version(old) == 11
    java = kafka.find_java()
    assert java != old and kafka.java_version(java) >= kafka.OLDEST_JAVA


def _produce(bootstrap: str, value: str, topic: str = KEPT.name) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all"})
    producer.produce(topic, value, partition=0)
    assert producer.flush(20) == 0


def _consume(bootstrap: str, count: int, topic: Topic = KEPT) -> list[str]:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "reader", "enable.auto.commit": False})
    consumer.assign([TopicPartition(topic.name, number, 0) for number in range(topic.partitions)])
    values: list[str] = []
    until = time.monotonic() + (20 if count else 1)
    while time.monotonic() < until and (len(values) < count or not count):
        message = consumer.poll(0.2)
        if message is not None and message.error() is None:
            values.append((message.value() or b"").decode())
    consumer.close()
    return values
