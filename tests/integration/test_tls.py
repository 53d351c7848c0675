"""Kafka over TLS, with names and passwords, certificates and rights; PostgreSQL 15 over TLS: on real servers.

A worker and the API run on each, take one event by HTTP and one by a door, and every command that an operator
would use next does its work. Whoever is refused is told why, and what to do.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree

import psycopg
import pytest
from confluent_kafka import Producer

from deploy import demo_client
from deploy.postgres import Postgres
from deploy.processes import free_ports
from deploy.stack import dashboard_dsn
from projections import database as database_
from projections.migrations import apply
from schemas import errors, settings
from schemas.topics import all_topics
from streams import broker, log, producer, topic_admin
from tests import certificates, postgres15, secured, stack, traffic
from tests import cluster as clusters

EXAMPLE = stack.ROOT / "examples" / "produce_kafka.py"


@pytest.fixture(scope="module")
def kafka() -> Iterator[secured.Secured]:
    home = Path(tempfile.mkdtemp(prefix="heed-tls-"))
    with ExitStack() as ending:
        ending.callback(rmtree, home, ignore_errors=True)
        made = secured.Secured(home)
        ending.callback(made.kafka.stop)
        made.start()
        yield made


def heed(env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [stack.HEED, *arguments], env=stack.clean_env(env), capture_output=True, text=True,
        timeout=clusters.patience(60), check=False,
    )  # fmt: skip


def answered(env: dict[str, str], *arguments: str) -> str:
    done = heed(env, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def examine(env: dict[str, str]) -> dict[str, dict[str, str]]:
    """What `heed doctor` finds, by the name of the check."""
    return {one["check"]: one for one in json.loads(heed(env, "doctor", "--json").stdout)["items"]}


def work(
    launch: stack.Launcher, env: dict[str, str], client: dict[str, str], *, thorough: bool = False
) -> None:
    """Topics, tables, a worker, the API; an event by each way; doctor, replay --check, trace."""
    answered(env, "topics", "create")
    answered(env, "migrate")
    (port,) = free_ports(1)
    worker = launch.worker(env["HEED_KAFKA"], env["HEED_POSTGRES"], **env)
    launch.api(env["HEED_KAFKA"], env["HEED_POSTGRES"], port, **env).wait_for("listening")
    url = f"http://127.0.0.1:{port}"
    stack.eventually(lambda: _ready(url), "the API is ready", clusters.patience(60))

    event = {"specversion": "1.0", "id": "by-http", "source": "urn:test", "subject": "contact:ada",
             "type": "mail.clicked", "data": {"mailing_id": "m", "url": "https://example.org/"}}  # fmt: skip
    by_http = urllib.request.Request(
        f"{url}/v1/events", json.dumps(event).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(by_http, timeout=20) as answer:
        assert json.load(answer)["outcomes"][0]["status"] == "accepted"
    told = {"HEED_KAFKA": env["HEED_KAFKA"], "KAFKA_CLIENT": json.dumps(client)}
    by_door = subprocess.run(
        [sys.executable, EXAMPLE], env=stack.clean_env(told), capture_output=True, text=True, timeout=30,
        check=False,
    )  # fmt: skip
    assert by_door.stdout.startswith("email-activity "), by_door.stdout + by_door.stderr

    def counted() -> bool:
        with urllib.request.urlopen(f"{url}/v1/contacts/ada/engagement", timeout=20) as row:
            return bool(json.load(row)["frequency"] == 2)

    stack.eventually(counted, "both events are in the row", clusters.patience(60))
    wrong = [one for one in examine(env).values() if one["state"] != "ok" and "disk" not in one["check"]]
    assert wrong == []
    assert "0 of 1 rows differ" in answered(env, "replay", "--check")
    assert "folded" in answered(env, "trace", "by-http")
    if thorough:
        assert json.loads(answered(env, "replay", "--json"))["facts"] == 2
        assert json.loads(answered(env, "settings", "set", "zone", "Europe/Amsterdam", "--json"))["value"]
        assert json.loads(answered(env, "parked", "redrive", "--all", "--json"))["driven"] == 0
    secret = env.get("HEED_KAFKA_PASSWORD", "no password")
    assert secret not in answered(env, "settings", "show") + "\n".join(worker.lines)
    assert worker.terminate() == 0


def _ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health/ready", timeout=5):
            return True
    except OSError:
        return False


def of_client(kafka: secured.Secured, mechanism: str) -> dict[str, str]:
    return {
        "security.protocol": "sasl_ssl", "ssl.ca.location": str(kafka.authority.file),
        "sasl.mechanism": mechanism, "sasl.username": secured.USER, "sasl.password": kafka.password,
    }  # fmt: skip


@pytest.mark.slow
def test_all_of_heed_by_a_password_over_tls(
    kafka: secured.Secured, database: str, launch: stack.Launcher, tmp_path: Path
) -> None:
    """With SCRAM, and with no other rights than those that docs/operations.md lists."""
    env = {"HEED_POSTGRES": database, "HEED_HOME": str(tmp_path)}
    work(launch, kafka.scram(**env), of_client(kafka, "SCRAM-SHA-512"))


@pytest.mark.slow
def test_all_of_heed_by_certificates(
    kafka: secured.Secured, database: str, launch: stack.Launcher, tmp_path: Path
) -> None:
    stack.recreate_topics(kafka.kafka.bootstrap, all_topics(stack.HOMES))
    client = {
        "security.protocol": "ssl", "ssl.ca.location": str(kafka.authority.file),
        "ssl.certificate.location": str(kafka.client.certificate),
        "ssl.key.location": str(kafka.client.key),
    }  # fmt: skip
    work(launch, kafka.mutual(HEED_POSTGRES=database, HEED_HOME=str(tmp_path)), client, thorough=True)


async def test_every_way_in(kafka: secured.Secured, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each by what a worker does first, a record written and one asked for; and by the demo's client."""
    plaintext = {"HEED_KAFKA": kafka.at["sasl_plaintext"], "HEED_KAFKA_SECURITY_PROTOCOL": "sasl_plaintext",
                 "HEED_KAFKA_CA_FILE": "", "HEED_KAFKA_SASL_MECHANISM": "SCRAM-SHA-256"}  # fmt: skip
    for env in (
        kafka.scram(),
        kafka.scram(HEED_KAFKA_SASL_MECHANISM="PLAIN"),
        kafka.scram(**plaintext),
        kafka.mutual(),
    ):
        into = broker.of(settings.Settings.load(env))
        await topic_admin.create(into, stack.HOMES)
        assert await into.reachable(5)
        out = producer.LogProducer(into, "test-tls")
        await out.append([producer.Record("email-activity", 0, None, traffic.click("ada"))], timeout=20)
        await out.stop()
        async with log.reading(into) as consumer:
            assert "email-activity" in await consumer.topics()
        with monkeypatch.context() as environment:
            for name, value in env.items():
                environment.setenv(name, value)
            plain = Producer(demo_client.configuration(env["HEED_KAFKA"]))
        assert "email-activity" in plain.list_topics(timeout=20).topics


