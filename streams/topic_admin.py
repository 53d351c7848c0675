"""Heed's topics on a broker: created as `schemas.topics` declares them, and checked.

Promises: creating is idempotent; a topic that exists with another partition count or other settings is never
touched, it is an error that says how to mend it.
Limits: three copies of each partition, or as many as there are brokers.
Called by: `heed topics`, every worker and the API at their start, tests.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable

import aiokafka.errors
import structlog
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from schemas import errors, topics
from streams import broker, process

COPIES = 3
TRIES = 30
WAIT_SECONDS = 1.0


async def create(kafka: broker.Broker, homes: int) -> list[str]:
    """Create what is missing, then check everything; answers the names created."""
    wanted = {topic.name: topic for topic in topics.all_topics(homes)}
    async with asking(kafka) as admin:
        missing = sorted(set(wanted) - set(await admin.list_topics()))
        if missing:
            copies = min(COPIES, len((await admin.describe_cluster())["brokers"]))
            made = [
                NewTopic(name, wanted[name].partitions, copies, topic_configs=wanted[name].config)
                for name in missing
            ]
            _raise_refused(await admin.create_topics(made))
    await check(kafka, homes)
    return missing


async def check(kafka: broker.Broker, homes: int) -> None:
    """Raise `errors.Doubt` when a topic is missing or not as declared, `errors.Away` when Kafka is."""
    async with asking(kafka) as admin:
        found = await _missing_for_long(admin, homes) or await wrong(admin, homes)
        if found:
            raise errors.Doubt("; ".join(found))


async def check_there(kafka: broker.Broker, homes: int) -> None:
    """Raise `errors.Doubt` when a topic is missing, `errors.Away` when Kafka is."""
    async with asking(kafka) as admin:
        found = await _missing_for_long(admin, homes)
        if found:
            raise errors.Doubt("; ".join(found))


async def _missing_for_long(admin: AIOKafkaAdminClient, homes: int) -> list[str]:
    """A topic that was just created takes a moment to be known to the broker that answers."""
    for _ in range(TRIES):
        found = _missing(await admin.list_topics(), homes)
        if not found:
            break
        await asyncio.sleep(0.1)
    return found


def _missing(there: Iterable[str], homes: int) -> list[str]:
    known = frozenset(there)
    return [
        f"topic {one.name} is missing: run `heed topics create`"
        for one in topics.all_topics(homes)
        if one.name not in known
    ]


async def wait(kafka: broker.Broker, homes: int) -> None:
    """`check`, once Kafka is there, however long that takes; raises `errors.Refused` when it lets none in."""
    said = False
    while True:
        try:
            return await check(kafka, homes)
        except errors.Refused:
            raise  # it has to be mended, so whoever starts workers learns it
        except errors.Away as away:
            if not said:
                structlog.get_logger().warning("waiting for a server", error=process.told(away))
            said = True
            await asyncio.sleep(WAIT_SECONDS)


async def wrong(admin: AIOKafkaAdminClient, homes: int) -> list[str]:
    """What is not as declared: `what: what to do`, one for each."""
    wanted = topics.all_topics(homes)
    there = set(await admin.list_topics())
    found = _missing(there, homes)
    wanted = tuple(t for t in wanted if t.name in there)
    for told in await admin.describe_topics([t.name for t in wanted]):
        want = next(t for t in wanted if t.name == told["topic"])
        have = len(told["partitions"])
        if have and have != want.partitions:
            found.append(
                f"topic {want.name} has {have} partitions, HEED_HOMES says {want.partitions}: "
                f"set HEED_HOMES={have}, or replace the topic "
                "(the number of homes is fixed for the life of a log)"
            )
    for want in wanted:
        for name, value in (await _settings(admin, want.name)).items():
            if name in want.config and value != want.config[name]:
                found.append(
                    f"topic {want.name} has {name}={value}, Heed needs {want.config[name]}: run "
                    f"kafka-configs.sh --alter --entity-type topics --entity-name {want.name} "
                    f"--add-config {name}={want.config[name]}"
                )
    return found


async def _settings(admin: AIOKafkaAdminClient, topic: str) -> dict[str, str]:
    answers = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    found: dict[str, str] = {}
    for answer in answers:
        for resource in answer.resources:
            for entry in resource[4]:
                found[entry[0]] = entry[1]
    return found


def _raise_refused(answer: object) -> None:
    for told in getattr(answer, "topic_errors", ()):
        name, code = told[0], told[1]
        if code not in (0, aiokafka.errors.TopicAlreadyExistsError.errno):
            kind = aiokafka.errors.for_code(code).__name__
            raise errors.Usage(
                f"topic {name} could not be created: {kind}. Check the broker's limits and rights."
            )


@contextlib.asynccontextmanager
async def asking(kafka: broker.Broker) -> AsyncIterator[AIOKafkaAdminClient]:
    """A client for the time of a `with`; raises `errors.Away` when Kafka is, or goes while it is asked."""
    admin = await connect(kafka)
    try:
        yield admin
    except (aiokafka.errors.KafkaError, TimeoutError) as error:
        away = await kafka.away(error, f"Kafka went away while it was asked ({type(error).__name__})")
        if isinstance(error, TimeoutError) or error.retriable or isinstance(away, errors.Refused):
            raise away from error
        raise
    finally:
        await admin.close()


async def connect(kafka: broker.Broker) -> AIOKafkaAdminClient:
    """A started client, to be closed; raises `errors.Away`."""
    admin = AIOKafkaAdminClient(**kafka.client, request_timeout_ms=10_000)
    try:
        await admin.start()
    except aiokafka.errors.KafkaError as error:
        await admin.close()
        raise await kafka.away(error) from error
    return admin
