"""The example with a plain Kafka client, on a real broker: what it writes is admitted at its door."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from confluent_kafka import Consumer, TopicPartition

from schemas import admission
from tests import keyring, stack

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "produce_kafka.py"


def test_a_plain_kafka_client_is_enough(topics: str) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLE), "grace"],
        env={"PATH": os.environ["PATH"], "HEED_KAFKA": topics},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    door, partition, offset = done.stdout.split()
    consumer = Consumer({"bootstrap.servers": topics, "group.id": "examples"})
    try:
        consumer.assign([TopicPartition(door, int(partition), int(offset))])
        message = consumer.poll(30)
        assert message is not None
        assert message.error() is None
        value = message.value()
        assert isinstance(value, bytes)
        appended = datetime.fromtimestamp(message.timestamp()[1] / 1000, UTC)
    finally:
        consumer.close()
    outcome = admission.admit(
        value, at=appended, door=door, homes=stack.HOMES, ahead=timedelta(seconds=300), secret=keyring.SECRET
    )
    assert isinstance(outcome, admission.Admitted), outcome
    # Its default partitioner is not Kafka's murmur2: the home follows from the subject alone.
    assert outcome.subject == "contact:grace"
