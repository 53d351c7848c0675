"""What is personal, from the door to the table, with real servers: it stands sealed everywhere (LAW-6)."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from projections import data_keys
from schemas import admission, envelope, events, sealing, topics
from streams import broker, installation, producer
from streams import vault as vaults
from tests import cluster as clusters
from tests import keyring, stack, traffic
from tests.oracle import broker as reading
from tests.unit import samples

pytestmark = pytest.mark.capability("LAW-6")

LOG = (topics.FACTS, topics.REGISTRY, topics.KEYS, topics.COMMANDS)


@pytest.fixture(scope="module")
def cluster(
    servers: stack.Servers, module_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[clusters.Cluster]:
    stack.recreate_topics(servers.bootstrap, topics.all_topics(stack.HOMES))
    home: Path = tmp_path_factory.mktemp("home")
    with stack.Launcher() as launch:
        made = clusters.Cluster(launch, servers.bootstrap, module_database, home)
        yield made.start("worker-1")
        made.tell()
        made.close()


def marked() -> dict[str, dict[str, Any]]:
    """Every personal field of every type, each with a word that stands nowhere else."""
    return {
        event.name: samples.marked(event, lambda: f"{uuid.uuid4().hex}@example.org")
        for event in events.built()
        if event.personal
    }


def told(contact: str, words: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        samples.event(
            name, id=uuid.uuid4().hex, subject=f"contact:{contact}", data={**samples.DATA[name], **personal}
        )
        for name, personal in words.items()
    ]


def at_doors(told: list[dict[str, Any]]) -> list[tuple[str, bytes | None]]:
    return [(samples.door(event["type"]), samples.encode(event)) for event in told]


def wait_facts(cluster: clusters.Cluster, contact: str, count: int) -> list[dict[str, Any]]:
    """The facts of a contact, once there are so many."""
    found: list[dict[str, Any]] = []

    def there() -> bool:
        found[:] = cluster.sql("select * from heed_data.fact where subject = %s", f"contact:{contact}")
        return len(found) == count

    stack.eventually(there, f"{count} facts of {contact}", clusters.patience(30))
    return found


def opened(cluster: clusters.Cluster, fact: dict[str, Any]) -> dict[str, Any]:
    [kept] = cluster.sql("select kid, wrapped, master from heed_ops.data_key where kid = %s", fact["kid"])
    key = keyring.master().unwrap(bytes(kept["wrapped"]), kept["kid"], kept["master"])
    personal = sealing.DataKey(kept["kid"], key).open(fact["source"], fact["id"], fact["sealed"])
    found: dict[str, Any] = json.loads(personal)
    return found


def test_no_personal_word_stands_anywhere_in_clear(cluster: clusters.Cluster, url: str) -> None:
    by_http, by_door = marked(), marked()
    answer = httpx.post(f"{url}/v1/events", json=told("http", by_http), timeout=30)
    assert answer.status_code == 202, answer.text
    assert {one["status"] for one in answer.json()["outcomes"]} == {"accepted"}
    traffic.send_all(cluster.bootstrap, at_doors(told("door", by_door)))
    for contact, words in (("http", by_http), ("door", by_door)):
        facts = wait_facts(cluster, contact, len(words))
        assert {fact["type"]: opened(cluster, fact) for fact in facts} == words
        assert len({fact["kid"] for fact in facts}) == 1, "one process, one key"
    every = [word for told in (by_http, by_door) for word in samples.words(told)]
    for topic in LOG:
        raw = b"\n".join(
            (one.key or b"") + one.value + b"".join(one.headers.values())
            for one in reading.records(cluster.bootstrap, topic)
        )
        assert not [word for word in every if word.encode() in raw], topic
    for table in ("heed_data.fact", "heed_data.registry", "heed_ops.data_key", "heed_ops.outbox"):
        dump = str(cluster.sql(f"select string_agg(t::text, ' ') as all from {table} t")[0]["all"])
        assert not [word for word in every if word in dump], table
    for process in cluster.launch.started:
        assert not [word for word in every if word in "\n".join(process.lines)], process.name


def export(cluster: clusters.Cluster, contact: str, code: int = 0) -> Any:
    """What the command line tells of a contact; its error, for another code."""
    env = stack.clean_env(stack.servers_env(cluster.bootstrap, cluster.dsn) | cluster.env)
    command = [str(stack.HEED), "export", contact]
    found = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert found.returncode == code, found.stderr
    return found.stderr if code else json.loads(found.stdout)


def test_the_export_opens_what_is_sealed(cluster: clusters.Cluster, url: str) -> None:
    words = marked()
    traffic.send_all(cluster.bootstrap, at_doors(told("owner", words)))
    waits = samples.encode(samples.event(subject="contact:owner", id="waits", time="2100-01-01T00:00:00Z"))
    link = samples.event(
        "session.linked", subject="session:of-owner", data={"contact_id": "owner"}, id="link"
    )
    answer = httpx.post(f"{url}/v1/events", json=[link, json.loads(waits)], timeout=30)
    assert answer.status_code == 202, answer.text
    visit = samples.event(subject="session:of-owner", id="visit")
    assert httpx.post(f"{url}/v1/events", json=visit, timeout=30).status_code == 202
    stack.eventually(
        lambda: (
            len(cluster.sql("select from heed_ops.parked where event_id = 'waits'")) == 1
            and len(cluster.sql("select from heed_data.fact where id = 'visit'")) == 1
            and len(cluster.sql("select from heed_data.member where subject = 'session:of-owner'")) == 1
        ),
        "all of it is known",
        clusters.patience(30),
    )
    wait_facts(cluster, "owner", len(words))
    held = export(cluster, "owner")
    named = [one.partition(":")[0] for one in held["subjects"]]
    assert named == ["contact", "custom", "email", "email", "phone", "session"]
    assert {"contact:owner", "session:of-owner"} < set(held["subjects"])
    mails = {fact["type"]: fact["data"] for fact in held["facts"] if fact["subject"] == "contact:owner"}
    assert mails == {name: {**samples.DATA[name], **personal} for name, personal in words.items()}
    [seen] = [fact["data"] for fact in held["facts"] if fact["subject"] == "session:of-owner"]
    assert seen == samples.DATA["mail.clicked"]
    assert [one["id"] for one in held["links"] if one["type"] != "identifier.linked"] == ["link"]
    assert [one["event_id"] for one in held["parked"]] == ["waits"]
    assert json.loads(held["parked"][0]["text"])["id"] == "waits"
    assert held["row"]["contact_id"] == "owner"
    by_http = httpx.get(f"{url}/v1/contacts/owner/export", timeout=30).json()
    for one in (by_http, held):
        del one["row"]["date_calculated"]  # the moment of reading
    assert by_http == held


def test_a_second_key_of_a_subject_is_as_good(cluster: clusters.Cluster) -> None:
    subject = f"contact:{uuid.uuid4().hex}"
    event = samples.admitted(samples.event(subject=subject, id="second"))
    [first] = tell(cluster, event)
    [again] = tell(cluster, samples.admitted(samples.event(subject=subject, id="third")))
    facts = wait_facts(cluster, subject.removeprefix("contact:"), 2)
    assert {fact["kid"] for fact in facts} == {first, again}
    for fact in facts:
        assert opened(cluster, fact) == {"url": samples.DATA["mail.clicked"]["url"]}


def test_a_key_whose_maker_was_killed_before_its_fact_is_used(cluster: clusters.Cluster) -> None:
    contact = uuid.uuid4().hex
    orphan = keys_of(samples.admitted(samples.event(subject=f"contact:{contact}", id="again")))
    append(cluster, orphan.records)
    kid = sealing.read_record(orphan.records[0].value).kid
    stack.eventually(
        lambda: bool(cluster.sql("select from heed_ops.data_key where kid = %s", kid)),
        "the key is read",
        clusters.patience(30),
    )
    event = samples.event(subject=f"contact:{contact}", id="again")
    traffic.send_all(cluster.bootstrap, [(topics.EMAIL_ACTIVITY, samples.encode(event))] * 2)
    [fact] = wait_facts(cluster, contact, 1)
    assert fact["kid"] == kid


def test_a_key_that_was_destroyed_is_no_doubt_and_stays_so(cluster: clusters.Cluster) -> None:
    subject = f"contact:{uuid.uuid4().hex}"
    event = samples.admitted(samples.event(subject=subject))
    there = keys_of(event)
    kid = sealing.read_record(there.records[0].value).kid
    out = traffic.plain_producer(cluster.bootstrap)
    out.produce(topics.KEYS, sealing.write_destroyed(kid), kid)
    out.produce(topics.KEYS, there.records[0].value, kid)
    out.produce(topics.KEYS, b"{}", kid)
    out.produce(topics.KEYS, None, b"nobody")
    out.produce(topics.FACTS, there.sealed[0].value, subject, partition=there.sealed[0].partition)
    assert out.flush(30) == 0
    wait_facts(cluster, subject.removeprefix("contact:"), 1)
    [kept] = cluster.sql("select wrapped, destroyed from heed_ops.data_key where kid = %s", kid)
    assert kept == {"wrapped": None, "destroyed": True}
    [fact] = export(cluster, subject.removeprefix("contact:"))["facts"]
    assert (fact["erased"], fact["data"]) == (True, {"mailing_id": "m1"})
    cluster.workers["worker-1"].wait_for("ignored an ill-formed record of the topic keys")


def test_the_table_of_keys_knows_what_it_read(cluster: clusters.Cluster) -> None:
    with psycopg.connect(cluster.dsn, autocommit=True) as connection:
        kids = [kid for (kid,) in connection.execute("select kid from heed_ops.data_key").fetchall()]
        assert data_keys.missing(connection, [*kids, "contact:x#0000000000000000"]) == {
            "contact:x#0000000000000000"
        }


def test_an_older_copy_of_the_keys_catches_up(cluster: clusters.Cluster) -> None:
    asked = "select kid, wrapped, master, destroyed from heed_ops.data_key order by kid"
    whole = cluster.sql(asked)
    assert len(whole) > 3
    cluster.workers["worker-1"].terminate()
    with psycopg.connect(cluster.dsn) as restored:
        restored.execute("delete from heed_ops.data_key where off > 1")
        restored.commit()
        assert "It was not erased" in export(cluster, "owner", 3)
        restored.execute(
            "update heed_ops.position set next_offset = 2, last_record = null where reader = 'keys'"
        )
    cluster.start("worker-1")
    stack.eventually(lambda: cluster.sql(asked) == whole, "every key is there again", clusters.patience(30))


def test_a_lost_topic_of_keys_is_written_back(cluster: clusters.Cluster) -> None:
    asked = "select kid, wrapped, master, destroyed from heed_ops.data_key order by kid"
    whole = cluster.sql(asked)
    cluster.workers["worker-1"].terminate()
    keys = tuple(one for one in topics.all_topics(stack.HOMES) if one.name == topics.KEYS)
    stack.recreate_topics(cluster.bootstrap, keys, seeded=False)
    time.sleep(10.5)  # refused while a worker may live
    env = stack.clean_env(stack.servers_env(cluster.bootstrap, cluster.dsn) | cluster.env)
    command = [str(stack.HEED), "topics", "refill", "--json"]
    found = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout) == {"written": {"keys": len(whole)}}
    cluster.sql("delete from heed_ops.data_key")
    cluster.start("worker-1")
    stack.eventually(lambda: cluster.sql(asked) == whole, "every key is there again", clusters.patience(30))


def test_a_fact_whose_key_is_missing_stops_the_worker(cluster: clusters.Cluster) -> None:
    subject = f"contact:{uuid.uuid4().hex}"
    lost = keys_of(samples.admitted(samples.event(subject=subject)))
    out = traffic.plain_producer(cluster.bootstrap)
    out.produce(topics.FACTS, lost.sealed[0].value, subject, partition=lost.sealed[0].partition)
    assert out.flush(30) == 0
    worker = cluster.workers["worker-1"]
    assert worker.exit(60) == 3
    last = json.loads(worker.last_line)
    assert last["why"].startswith("Missing: Facts name 1 keys that the topic keys does not have")
    assert subject not in worker.last_line
    assert not cluster.sql("select from heed_data.fact where subject = %s", subject)
    append(cluster, lost.records)
    cluster.start("worker-1")
    wait_facts(cluster, subject.removeprefix("contact:"), 1)


@pytest.mark.parametrize(
    ("env", "code", "says"),
    [
        ({"HEED_MASTER_KEY": ""}, 2, "Set HEED_MASTER_KEY_FILE"),
        ({"HEED_MASTER_KEY": "hunter2"}, 2, "HEED_MASTER_KEY takes 32 random bytes in base64"),
        ({"HEED_MASTER_KEY": "A" * 43 + "="}, 3, "which this process does not have"),
    ],
)
@pytest.mark.parametrize("role", ["worker", "api"])
def test_a_process_without_the_master_key_ends(
    cluster: clusters.Cluster, role: str, env: dict[str, str], code: int, says: str
) -> None:
    given = stack.servers_env(cluster.bootstrap, cluster.dsn) | cluster.env | {"HEED_API_PORT": "0"} | env
    given["HEED_GROUP"] = "nobody"
    started = cluster.launch.heed(role, env=given, name=f"{role}-{code}")
    assert started.exit(60) == code
    assert says in "\n".join(started.lines)
    assert "hunter2" not in "\n".join(started.lines)


async def test_of_two_secrets_that_are_made_at_once_the_first_holds(servers: stack.Servers) -> None:
    bootstrap = servers.bootstrap
    keys = tuple(one for one in topics.all_topics(stack.HOMES) if one.name == topics.KEYS)
    stack.recreate_topics(bootstrap, keys, seeded=False)
    kafka = broker.Broker(bootstrap)
    outs = [producer.LogProducer(kafka, f"test-{number}") for number in range(3)]
    try:
        found = await asyncio.gather(
            *(installation.secret(kafka, keyring.master(), out.append) for out in outs)
        )
        assert len(set(found)) == 1
        assert await installation.secret(kafka, keyring.master(), outs[0].append) == found[0]
    finally:
        for out in outs:
            await out.stop()
    made = [sealing.read_record(one.value) for one in reading.records(bootstrap, topics.KEYS)]
    assert len(made) >= 1
    assert installation.opened(made[0], keyring.master()) == found[0]


class Made:
    """Events sealed by a process of their own, which knew no key; its new keys, not yet on the topic."""

    def __init__(self) -> None:
        self.records: list[producer.Record] = []
        self.sealed: list[admission.Admitted] = []


def keys_of(*events: admission.Admitted) -> Made:
    made = Made()
    mine = vaults.Vault(keyring.master(), "", keyring.SECRET)
    made.sealed = mine.sealed(events, lambda _: [], made.records.extend)
    return made


def append(cluster: clusters.Cluster, records: list[producer.Record]) -> None:
    out = traffic.plain_producer(cluster.bootstrap)
    for one in records:
        out.produce(one.topic, one.value, one.key, partition=one.partition or 0)
    assert out.flush(30) == 0


def tell(cluster: clusters.Cluster, *events: admission.Admitted) -> list[str]:
    """Put events on the log as another process would, its keys before; answers their kids."""
    made = keys_of(*events)
    append(cluster, made.records)
    out = traffic.plain_producer(cluster.bootstrap)
    for one in made.sealed:
        out.produce(topics.FACTS, one.value, one.subject, partition=one.partition)
    assert out.flush(30) == 0
    return [envelope.read_fact(one.value).kid or "" for one in made.sealed]