@pytest.fixture
async def web() -> AsyncIterator[str]:
    """Something else that listens: a web server."""

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as serving:
        yield f"127.0.0.1:{serving.sockets[0].getsockname()[1]}"


async def test_whoever_is_refused_is_told_what_to_do(kafka: secured.Secured, web: str) -> None:
    foreign = kafka.other.sign("heed")
    elsewhere = {"HEED_KAFKA": kafka.at["sasl"].replace("127.0.0.1", "localhost")}
    for env, says in (
        (kafka.scram(HEED_KAFKA_PASSWORD="wrong"), "user or password: check HEED_KAFKA_USER"),
        (kafka.scram(HEED_KAFKA_SASL_MECHANISM="PLAIN", HEED_KAFKA_PASSWORD="wrong"), "user or password"),
        (kafka.scram(HEED_KAFKA_USER="nobody"), "user or password"),
        (kafka.scram(HEED_KAFKA_SASL_MECHANISM="SCRAM-SHA-256"), "does not offer SCRAM-SHA-256"),
        (kafka.scram(HEED_KAFKA_CA_FILE=str(kafka.other.file)), r"not trusted .* set HEED_KAFKA_CA_FILE"),
        (kafka.scram(**elsewhere), "localhost:.* is for another name"),
        (kafka.mutual(HEED_KAFKA=kafka.at["misnamed"]), "localhost:.* is for another name"),
        (kafka.mutual(HEED_KAFKA_CERTIFICATE="", HEED_KAFKA_CERTIFICATE_KEY=""),
         "does not take this client's certificate .* set HEED_KAFKA_CERTIFICATE"),
        (kafka.mutual(HEED_KAFKA_CERTIFICATE=str(foreign.both), HEED_KAFKA_CERTIFICATE_KEY=""),
         "does not take this client's certificate"),
        (kafka.mutual(HEED_KAFKA=web), "does not speak TLS"),
        (kafka.scram(HEED_KAFKA=kafka.kafka.bootstrap, HEED_KAFKA_CA_FILE="",
                     HEED_KAFKA_SECURITY_PROTOCOL="sasl_plaintext"), "asks for no user"),
    ):  # fmt: skip
        into = broker.of(settings.Settings.load(env))
        with pytest.raises(errors.Refused, match=says) as refused:
            async with asyncio.timeout(20):
                await topic_admin.wait(into, stack.HOMES)
        assert not {kafka.password, "wrong"} & set(str(refused.value).split())
        if into.servers == kafka.at["misnamed"]:
            continue  # a client that is in already goes on trying: it is the start of a process that is told
        with pytest.raises(errors.Refused, match=says):
            await producer.LogProducer(into, "test-tls").start()
        with pytest.raises(errors.Refused, match=says):
            async with log.reading(into) as consumer:
                await consumer.topics()


