"""`heed topics refill`: the log written anew from what PostgreSQL holds, after Kafka was lost.

Promises: every key, every fact and every fact of the registry goes onto an empty log, each into its home,
acknowledged, keys before what they seal; and so does what was parked there because this Heed is too old for
it, which is then parked at its new place as well. The log is a set, so neither their new order nor a fact
written twice changes any row. Then the readers begin at the start of what is there: facts are duplicates to
them; so do old tables and those of a replay, when they are gone on with. Interrupted, it begins again when it
is run again. Refused, with the figures, while a worker lives and while the log still reaches to where it was
read.
Limits: what stood unread on the lost topics is lost: their senders send it again. Where a fact came from
(its door, its traceparent) is not written again.
Called by: `heed topics refill`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import aiokafka
import aiokafka.errors
import msgspec
import psycopg

from projections import data_keys, database, pairs
from projections.migrations import sql
from schemas import codec, envelope, errors, events, sealing, settings, topics
from streams import broker, log, producer

STEP: Final = 2000

Offsets = dict[tuple[str, int], int]
Parts = Sequence[tuple[str | None, str]]  # a topic (None: that of the row), and the statement for its rows

BEGUN: Final = "select exists (select from heed_ops.refill)"
BEGIN: Final = "insert into heed_ops.refill default values on conflict do nothing"
ALIVE: Final = """
select count(*) from (select as_of from heed_data.position union all select as_of from heed_ops.position) p
where as_of > clock_timestamp() - interval '10 seconds'
"""
POSITIONS: Final = """
select topic, part, next_offset from heed_data.position
union all select topic, part, next_offset from heed_ops.position
"""
FACTS: Final = """
select subject, source, id, type, time, version, digest, accepted, actor, data, sealed, kid
from heed_data.fact
order by subject, key
"""
KEYS: Final = "select kid, wrapped, master from heed_ops.data_key order by off"
KEY_COUNT: Final = "select count(*) from heed_ops.data_key"
REGISTRY: Final = """
select subject, source, id, type, time, version, digest, accepted, actor, data::text, null, null
from heed_data.registry
order by off
"""
# Purpose: what a newer Heed may read of the log: it would fold it, and a replay must find it there then.
UNREAD: Final = """
select topic, part, bytes from heed_ops.parked
where topic = any(%(topics)s) and reason in ('unknown_type', 'newer_version') and not batch order by id
"""
# Purpose: read on from the start of what is there, in pairs that stand aside too: their offsets are of the
# lost log. Whoever still believes to own a partition is fenced.
START: Final = """
update {table} set epoch = epoch + 1, next_offset = 0, last_record = null, read_at = null, log_end = 0
"""
# What is written, in this order: keys before what they seal.
ALL: Final = ((topics.KEYS, KEYS), (topics.REGISTRY, REGISTRY), (topics.FACTS, FACTS), (None, UNREAD))
END: Final = "delete from heed_ops.refill"
# Purpose: the topic `keys` alone was lost: it is read again from its start.
START_KEYS: Final = START.format(table="heed_ops.position") + " where reader = 'keys'"


def run(chosen: settings.Settings, told: Callable[[int], None] = lambda _: None) -> dict[str, int]:
    """Refill the log; answers how many facts went to each topic. Raises `errors.Usage` when it is refused."""
    with database.connect(chosen.postgres, database.LIVE_PATH, "heed topics refill", statement_seconds=0,
                          idle_seconds=0) as connection:  # fmt: skip
        [(begun,)] = connection.execute(BEGUN).fetchall()
        [(alive,)] = connection.execute(ALIVE).fetchall()
        if alive:
            raise errors.Usage(f"{alive} partitions are read by live workers: stop them, then refill.")
        if not begun:
            stood, ends = _stood(chosen, connection)
            if _is_keys_alone(connection, ends):
                connection.execute(START_KEYS.encode())
                return asyncio.run(_write(chosen, connection, told, ((topics.KEYS, KEYS),)))
            _refuse_a_whole_log(stood, ends)
        connection.execute(BEGIN)
        counts = asyncio.run(_write(chosen, connection, told, ALL))
        begin_anew(connection)
    return counts


def begin_anew(connection: psycopg.Connection) -> None:
    """Have every reader begin at the start of the log, whichever tables it reads into; one transaction."""
    there = [one.data for one in (pairs.LIVE, pairs.NEXT, pairs.OLD) if pairs.find(connection, one)]
    with connection.transaction():
        for schema in (*there, sql.OPS):
            connection.execute(START.format(table=f"{schema}.position").encode())
        connection.execute(END)


def _stood(chosen: settings.Settings, connection: psycopg.Connection) -> tuple[Offsets, Offsets]:
    """How far the log had been read, and where it ends now."""
    stood = {(topic, part): offset for topic, part, offset in connection.execute(POSITIONS).fetchall()}
    stood = {name: offset for name, offset in stood.items() if name[0] in log.FOR_EVER}
    return stood, asyncio.run(_ends(chosen, list(stood)))


def _is_keys_alone(connection: psycopg.Connection, ends: Offsets) -> bool:
    """Whether of the log the topic `keys` was lost, and nothing else: compaction leaves a record of each key.

    Also while it is not whole again, so that who was interrupted can go on.
    """
    [(keys,)] = connection.execute(KEY_COUNT).fetchall()
    others = any(end for name, end in ends.items() if name != data_keys.TP)
    return others and ends.get(data_keys.TP, 0) < int(keys)


def _refuse_a_whole_log(stood: Offsets, ends: Offsets) -> None:
    """A log that was not lost is not written to: its facts are there."""
    there = sum(ends.values())
    if there:
        raise errors.Usage(
            f"The log holds {there} records, so it is not lost: only an empty one is refilled. If it was "
            "lost, they came since: stop the API, keep what it took in, and replace the topics (`heed topics "
            "create`)."
        )
    if not any(stood[name] for name in ends):
        raise errors.Usage("Nothing was ever read of this log: there is nothing to write back.")


async def _ends(chosen: settings.Settings, names: list[tuple[str, int]]) -> dict[tuple[str, int], int]:
    places = [aiokafka.TopicPartition(*name) for name in names]
    try:
        async with log.reading(broker.of(chosen)) as consumer:
            found = await consumer.end_offsets(places)
    except aiokafka.errors.KafkaError as error:
        raise await broker.of(chosen).away(error) from error
    return {(tp.topic, tp.partition): end for tp, end in found.items()}


async def _write(
    chosen: settings.Settings, connection: psycopg.Connection, told: Callable[[int], None], parts: Parts
) -> dict[str, int]:
    out = producer.LogProducer(broker.of(chosen), "heed-refill", linger_ms=5)
    counts = {topic: 0 for topic, _ in parts if topic is not None}
    try:
        for topic, statement in parts:
            for rows in _steps(connection, statement):
                found = [_record(row, topic, chosen.homes) for row in rows]
                await out.append(found, timeout=60)
                for record in found:
                    counts[record.topic] += 1
                told(len(rows))
    finally:
        await out.stop()
    return counts


def _steps(connection: psycopg.Connection, statement: str) -> Iterator[list[tuple[Any, ...]]]:
    with connection.transaction(), connection.cursor(name="refill") as cursor:
        cursor.execute(statement.encode(), {"topics": sorted(log.FOR_EVER)})
        while rows := cursor.fetchmany(STEP):
            yield rows


def _record(row: tuple[Any, ...], topic: str | None, homes: int) -> producer.Record:
    """A row as the log had it."""
    if topic is None:
        return _unread(row)
    return _key(row) if topic == topics.KEYS else _fact(row, topic, homes)


def _key(row: tuple[Any, ...]) -> producer.Record:
    """A key as it was wrapped, or that it is destroyed."""
    kid, wrapped, master = row
    value = sealing.write_destroyed(kid) if wrapped is None else sealing.write_kept(kid, wrapped, master)
    return producer.Record(topics.KEYS, 0, kid.encode(), value)


def _fact(row: tuple[Any, ...], topic: str, homes: int) -> producer.Record:
    """A fact as the log had it: of its version, with the digest and the acceptance that it had."""
    subject, source, id_, type_, time, version, digest, accepted, actor, data, sealed, kid = row
    written = envelope.Written(
        id_, source, type_, subject, envelope.format_time(time), f"urn:heed:{type_}:{version}",
        msgspec.Raw(data.encode()), digest.hex, envelope.format_time(accepted), actor, sealed, kid,
    )  # fmt: skip
    part = 0 if topic == topics.REGISTRY else topics.home(subject, homes)
    assert type_ in events.EVENTS, type_
    return producer.Record(topic, part, subject.encode(), envelope.write_fact(written))


def _unread(row: tuple[Any, ...]) -> producer.Record:
    """What was parked because this Heed is too old for it, as it lay on the log."""
    topic, part, value = row
    try:
        key = envelope.read_fact(bytes(value)).subject.encode()  # of another type or version, but a fact
    except codec.Unreadable:
        key = None
    return producer.Record(topic, part, key, bytes(value))
