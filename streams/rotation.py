"""Another master key: every key wrapped anew by the current one; and which master keys are in use.

Promises: a key is rewrapped by a further record of its kid, acknowledged; the data that it sealed is not
touched. Interrupted at any instant (kill -9 too) it goes on when it is run again, and run once more it does
nothing: what is left is what PostgreSQL's copy of the topic says, read to its end before. A key that was
destroyed stays so. Of several installation's secrets those that do not hold are destroyed before the one that
does gets a later offset, so that it stays the first.
Limits: needs a worker that reads `keys`; one at a time (an advisory lock, which whoever destroys keys takes
too). Processes that still wrap with an older master key make keys under it meanwhile: those are told of.
Called by: `heed master-key`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Final

import aiokafka
import aiokafka.errors
import psycopg

from projections import data_keys, database
from schemas import errors, sealing, settings, topics
from streams import broker, installation, log, producer

STEP: Final = 1000
SILENT_SECONDS: Final = 10.0  # without a step of the topic's reader
PAUSE: Final = 0.05

_PLACE: Final = aiokafka.TopicPartition(topics.KEYS, 0)

# Purpose: the next keys that another master key wraps.
NEXT: Final = """
select kid, wrapped, master from heed_ops.data_key
where not destroyed and master <> %s and kid > %s order by kid limit %s
"""
SECRETS: Final = """
select kid from heed_ops.data_key where subject = 'installation' and not destroyed order by off
"""
# Purpose: which master keys are in use, each with a key that it wraps.
IN_USE: Final = """
select master, count(*) as keys, min(kid) as kid from heed_ops.data_key
where not destroyed group by master order by master
"""
DESTROYED: Final = "select count(*) from heed_ops.data_key where destroyed"


def rotate(chosen: settings.Settings, master: sealing.MasterKey) -> dict[str, Any]:
    """Rewrap every key that the current master key does not wrap yet; answers how many, and what `show` does.

    Blocks. Raises `errors.Usage` while another rotation runs, `errors.Away` when nobody reads the topic or a
    server is away, `sealing.Unopened` for a key under a master key that is not here: nothing is lost by that.
    """
    with _connected(chosen) as connection:
        if not data_keys.take_lock(connection):
            raise errors.Usage(
                "Keys are being rewrapped or destroyed at this moment; run it again after that."
            )
        rewrapped = asyncio.run(_rotate(chosen, connection, master))
        return {"rewrapped": rewrapped, **_in_use(connection, master)}


def show(chosen: settings.Settings, master: sealing.MasterKey) -> dict[str, Any]:
    """The master keys in use, by id: how many keys each wraps, which one is current, which of them open here.

    Never a key. Raises `errors.Away`.
    """
    with _connected(chosen) as connection:
        return _in_use(connection, master)


def _connected(chosen: settings.Settings) -> psycopg.Connection:
    return database.connect(chosen.postgres, database.OPS_PATH, "heed master-key", statement_seconds=60)


async def _rotate(
    chosen: settings.Settings, connection: psycopg.Connection, master: sealing.MasterKey
) -> int:
    out = producer.LogProducer(broker.of(chosen), "heed-master-key", linger_ms=5)
    try:
        await _read_to_end(chosen, connection)
        secrets = [kid for (kid,) in connection.execute(SECRETS).fetchall()]
        await _append(out, [(kid, sealing.write_destroyed(kid)) for kid in secrets[1:]])
        last, rewrapped = "", 0
        while rows := connection.execute(NEXT, (master.id, last, STEP)).fetchall():
            found = [sealing.KeyRecord(*row) for row in rows]
            await _append(out, [(one.kid, _rewrapped(one, master)) for one in found])
            last, rewrapped = found[-1].kid, rewrapped + len(found)
        await _read_to_end(chosen, connection)
        return rewrapped
    finally:
        await out.stop()


def _rewrapped(one: sealing.KeyRecord, master: sealing.MasterKey) -> bytes:
    key = installation.opened(one, master)
    return sealing.write_kept(one.kid, master.wrap(key, one.kid), master.id)


async def _append(out: producer.LogProducer, values: Sequence[tuple[str, bytes]]) -> None:
    if values:
        records = [producer.Record(topics.KEYS, 0, kid.encode(), value) for kid, value in values]
        await out.append(records, timeout=60)


async def _read_to_end(chosen: settings.Settings, connection: psycopg.Connection) -> None:
    """Wait until PostgreSQL has what stands in the topic now; raises `errors.Away` when nobody reads it."""
    kafka = broker.of(chosen)
    try:
        async with log.reading(kafka) as consumer:
            end = (await consumer.end_offsets([_PLACE]))[_PLACE]
    except aiokafka.errors.KafkaError as error:
        raise await kafka.away(error) from error
    seen, since = -1, time.monotonic()
    while (now := data_keys.read_to(connection)) < end:
        if now != seen:
            seen, since = now, time.monotonic()
        elif time.monotonic() - since > SILENT_SECONDS:
            raise errors.Away(f"nobody reads the topic keys ({end - now} records wait): start a worker")
        await asyncio.sleep(PAUSE)


def _in_use(connection: psycopg.Connection, master: sealing.MasterKey) -> dict[str, Any]:
    found = connection.execute(IN_USE).fetchall()
    kept = data_keys.of_kids(connection, [kid for _, _, kid in found])
    [(destroyed,)] = connection.execute(DESTROYED).fetchall()
    items = [
        {"master": id, "keys": keys, "current": id == master.id, "opens": _opens(kept[kid], master)}
        for id, keys, kid in found
    ]
    return {"current": master.id, "items": items, "destroyed": destroyed}


def _opens(one: sealing.KeyRecord, master: sealing.MasterKey) -> bool:
    try:
        installation.opened(one, master)
    except sealing.Unopened:
        return False
    return True