async def test_a_broker_that_hangs_up_may_just_be_starting(kafka: secured.Secured) -> None:
    """It is waited for; the sentence names what else it may be."""
    for env in ({"HEED_KAFKA": kafka.at["mutual"]}, kafka.mutual(HEED_KAFKA=kafka.kafka.bootstrap)):
        with pytest.raises(errors.Away, match="HEED_KAFKA_SECURITY_PROTOCOL right") as away:
            await topic_admin.create(broker.of(settings.Settings.load(env)), stack.HOMES)
        assert not isinstance(away.value, errors.Refused)


async def test_a_user_without_rights_is_told_so(kafka: secured.Secured) -> None:
    into = broker.of(settings.Settings.load(kafka.scram(HEED_KAFKA_USER=secured.STRANGER)))
    with pytest.raises(errors.Usage, match="could not be created: TopicAuthorizationFailedError"):
        await topic_admin.create(into, stack.HOMES)


def test_processes_that_are_refused_end_with_69_and_a_sentence(
    kafka: secured.Secured, launch: stack.Launcher, database: str, tmp_path: Path
) -> None:
    env = kafka.scram(HEED_KAFKA_PASSWORD="not-this-one", HEED_POSTGRES=database, HEED_HOME=str(tmp_path))
    worker = launch.heed("worker", env=env)
    done = heed(env, "topics", "check")
    says = "does not take this user or password: check HEED_KAFKA_USER"
    assert (done.returncode, done.stdout) == (69, "")
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert worker.exit(clusters.patience(60)) == 69
    last = json.loads(worker.last_line)
    assert (last["event"], last["exit"]) == ("stopped", 69)
    assert says in last["why"]
    assert says in examine(env)["broker"]["says"]
    assert "not-this-one" not in done.stderr + "".join(worker.lines)


