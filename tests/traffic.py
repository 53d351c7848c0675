"""Events on their way to Kafka and back, with plain clients: what any producer and any consumer would do.

Promises: a producer here waits for a broker that is away, and an error of one record fails the test.
Limits: `Traffic` sends from a thread of its own; the rest blocks.
Called by the integration tests and the fault tests.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, Self

import pytest
from confluent_kafka import Consumer, Message, Producer, TopicPartition

from schemas import topics
from tests import stack
from tests.laws import generator


class Traffic:
    """Events at a rate, from a thread, as a plain producer that waits for a broker that is away."""

    def __init__(self, bootstrap: str, sent: Iterable[generator.Sent], rate: float) -> None:
        """`sent` may be made as it goes, and without an end: `stop` it then."""
        self.sent = sent
        self.count = 0
        self._rate = rate
        self._producer = plain_producer(bootstrap)
        self._failed: list[str] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="traffic")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def stop(self, timeout: float = 120) -> None:
        """Send nothing more, and wait until what was sent is acknowledged."""
        self._stopping.set()
        self.finish(timeout)

    def end(self) -> None:
        """Tell no more, and wait until what was told is acknowledged."""
        self._stopping.set()
        self.finish()

    def finish(self, timeout: float = 120) -> None:
        """Wait until all is sent and acknowledged."""
        self._thread.join(timeout)
        assert not self._thread.is_alive(), "the traffic does not end"
        assert not self._failed, self._failed[:3]

    def _run(self) -> None:
        began = time.monotonic()
        for number, one in enumerate(self.sent):
            if self._stopping.is_set():
                break
            send(self._producer, one.door, one.raw, self._told)
            self.count = number + 1
            self._producer.poll(0)
            ahead = began + number / self._rate - time.monotonic()
            if ahead > 0.005:
                self._stopping.wait(ahead)
        if self._producer.flush(120):
            self._failed.append("not acknowledged")

    def _told(self, error: object, _: object) -> None:
        if error is not None:
            self._failed.append(str(error))


def plain_producer(bootstrap: str, **more: object) -> Producer:
    """confluent-kafka as it comes, but patient with a broker that is away."""
    return Producer(
        {"bootstrap.servers": bootstrap, "acks": "all", "enable.idempotence": True, "log_level": 0,
         "message.timeout.ms": 300_000, "message.max.bytes": topics.MAX_MESSAGE_BYTES,
         "queue.buffering.max.messages": 1_000_000, **more}
    )  # fmt: skip


def send(
    producer: Producer, topic: str, raw: bytes | None, told: Callable[..., None] | None = None, **more: Any
) -> None:
    """Produce one record; waits while the producer's queue is full."""
    while True:
        try:
            producer.produce(topic, raw, on_delivery=told, **more)
        except BufferError:
            producer.poll(0.05)
        else:
            return


def send_all(bootstrap: str, sent: Iterable[tuple[str, bytes | None]]) -> None:
    """Produce records, those of doors to every partition in turn, and wait for their acknowledgements.

    A plain producer puts what it is given within ten milliseconds into one partition, so that a test which
    needs all owners would reach them by luck.
    """
    producer = plain_producer(bootstrap)
    for number, (topic, raw) in enumerate(sent):
        send(producer, topic, raw, partition=number % stack.HOMES if topic in topics.DOORS else -1)
    assert producer.flush(60) == 0


def read_all(bootstrap: str, topic: str, count: int, timeout: float = 30) -> list[Message]:
    """The records of a topic, by a plain consumer, once there are `count` of them."""
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": f"plain-{uuid.uuid4().hex}", "enable.auto.commit": False,
         "auto.offset.reset": "earliest", "log_level": 0}
    )  # fmt: skip
    consumer.assign([TopicPartition(topic, part, 0) for part in range(stack.HOMES)])
    found: list[Message] = []
    until = time.monotonic() + timeout
    try:
        while len(found) < count:
            found += [message for message in consumer.consume(1000, 0.2) if message.error() is None]
            assert time.monotonic() < until, f"{topic} has {len(found)} records, not {count}"
    finally:
        consumer.close()
    return found


def as_on(topic: str, contact: str) -> bytes:
    """One good click of a contact, as it stands at a door, or (any other topic) on the log."""
    if topic in topics.DOORS:
        return click(contact)
    told = generator.Told("mail.clicked", contact, datetime.now(UTC), uuid.uuid4().hex)
    return json.dumps(generator.envelope(told, datetime.now(UTC))).encode()


def contact_of(home: int) -> str:
    """A new contact that lives in this home."""
    while True:
        contact = f"good-{uuid.uuid4().hex[:10]}"
        if topics.home(f"contact:{contact}", stack.HOMES) == home:
            return contact


def click(
    contact: str, id: str | None = None, mailing: str = "m1", time: datetime | None = None, **more: Any
) -> bytes:
    """A click, as any producer may write it; `more` replaces members of the event."""
    event = {
        "specversion": "1.0",
        "id": id or uuid.uuid4().hex,
        "source": "urn:test",
        "type": "mail.clicked",
        "subject": f"contact:{contact}",
        "time": utc(time or datetime.now(UTC)),
        "data": {"mailing_id": mailing, "url": "https://example.org/"},
        **more,
    }
    return json.dumps({name: value for name, value in event.items() if value is not ...}).encode()


def dated_to_leave(at: datetime) -> datetime:
    """The instant of an event that is in its window of twelve months until `at`, and no longer."""
    if (at.month, at.day) == (2, 29):
        pytest.skip("nothing leaves a window of twelve months on 29 February")
    return at.replace(year=at.year - 1)


def utc(moment: datetime) -> str:
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"
