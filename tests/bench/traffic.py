"""What comes in during a bench: clicks and deliveries of mailings of the last hours, for contacts that
exist.

Promises: the same seed gives the same events, but for their times, which end now; every event moves the
row of its contact. Records of the log are made by admission, as the product makes them.
Limits: `all distinct` needs no more events than there are contacts.
Called by `tests.bench.__main__` and the delay runs.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import msgspec
from confluent_kafka import KafkaError, Producer

from schemas import admission, envelope
from tests import keyring
from tests.bench import prefill

Keyed = tuple[bytes, int, bytes]  # key, partition, value
HOT = 50  # one contact of so many is hot
STRIDE = 611_953  # a prime, so that every contact is met once
SETTINGS = {
    "acks": "all",
    "batch.size": 262_144,
    "enable.idempotence": True,
    "linger.ms": 50,
    "partitioner": "murmur2_random",
    "queue.buffering.max.messages": 1_000_000,
}
_encode = msgspec.json.Encoder().encode


def contacts(kind: str, seed: int, among: int = prefill.CONTACTS) -> Iterator[int]:
    """Numbers of contacts: `distinct` names each once, in no order; `hot` draws from a fiftieth."""
    if kind == "distinct":
        first = random.Random(seed).randrange(among)
        for i in range(among):
            yield (first + i * STRIDE) % among
    elif kind == "hot":
        draw = random.Random(seed)
        while True:
            yield draw.randrange(among // HOT) * HOT
    else:
        raise ValueError(kind)


def events(
    kind: str, count: int, seed: int, among: int = prefill.CONTACTS, *, spread: float = 0.01
) -> Iterator[tuple[str, bytes]]:
    """Events as producers send them, with their subjects; `spread` seconds apart, the last one now."""
    assert kind != "distinct" or count <= among, f"{count} distinct events need as many contacts"
    draw = random.Random(seed)
    began = datetime.now(UTC) - timedelta(seconds=count * spread)
    for i, number in zip(range(count), contacts(kind, seed, among), strict=False):
        yield event(draw, number, began + timedelta(seconds=i * spread))


def event(draw: random.Random, number: int, time: datetime | None) -> tuple[str, bytes]:
    """One event of this contact: a click (30 %) or a delivery; without a time the API fills it in."""
    subject = f"contact:c{number:07}"
    mailing = f"m-new-{draw.randrange(20):02}"
    data = {"mailing_id": mailing, "message_id": f"{draw.getrandbits(128):032x}"}
    clicked = draw.random() < 0.3
    if clicked:
        data["url"] = f"https://example.org/p/{number}?m={mailing}"
    made: dict[str, object] = {
        "specversion": "1.0",
        "id": f"{draw.getrandbits(128):032x}",
        "source": "urn:bench:now",
        "type": "mail.clicked" if clicked else "mail.delivered",
        "subject": subject,
    }
    if time is not None:
        made["time"] = envelope.format_time(time)
    made["data"] = data
    return subject, _encode(made)


def facts(kind: str, count: int, seed: int, homes: int, among: int = prefill.CONTACTS) -> list[Keyed]:
    """The same events as they stand on the log."""
    now = datetime.now(UTC)
    made: list[Keyed] = []
    for subject, raw in events(kind, count, seed, among):
        outcome = admission.admit(
            raw, at=now, door="email-activity", homes=homes, ahead=timedelta(minutes=5), secret=keyring.SECRET
        )
        assert isinstance(outcome, admission.Admitted), outcome
        made.append((subject.encode(), outcome.partition, keyring.sealed(outcome).value))
    return made


def append(bootstrap: str, topic: str, records: list[Keyed]) -> None:
    """These records on a topic, all acknowledged."""
    producer = Producer({"bootstrap.servers": bootstrap, "log_level": 2, **SETTINGS})
    failed: list[str] = []

    def told(error: KafkaError | None, _: object) -> None:
        if error is not None:
            failed.append(error.str())

    for i, (key, partition, value) in enumerate(records):
        while True:
            try:
                producer.produce(topic, value, key, partition, on_delivery=told)
                break
            except BufferError:
                producer.poll(0.05)
        if i % 1000 == 0:
            producer.poll(0)
    left = producer.flush(60)
    if failed or left:
        raise RuntimeError(f"{len(failed)} records failed, {left} were not acknowledged: {failed[:1]}")