@pytest.mark.slow
def test_a_worker_that_runs_waits_while_its_password_is_not_taken(
    kafka: secured.Secured, database: str, launch: stack.Launcher, tmp_path: Path
) -> None:
    env = kafka.scram(HEED_POSTGRES=database, HEED_HOME=str(tmp_path))
    answered(env, "topics", "create")
    worker = launch.worker(env["HEED_KAFKA"], database, **env)
    tell(kafka, "before", database)
    kafka.change("another")
    kafka.kafka.kill()
    kafka.kafka.start()
    kafka.kafka.wait()
    worker.wait_for("SaslAuthenticationFailed", clusters.patience(60))
    assert worker.alive
    kafka.change(kafka.password)
    tell(kafka, "after", database)
    assert worker.terminate() == 0


def tell(kafka: secured.Secured, contact: str, dsn: str) -> None:
    """A click by a door, waited for in its row."""
    client = of_client(kafka, "SCRAM-SHA-512")
    maker = Producer({"bootstrap.servers": kafka.at["sasl"], "log_level": 0, **client})
    maker.produce("email-activity", traffic.click(contact))
    assert maker.flush(60) == 0
    with psycopg.connect(dsn, autocommit=True) as sql:
        asked = "select frequency from heed_data.engagement where contact_id = %s"
        stack.eventually(
            lambda: sql.execute(asked, (contact,)).fetchall() == [(1,)], contact, clusters.patience(90)
        )


@dataclass(frozen=True)
class Oldest:
    """PostgreSQL 15 that takes nobody but over TLS; `trusting` is a DSN without a certificate of its own."""

    server: Postgres
    authority: certificates.Authority
    trusting: str
    dsn: str


@pytest.fixture(scope="module")
def oldest() -> Iterator[Oldest]:
    home = Path(tempfile.mkdtemp(prefix="heed-tls-"))
    with ExitStack() as ending:
        ending.callback(rmtree, home, ignore_errors=True)
        made = postgres15.server(home / "postgres", free_ports(1)[0])
        ending.callback(made.stop)
        made.start()
        made.wait()
        authority = certificates.Authority(home, "authority")
        postgres15.secure(made, authority)
        signed = authority.sign("heed")
        trusting = f"{made.dsn()}?sslmode=verify-full&sslrootcert={authority.file}"
        yield Oldest(
            made, authority, trusting, f"{trusting}&sslcert={signed.certificate}&sslkey={signed.key}"
        )


def test_postgresql_over_tls_by_the_dsn(oldest: Oldest, tmp_path: Path) -> None:
    """Certificates on both sides; the dashboards' DSN keeps the trust."""
    foreign = str(certificates.Authority(tmp_path, "other").file)
    for wrong, says in (
        (oldest.server.dsn() + "?sslmode=disable", "no encryption"),
        (oldest.trusting, "certificate"),
        (oldest.dsn.replace("127.0.0.1", "localhost"), "host name"),
        (oldest.dsn.replace(str(oldest.authority.file), foreign), "verify failed"),
    ):
        with pytest.raises(errors.Away, match=f"^PostgreSQL cannot be reached or refused: .*{says}"):
            apply.upgrade(wrong)
        with pytest.raises(errors.Away, match="PostgreSQL cannot be reached: "):
            database_.connect(wrong, database_.LIVE_PATH, "a test")
    answered({"HEED_POSTGRES": oldest.dsn}, "migrate")
    with psycopg.connect(dashboard_dsn(oldest.trusting)) as shown:
        assert shown.info.server_version // 10_000 == 15
        assert shown.pgconn.ssl_in_use
        assert shown.execute("select frequency from heed_read.contact_engagement").fetchall() == []


@pytest.mark.slow
def test_all_of_heed_on_postgresql_15_over_tls(
    oldest: Oldest, servers: stack.Servers, launch: stack.Launcher, tmp_path: Path
) -> None:
    stack.recreate_topics(servers.bootstrap, all_topics(stack.HOMES))
    env = stack.servers_env(servers.bootstrap, oldest.dsn) | {"HEED_HOME": str(tmp_path)}
    work(launch, env, {})
    with psycopg.connect(dashboard_dsn(oldest.trusting)) as shown:
        assert shown.execute("select frequency from heed_read.contact_engagement").fetchall() == [(2,)]
