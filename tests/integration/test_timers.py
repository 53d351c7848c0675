"""What leaves its window leaves the table at that instant, and a command says so to any Kafka consumer."""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from schemas import topics
from tests import cluster as clusters
from tests import stack, traffic

MS = timedelta(milliseconds=1)


@pytest.mark.capability("CEE-8", "CEE-6")
def test_a_row_goes_from_the_table_at_its_instant_and_its_command_arrives(cluster: clusters.Cluster) -> None:
    contacts: dict[str, datetime] = {}

    def told(ends: datetime) -> tuple[str, list[bytes]]:
        names = [f"leaving-{n}-{uuid.uuid4().hex[:6]}" for n in range(200)]
        contacts.clear()
        contacts.update({name: ends + n * 10 * MS for n, name in enumerate(names)})
        return names[0], [
            traffic.click(name, time=traffic.dated_to_leave(end)) for name, end in contacts.items()
        ]

    first, row = _folded_in_time(cluster, 4.0, told)
    assert row["valid_until"] == contacts[first] + MS

    stack.eventually(lambda: not _left(cluster, contacts), "all rows are gone", clusters.patience(10.0))
    assert cluster.quantile("heed_timer_lateness_seconds", 0.99) <= clusters.patience(1.0)
    _check_commands(cluster, contacts)
    # The fold has read its commands back: the outbox is empty, and nothing changed by it.
    stack.eventually(lambda: not cluster.sql("select 1 from heed_ops.outbox"), "the outbox is empty", 20)
    cluster.settle()
    cluster.check()


@pytest.mark.capability("CEE-3")
def test_a_row_changes_at_the_end_of_each_window_before_it_goes(cluster: clusters.Cluster) -> None:
    def told(ends: datetime) -> tuple[str, list[bytes]]:
        contact = f"both-{uuid.uuid4().hex[:6]}"
        return contact, [
            traffic.click(contact, mailing="m1"),
            traffic.click(contact, mailing="m2", time=traffic.dated_to_leave(ends)),
            traffic.click(
                contact,
                mailing="m3",
                type="mail.delivered",
                time=ends - timedelta(days=30),
                data={"mailing_id": "m3"},
            ),
        ]

    contact, before = _folded_in_time(cluster, 3.0, told, frequency=2)
    assert (before["frequency"], before["volume"], before["volume_last_30"]) == (2, 1, 1)
    cluster.wait_row(contact, 1, clusters.patience(10.0))
    after = cluster.row(contact)
    assert after is not None
    assert (after["volume"], after["volume_last_30"]) == (1, 0)
    cluster.check()


@pytest.mark.capability("CEE-8")
def test_a_command_told_twice_or_by_a_stranger_does_nothing(cluster: clusters.Cluster) -> None:
    contact = f"standing-{uuid.uuid4().hex[:6]}"
    traffic.send_all(cluster.bootstrap, [(topics.EMAIL_ACTIVITY, traffic.click(contact))])
    cluster.settle()
    before = cluster.row(contact)
    command = {
        "specversion": "1.0", "id": str(uuid.uuid4()), "source": "urn:stranger", "type": "engagement.expire",
        "data": {"items": [{"contact_id": contact, "due": traffic.utc(datetime.now(UTC))}]},
    }  # fmt: skip
    traffic.send_all(cluster.bootstrap, [(topics.COMMANDS, json.dumps(command).encode())] * 3)
    cluster.settle()
    assert cluster.row(contact) == before
    cluster.check()


@pytest.fixture
def without_timers(
    servers: stack.Servers, database: str, topics: str, launch: stack.Launcher, tmp_path: Path
) -> Iterator[clusters.Cluster]:
    made = clusters.Cluster(launch, topics, database, tmp_path, HEED_TIMERS="off")
    yield made.start("worker-1")
    made.close()


@pytest.mark.capability("CEE-8")
def test_without_timers_rows_stay_until_somebody_asks(without_timers: clusters.Cluster) -> None:
    cluster = without_timers

    def told(ends: datetime) -> tuple[str, list[bytes]]:
        contact = f"asked-for-{uuid.uuid4().hex[:6]}"
        return contact, [traffic.click(contact, time=traffic.dated_to_leave(ends))]

    contact, _ = _folded_in_time(cluster, 1.0, told)
    stack.eventually(lambda: _shown(cluster, contact) == 0, "the view shows it no more", 60)
    cluster.wait_beats(2)
    assert cluster.row(contact) is not None, "with HEED_TIMERS=off the table waits"
    home = topics.home(f"contact:{contact}", stack.HOMES)
    cluster.sql(
        "insert into heed_data.nudge (home, subject, reason) values (%s, %s, 'refresh')",
        home,
        f"contact:{contact}",
    )
    cluster.wait_row(contact, 0, clusters.patience(5.0))
    assert [item["contact_id"] for item in _items(cluster, {contact})] == [contact]


def _folded_in_time(
    cluster: clusters.Cluster,
    seconds: float,
    told: Callable[[datetime], tuple[str, list[bytes]]],
    *,
    frequency: int = 1,
) -> tuple[str, dict[str, Any]]:
    """A contact whose row stands with this frequency and has a part that leaves soon, and the row.

    `told` gives a fresh contact and its events for an instant. What is folded after that instant never
    stood in the row, which is right but shows nothing: such a contact is left, and the next gets more time.
    """
    for _ in range(5):
        ends = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=math.ceil(seconds))
        contact, events = told(ends)
        traffic.send_all(cluster.bootstrap, [(topics.EMAIL_ACTIVITY, raw) for raw in events])
        cluster.settle()
        row = cluster.row(contact)
        if row is not None and row["frequency"] == frequency:
            return contact, row
        seconds *= 2
    pytest.fail(f"no event was folded within {seconds / 2:.0f} s of its sending")


def _left(cluster: clusters.Cluster, contacts: dict[str, datetime]) -> int:
    found = cluster.sql(
        "select count(*) as n from heed_data.engagement where contact_id = any(%s)", list(contacts)
    )
    return int(found[0]["n"])


def _shown(cluster: clusters.Cluster, contact: str) -> int:
    found = cluster.sql(
        "select count(*) as n from heed_read.contact_engagement where contact_id = %s", contact
    )
    return int(found[0]["n"])


def _check_commands(cluster: clusters.Cluster, contacts: dict[str, datetime]) -> None:
    found = {item["contact_id"]: item["due"] for item in _items(cluster, set(contacts))}
    assert found == {contact: traffic.utc(end + MS) for contact, end in contacts.items()}


def _items(cluster: clusters.Cluster, contacts: set[str]) -> list[dict[str, str]]:
    """The items of commands that name these contacts, as a plain consumer reads them, once all are named."""
    items: list[dict[str, str]] = []
    wanted = 1
    while {item["contact_id"] for item in items} != contacts:
        messages = traffic.read_all(cluster.bootstrap, topics.COMMANDS, wanted)
        items = []
        for message in messages:
            told = json.loads(message.value() or b"")
            assert (message.key() or b"").decode() == told["subject"] == f"home:{message.partition()}"
            assert (told["type"], len(told["data"]["items"]) <= 1000) == ("engagement.expire", True)
            items += [item for item in told["data"]["items"] if item["contact_id"] in contacts]
        wanted = len(messages) + 1
    return items
