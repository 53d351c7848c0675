"""Heed's topics on a broker: created as `schemas.topics` declares them, and checked.

Promises: creating is idempotent; a topic that exists with another partition count or other settings is never
touched, it is an error that says how to mend it.
Limits: three copies of each partition, or as many as there are brokers.
Called by: `heed topics`, every worker and the API at their start, tests.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import aiokafka.errors
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from schemas import errors, topics

COPIES = 3
TRIES = 30


async def create(bootstrap: str, homes: int) -> list[str]:
    """Create what is missing, then check everything; answers the names created."""
    wanted = {topic.name: topic for topic in topics.all_topics(homes)}
    async with asking(bootstrap) as admin:
        missing = sorted(set(wanted) - set(await admin.list_topics()))
        if missing:
            copies = min(COPIES, len((await admin.describe_cluster())["brokers"]))
            made = [
                NewTopic(name, wanted[name].partitions, copies, topic_configs=wanted[name].config)
                for name in missing
            ]
            _raise_refused(await admin.create_topics(made))
    await check(bootstrap, homes)
    return missing


async def check(bootstrap: str, homes: int) -> None:
    """Raise `errors.Doubt` when a topic is missing or not as declared, `errors.Away` when Kafka is."""
    async with asking(bootstrap) as admin:
        found = await wrong(admin, homes)
        for _ in range(TRIES):
            if not any("is missing" in one for one in found):
                break
            # A topic that was just created takes a moment to be known to the broker that answers.
            await asyncio.sleep(0.1)
            found = await wrong(admin, homes)
        if found:
            raise errors.Doubt("; ".join(found))


async def wrong(admin: AIOKafkaAdminClient, homes: int) -> list[str]:
    """What is not as declared: `what: what to do`, one for each."""
    wanted = topics.all_topics(homes)
    there = set(await admin.list_topics())
    found = [f"topic {t.name} is missing: run `heed topics create`" for t in wanted if t.name not in there]
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
async def asking(bootstrap: str) -> AsyncIterator[AIOKafkaAdminClient]:
    """A client for the time of a `with`; raises `errors.Away` when Kafka is, or goes while it is asked."""
    admin = await connect(bootstrap)
    try:
        yield admin
    except aiokafka.errors.KafkaError as error:
        if not error.retriable:
            raise
        raise errors.Away(f"Kafka went away while it was asked ({type(error).__name__})") from error
    finally:
        await admin.close()


async def connect(bootstrap: str) -> AIOKafkaAdminClient:
    """A started client, to be closed; raises `errors.Away`."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=10_000)
    try:
        await admin.start()
    except aiokafka.errors.KafkaError as error:
        await admin.close()
        raise errors.Away(
            f"Kafka cannot be reached at {bootstrap}: is it running, is HEED_KAFKA right?"
        ) from error
    return admin
