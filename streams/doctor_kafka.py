"""What the doctor asks Kafka: is it there, are the topics as they must be, does it take records, what time is
it there, how full are its disks.

Promises: as `streams.doctor`. `append` puts one command that names nobody onto `commands`: whoever reads it
does nothing. That is the only way to see the broker's clock, and whether it takes records at all.
Limits: disks of brokers from Kafka 3.3 on, where the client may ask for them.
Called by: `streams.doctors`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

import aiokafka
import aiokafka.errors
from aiokafka.admin import AIOKafkaAdminClient

from projections import engagement
from schemas import commands, errors, topics
from streams import broker, broker_facts, doctor, log, topic_admin

SECONDS: Final = 4.0
CLOCKS_APART: Final = timedelta(seconds=2)
LEAST_FREE: Final = 0.10
ENOUGH_FREE: Final = 50 << 30

Answer = TypeVar("Answer")


def brokers(patient: doctor.Patient) -> list[doctor.Finding]:
    """Whether a broker answers, and which Kafka it is."""

    async def ask(admin: AIOKafkaAdminClient) -> list[doctor.Finding]:
        nodes = [one["node_id"] for one in (await admin.describe_cluster())["brokers"]]
        release = await broker_facts.release(admin, nodes[0]) or "of a version that it does not tell"
        return doctor.ok("broker", f"Kafka {release}, brokers: {len(nodes)}")

    return _ask(patient, ask)


def topics_as_declared(patient: doctor.Patient) -> list[doctor.Finding]:
    """Whether every topic is there, with its partitions, settings, leaders and copies."""

    async def ask(admin: AIOKafkaAdminClient) -> list[doctor.Finding]:
        found = [
            doctor.wrong("topics", says, f"{do.strip()[:1].upper()}{do.strip()[1:]}.")
            for says, _, do in (one.partition(":") for one in await topic_admin.wrong(admin, homes))
        ]
        names = [topic.name for topic in topics.all_topics(homes)]
        there = set(await admin.list_topics())
        for told in await admin.describe_topics([name for name in names if name in there]):
            parts = told["partitions"]
            leaderless = [one["partition"] for one in parts if one["leader"] < 0]
            behind = [one["partition"] for one in parts if len(one["isr"]) < len(one["replicas"])]
            if leaderless or behind:
                says = f"topic {told['topic']}: without a leader {leaderless}, short of copies {behind}"
                found.append(doctor.wrong("topics", says, "A broker is down: start it again."))
        return found or doctor.ok("topics", f"{len(names)}, as they must be")

    homes = patient.chosen.homes
    return _ask(patient, ask)


def append(patient: doctor.Patient) -> list[doctor.Finding]:
    """Whether a record is acknowledged by all copies, and the broker's clock, by the time it gives to it."""
    began = patient.clock()
    appended = asyncio.run(_append(patient))
    ended = patient.clock()
    took = f"a record was acknowledged after {(ended - began) / timedelta(milliseconds=1):.0f} ms"
    return [*doctor.ok("append", took), clock("clock of Kafka", appended, began, ended)]


def disks(patient: doctor.Patient) -> list[doctor.Finding]:
    """How full the brokers' disks are."""

    async def ask(admin: AIOKafkaAdminClient) -> list[doctor.Finding]:
        found: list[doctor.Finding] = []
        for node in [one["node_id"] for one in (await admin.describe_cluster())["brokers"]]:
            told = await broker_facts.disks(admin, node)
            for folder, total, free in told or ():
                found.append(disk(f"disk of Kafka, broker {node}, {folder}", total, free))
            if not told:
                says = f"broker {node} does not tell (before Kafka 3.3, or no right to ask)"
                found += doctor.ok("disk of Kafka", f"not to be known from here: {says}")
        return found

    return _ask(patient, ask)


def ends(patient: doctor.Patient) -> dict[tuple[str, int], log.Ends]:
    """Where each partition of Heed's topics begins, and where reading ends now."""

    async def run() -> dict[tuple[str, int], log.Ends]:
        async with asyncio.timeout(SECONDS / 2), log.reading(broker.of(patient.chosen)) as consumer:
            there = await consumer.topics()
            asked = [
                aiokafka.TopicPartition(topic.name, part)
                for topic in topics.all_topics(patient.chosen.homes)
                if topic.name in there
                for part in range(topic.partitions)
            ]
            firsts = await consumer.beginning_offsets(asked)
            lasts = await consumer.end_offsets(asked)
            return {(tp.topic, tp.partition): log.Ends(firsts[tp], lasts[tp]) for tp in asked}

    return asyncio.run(run())


def clock(name: str, theirs: datetime, began: datetime, ended: datetime) -> doctor.Finding:
    """Compares a clock that was read between two readings of ours."""
    off = timedelta(0)
    if theirs < began - CLOCKS_APART:
        off = theirs - began
    elif theirs > ended + CLOCKS_APART:
        off = theirs - ended
    if not off:
        return doctor.Finding(name, doctor.State.OK, "agrees with this machine's, within 2 s")
    side = "ahead of" if off > timedelta(0) else "behind"
    return doctor.wrong(
        name,
        f"is {abs(off).total_seconds():.0f} s {side} this machine's",
        "Have both set by NTP (chrony, systemd-timesyncd): events are judged by them; those dated more "
        "than HEED_AHEAD_SECONDS ahead are parked.",
    )


def disk(name: str, total: int, free: int) -> doctor.Finding:
    """Whether a disk has room: a tenth of it, or 50 GB."""
    says = f"{free / 1e9:,.0f} of {total / 1e9:,.0f} GB free" if total >= 1e10 else f"{free:,} bytes free"
    if free >= min(total * LEAST_FREE, ENOUGH_FREE):
        return doctor.Finding(name, doctor.State.OK, says)
    return doctor.wrong(name, says, "Make room or a larger disk: the topics of the log are kept for ever.")


async def _append(patient: doctor.Patient) -> datetime:
    made = commands.make(engagement.COMMAND, 0, [], patient.clock())
    producer = aiokafka.AIOKafkaProducer(
        **broker.of(patient.chosen).client, acks="all", request_timeout_ms=int(SECONDS * 1000)
    )
    try:
        async with asyncio.timeout(SECONDS):
            await producer.start()
            told = await producer.send_and_wait(
                topics.COMMANDS, made.body, key=commands.subject(0).encode(), partition=0
            )
    except (TimeoutError, aiokafka.errors.KafkaError) as error:
        raise errors.Away(
            f"Kafka takes no record ({type(error).__name__}): see its disks, copies (min.insync.replicas) "
            "and this client's rights"
        ) from error
    finally:
        await producer.stop()
    return datetime.fromtimestamp(told.timestamp / 1000, UTC)


def _ask(patient: doctor.Patient, question: Callable[[Any], Awaitable[Answer]]) -> Answer:
    async def run() -> Answer:
        try:
            async with asyncio.timeout(SECONDS):
                admin = await topic_admin.connect(broker.of(patient.chosen))
                try:
                    return await question(admin)
                finally:
                    await admin.close()
        except TimeoutError as error:
            raise errors.Away("Kafka did not answer in time: is it overloaded, or suspended?") from error

    return asyncio.run(run())
