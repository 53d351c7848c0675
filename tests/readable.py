"""All that can be read of an installation by whoever has all of it: to look for words that must be gone.

Promises: every topic raw, all tables of all schemas, a dump, logs of processes and servers, metrics; what is
sealed is tried with every key that can be had, whatever key it names. A word is found in clear, in hex and in
base64.
Limits: reads all of it, so for tests with little in them; what a process holds in memory is not looked at.
Called by the tests of erasure.
"""

from __future__ import annotations

import base64
import subprocess
import time
import urllib.request
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final

import msgspec
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import AlterConfigOpType, ConfigEntry, ConfigResource
from confluent_kafka.admin._resource import ResourceType

from deploy import postgres
from schemas import codec, envelope, sealing, topics
from tests import cluster as clusters
from tests import keyring, stack, traffic
from tests.oracle import broker

TABLES: Final = """
select table_schema as schema, table_name as name from information_schema.tables
where table_schema not in ('pg_catalog', 'information_schema') order by 1, 2
"""
SEALED: Final = """
select table_schema as schema, table_name as name from information_schema.columns
where column_name in ('source', 'id', 'sealed', 'kid') group by 1, 2 having count(*) = 4
"""
# What has the cleaner go over all but the last record at once, and not a day later.
AT_ONCE: Final = {"segment.ms": "100", "min.cleanable.dirty.ratio": "0.0", "max.compaction.lag.ms": "1"}

Places = dict[str, bytes]


def places(cluster: clusters.Cluster, servers: stack.Servers, apis: Iterable[str] = ()) -> Places:
    """What can be read, by where it stands; topics as `topic <name>`."""
    keys = all_keys(cluster)
    found: Places = {}
    for topic in topics.all_topics(stack.HOMES):
        found[f"topic {topic.name}"] = b"\n".join(_raw(cluster.bootstrap, topic.name))
    facts = [_fact(one.value) for one in broker.log(cluster.bootstrap)]
    named = [(one.source, one.id, one.sealed or "", one.kid or "") for one in facts if one is not None]
    found["sealed on the log"] = _opened(named, keys)
    for table in cluster.sql(TABLES):
        name = f"{table['schema']}.{table['name']}"
        rows = cluster.sql(f"select string_agg(t::text, ' ') as all from {name} t")
        found[f"table {name}"] = str(rows[0]["all"]).encode()
    for table in cluster.sql(SEALED):
        name = f"{table['schema']}.{table['name']}"
        rows = cluster.sql(f"select source, id, sealed, kid from {name} where sealed is not null")
        found[f"sealed in {name}"] = _opened((tuple(one.values()) for one in rows), keys)
    found["dump"] = _dump(cluster.dsn)
    for number, process in enumerate(cluster.launch.started):
        found[f"log of {process.name}, {number}"] = "\n".join(process.lines).encode()
    for server in (servers.kafka, servers.postgres):
        found[f"log {server.log.name}"] = server.log.read_bytes()
    for url in (*(f"http://127.0.0.1:{cluster.ports[one]}" for one in cluster.alive), *apis):
        with urllib.request.urlopen(f"{url}/metrics", timeout=30) as answer:
            found[f"metrics of {url}"] = answer.read()
    return found


def where(words: Iterable[str], found: Places, besides: Collection[str] = ()) -> set[tuple[str, str]]:
    """Each of the words with each place where it stands."""
    return {
        (word, place)
        for place, raw in found.items()
        if place not in besides
        for word in words
        if any(form in raw for form in forms(word))
    }


def forms(word: str) -> list[bytes]:
    """A word as it may stand in bytes: itself, in hex, and inside of base64, wherever it begins."""
    raw = word.encode()
    found = [raw, raw.hex().encode()]
    for shift in range(3):
        coded = base64.b64encode(bytes(shift) + raw)
        found.append(coded[4 if shift else 0 : -4])
    return found


def all_keys(cluster: clusters.Cluster) -> list[bytes]:
    """Every key that can be unwrapped, of the topic as it lies there and of every table of keys."""
    kept = []
    for one in broker.records(cluster.bootstrap, topics.KEYS):
        try:
            kept.append(sealing.read_record(one.value))
        except (ValueError, msgspec.MsgspecError):
            continue
    rows = cluster.sql("select kid, wrapped, master from heed_ops.data_key where wrapped is not null")
    kept += [sealing.KeyRecord(row["kid"], bytes(row["wrapped"]), row["master"]) for row in rows]
    master = keyring.master()
    opened = {master.unwrap(one.wrapped, one.kid, one.master or "") for one in kept if one.wrapped}
    return sorted(opened)


def compact(bootstrap: str, timeout: float = 60) -> None:
    """Have Kafka's cleaner go over the topic of keys now: what was replaced there is gone then."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 2})
    of_broker = ConfigResource(ResourceType.BROKER, "1")
    of_keys = ConfigResource(ResourceType.TOPIC, topics.KEYS)
    usual = next(one.config for one in topics.all_topics(stack.HOMES) if one.name == topics.KEYS)
    _alter(admin, of_broker, {"log.cleaner.backoff.ms": "100"})
    _alter(admin, of_keys, AT_ONCE)
    until = time.monotonic() + timeout
    try:
        while not _is_compact(bootstrap):
            assert time.monotonic() < until, "Kafka has not compacted the topic of keys"
            time.sleep(0.3)
    finally:
        _alter(admin, of_keys, {name: usual.get(name) for name in AT_ONCE})
        _alter(admin, of_broker, {"log.cleaner.backoff.ms": None})


def _is_compact(bootstrap: str) -> bool:
    """Whether each key stands there once, the last record aside, which begins a segment of its own."""
    out = traffic.plain_producer(bootstrap)
    nobody = sealing.new_kid(f"contact:{uuid.uuid4().hex}")
    out.produce(topics.KEYS, sealing.write_destroyed(nobody), nobody)
    assert out.flush(30) == 0
    kids = [one.key for one in broker.records(bootstrap, topics.KEYS)]
    return len(kids) == len(set(kids))


def _alter(admin: AdminClient, resource: ConfigResource, config: Mapping[str, str | None]) -> None:
    for name, value in config.items():
        operation = AlterConfigOpType.DELETE if value is None else AlterConfigOpType.SET
        resource.add_incremental_config(ConfigEntry(name, value, incremental_operation=operation))
    for done in admin.incremental_alter_configs([resource]).values():
        done.result()
    resource.incremental_configs.clear()


def _raw(bootstrap: str, topic: str) -> Iterator[bytes]:
    for one in broker.records(bootstrap, topic):
        yield from (one.key or b"", one.value, *map(str.encode, one.headers), *one.headers.values())


def _fact(value: bytes) -> envelope.Fact | None:
    try:
        fact = envelope.read_fact(value)
    except codec.Unreadable:
        return None
    return fact if fact.sealed is not None else None


def _opened(sealed: Iterable[tuple[str, ...]], keys: Collection[bytes]) -> bytes:
    """What is sealed, as far as any of the keys opens it."""
    found = []
    for source, id, text, kid in sealed:
        for key in keys:
            try:
                found.append(sealing.DataKey(kid, key).open(source, id, text))
            except sealing.Tampered:
                continue
    return b"\n".join(found)


def _dump(dsn: str) -> bytes:
    command = [str(postgres.find_programs() / "pg_dump"), "-d", dsn]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
