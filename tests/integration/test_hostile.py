"""Nothing that stands on a topic can stop a worker, be it at a door, on the log or on `commands`.

Each hostile record is followed by a good event on the very same partition, which has to be in its row within
a second: so the hostile one was read, set aside with its reason, and held up nobody.
"""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from schemas import topics
from tests import cluster as clusters
from tests import stack, traffic
from tests.laws import generator
from tests.oracle import broker

ADDRESS = "someone.secret@example.org"
PART = 5
DEEP = 200_000
BIG = "x" * (1 << 20)


def _click(**changed: Any) -> bytes:
    return traffic.click("victim", **changed)


def _data(**more: Any) -> dict[str, Any]:
    return {"mailing_id": "m1", "url": "https://example.org/", **more}


AT_DOORS: dict[str, tuple[bytes | None, str | None]] = {
    "empty": (b"", "undecodable"),
    "tombstone": (None, "undecodable"),
    "no UTF-8": (b"\xff\xfe{}", "undecodable"),
    "depth bomb of objects": (b'{"data":' * DEEP, "invalid"),
    "depth bomb of arrays": (b"[" * DEEP + b"]" * DEEP, "invalid"),
    "small depth bomb": (b"[" * 16_000 + b"]" * 16_000, "undecodable"),
    "depth bomb inside data": (
        _click(data=...)[:-1] + b',"data":' + b'{"a":' * 9_000 + b"1" + b"}" * 9_000 + b"}",
        "invalid",
    ),
    "shallow enough in size, too deep": (
        _click(data=...)[:-1] + b',"data":' + b'{"a":' * 900 + b"1" + b"}" * 900 + b"}",
        "undecodable",
    ),
    "NaN": (_click(data=...)[:-1] + b',"data":{"mailing_id":NaN}}', "undecodable"),
    "infinity": (_click(data=...)[:-1] + b',"data":{"mailing_id":1e999}}', "unstorable"),
    "2^63 where text belongs": (_click(data=_data(mailing_id=2**63)), "invalid"),
    "2^63 in a field nobody knows": (_click(data=_data(unknown=2**63)), None),
    "NUL in the id": (_click(id="a\0b"), "unstorable"),
    "NUL in the data": (_click(data=_data(mailing_id="a\0b")), "unstorable"),
    "half a surrogate pair": (_click(data=_data(mailing_id="\ud800")), "unstorable"),
    "year 1": (_click(time=datetime(1, 1, 1, tzinfo=UTC)), None),
    "year 0": (_click()[:-1] + b',"time":"0000-01-01T00:00:00Z"}', "unstorable"),
    "year 9999": (_click(time=datetime(9999, 12, 31, 23, 59, tzinfo=UTC)), "future"),
    "year 10000": (_click()[:-1] + b',"time":"10000-01-01T00:00:00Z"}', "unstorable"),
    "duplicate keys": (_click()[:-1] + b',"type":"mail.opened","type":"mail.delivered"}', None),
    "1 MB": (_click(data=_data(unknown=BIG)), "invalid"),
    "1 MB of rubbish": (BIG.encode(), "invalid"),
    "a newer version": (_click(dataschema="urn:heed:mail.clicked:2"), "newer_version"),
    "a type nobody knows": (_click(type="mail.eaten"), "unknown_type"),
    "a type of another door": (_click(type="contact.deleted", data={}), "wrong_door"),
    "a type of Heed's own": (_click(type="contact.erased", data={}), "wrong_door"),
    "an address for a subject": (_click(subject=f"mail:{ADDRESS}"), "no_subject"),
    "an address for a contact": (_click(subject=f"contact:{ADDRESS}"), "invalid"),
    "no subject": (_click(subject=...), "no_subject"),
    "tabs and line breaks": (_click(data=_data(mailing_id="a\tb\nc\\.\r")), None),
    "the end of a COPY": (_click(id="\\.\n\\."), None),
}


def _fact(**changed: Any) -> dict[str, Any]:
    """An envelope as Heed writes it, with members replaced or (...) left out."""
    told = generator.Told("mail.clicked", "victim", datetime.now(UTC), uuid.uuid4().hex)
    whole = {**generator.envelope(told, datetime.now(UTC)), **changed}
    return {name: value for name, value in whole.items() if value is not ...}


def _raw(**changed: Any) -> bytes:
    return json.dumps(_fact(**changed)).encode()


def _with_data(data: bytes) -> bytes:
    return _raw(data=...)[:-1] + b',"data":' + data + b"}"


ON_FACTS: dict[str, tuple[bytes | None, str | None]] = {
    "empty": (b"", "undecodable"),
    "tombstone": (None, "undecodable"),
    "no UTF-8": (b"\xff\xfe{}", "undecodable"),
    "depth bomb": (b'{"data":' * DEEP, "undecodable"),
    "depth bomb of arrays": (b"[" * DEEP + b"]" * DEEP, "undecodable"),
    "depth bomb inside data": (_with_data(b'{"a":' * DEEP + b"1" + b"}" * DEEP), "undecodable"),
    "a plain event": (traffic.click("victim"), "undecodable"),
    "no digest": (_raw(digest=...), "undecodable"),
    "a digest that is none": (_raw(digest="z" * 32), "undecodable"),
    "NaN": (_with_data(b'{"mailing_id":NaN}'), "undecodable"),
    "2^63": (_raw(time=2**63), "undecodable"),
    "NUL in the id": (_raw(id="a\0b"), "undecodable"),
    "NUL in the data": (_raw(data=_data(mailing_id="a\0b")), "undecodable"),
    "half a surrogate pair": (_raw(data=_data(mailing_id="\ud800")), "undecodable"),
    "data that is no object": (_with_data(b"[1,2]"), "undecodable"),
    "a mailing that is no text": (_with_data(b'{"mailing_id":7}'), "undecodable"),
    "year 0": (_raw(time="0000-01-01T00:00:00.000Z"), "undecodable"),
    "year 1": (_raw(time="0001-01-01T00:00:00.000Z"), None),
    "year 1, east of Greenwich": (_raw(time="0001-01-01T00:00:00.000+14:00"), "undecodable"),
    "year 9999, west of Greenwich": (
        _raw(time="9999-12-31T23:59:59.999-14:00", subject="contact:far"),
        "undecodable",
    ),
    "duplicate keys": (_raw()[:-1] + b',"id":"again","id":"and again"}', None),
    "1 MB of data": (_with_data(json.dumps(_data(unknown=BIG)).encode()), None),
    "1 MB of rubbish": (BIG.encode(), "undecodable"),
    "data over several lines": (_with_data(b'{\n\t"mailing_id": "m1",\r\n\t"url": "u"\n}'), "undecodable"),
    "the end of a COPY": (_raw(id="\\.\n\\.", source="a\tb\\N\n"), None),
    "a newer version": (_raw(dataschema="urn:heed:mail.clicked:2"), "newer_version"),
    "a version that is none": (_raw(dataschema="urn:heed:mail.clicked:one"), "invalid"),
    "a type nobody knows": (_raw(type="mail.eaten"), "unknown_type"),
    "an id without end": (_raw(id="x" * 100_000), "undecodable"),
    "a contact without a name": (_raw(subject="contact:"), "invalid"),
    "an address for a contact id": (_raw(subject="contact:a@example.org"), "invalid"),
}


def _command(**changed: Any) -> bytes:
    whole: dict[str, Any] = {
        "specversion": "1.0", "id": str(uuid.uuid4()), "source": "urn:heed", "type": "engagement.expire",
        "subject": f"home:{PART}", "time": "2026-01-01T00:00:00.000Z", "data": {"items": []}, **changed,
    }  # fmt: skip
    return json.dumps(whole).encode()


def _items(*contacts: object) -> dict[str, Any]:
    return {"items": [{"contact_id": contact, "due": "2026-01-01T00:00:00.000Z"} for contact in contacts]}


ON_COMMANDS: dict[str, tuple[bytes | None, str | None]] = {
    "empty": (b"", "undecodable"),
    "tombstone": (None, "undecodable"),
    "depth bomb": (b'{"data":' * DEEP, "undecodable"),
    "no UTF-8": (b"\xff\xfe{}", "undecodable"),
    "1 MB": (BIG.encode(), "undecodable"),
    "NUL": (_command(data=_items("a\0b")), "undecodable"),
    "an address": (_command(data=_items(ADDRESS)), "undecodable"),
    "too many items": (_command(data=_items(*["victim"] * 1001)), "undecodable"),
    "a stranger's, of contacts that are not there": (
        _command(id="mine", data=_items("nobody", "victim")),
        None,
    ),
    "a type nobody knows": (_command(type="engagement.explode", data=_items("victim")), None),
    "items that are due for ever": (_command(data={"items": [{"contact_id": "victim", "due": "\\N"}]}), None),
}


@pytest.mark.capability("LAW-7")
@pytest.mark.parametrize(
    ("topic", "records"),
    [(topics.EMAIL_ACTIVITY, AT_DOORS), (topics.FACTS, ON_FACTS), (topics.COMMANDS, ON_COMMANDS)],
    ids=["doors", "facts", "commands"],
)
def test_hostile_records_are_set_aside_and_stop_nobody(
    cluster: clusters.Cluster, topic: str, records: dict[str, tuple[bytes | None, str | None]]
) -> None:
    before = _reasons(cluster)
    producer = traffic.plain_producer(cluster.bootstrap)
    slow = {}
    for name, (raw, _) in records.items():
        traffic.send(producer, topic, raw, partition=PART)
        seconds = cluster.good_event_after(topic, PART, producer)
        if seconds > clusters.patience(1.0):
            slow[name] = seconds
    cluster.settle()
    cluster.assert_alive(*clusters.THREE)
    assert not slow, "good events waited behind these"

    found = {row["off"]: row["reason"] for row in cluster.parked(topic) if row["part"] == PART}
    placed = _places(cluster.bootstrap, topic, records)
    assert {name: found.get(placed[name]) for name in records} == {
        name: why for name, (_, why) in records.items()
    }
    wanted = Counter(why for _, why in records.values() if why is not None)
    assert _reasons(cluster) - before == wanted, "parked and not counted, or counted twice"
    for row in cluster.parked(topic):
        assert bytes(row["bytes"]) == (dict(_by_place(placed, records)).get(row["off"]) or b"")


def _reasons(cluster: clusters.Cluster) -> Counter[str]:
    return Counter(
        {
            reason: int(cluster.metric("heed_parked_total", reason=reason))
            for reason in ("undecodable", "invalid", "unknown_type", "newer_version", "unstorable", "future",
                           "wrong_door", "no_subject")
        }
    )  # fmt: skip


def _places(
    bootstrap: str, topic: str, records: dict[str, tuple[bytes | None, str | None]]
) -> dict[str, int]:
    """Where each hostile record stands: by its bytes, in the order sent."""
    stand = [record for record in broker.records(bootstrap, topic) if record.partition == PART]
    found: dict[str, int] = {}
    for record in stand:
        for name, (raw, _) in records.items():
            if name not in found and record.value == (raw or b""):
                found[name] = record.offset
                break
    return found


def _by_place(placed: dict[str, int], records: dict[str, tuple[bytes | None, str | None]]) -> list[Any]:
    return [(placed[name], raw) for name, (raw, _) in records.items()]


@pytest.mark.capability("LAW-6")
def test_no_address_sent_as_a_subject_stands_in_the_log(
    cluster: clusters.Cluster, servers: stack.Servers
) -> None:
    subjects = [f"mail:{ADDRESS}", f"contact:{ADDRESS}", ADDRESS, f"phone:+3120555{ADDRESS}"]
    producer = traffic.plain_producer(cluster.bootstrap)
    for subject in subjects:
        traffic.send(producer, topics.EMAIL_ACTIVITY, traffic.click("x", subject=subject), key=subject)
    assert producer.flush(30) == 0
    cluster.settle()
    parked = cluster.parked(topics.EMAIL_ACTIVITY)
    assert sum(ADDRESS.encode() in bytes(row["bytes"]) for row in parked) >= len(subjects)
    segments = list(servers.home.glob("kafka/data/facts-*/*.log"))
    assert sum(path.stat().st_size for path in segments) > 0
    assert [path for path in segments if ADDRESS.encode() in path.read_bytes()] == []


@pytest.mark.capability("LAW-4")
@pytest.mark.parametrize("topic", [topics.EMAIL_ACTIVITY, topics.FACTS])
def test_a_foreign_transaction_counts_when_it_is_committed_and_leaves_no_lag(
    cluster: clusters.Cluster, topic: str
) -> None:
    foreign = {"transactional.id": f"foreign-{uuid.uuid4().hex}", "message.timeout.ms": 30_000}
    made = traffic.plain_producer(cluster.bootstrap, **foreign)
    made.init_transactions(30)
    contacts: dict[bool, list[str]] = {True: [], False: []}
    ends: dict[bool, Callable[[float], None]] = {True: made.commit_transaction, False: made.abort_transaction}
    for commits in (True, False, True, False):
        made.begin_transaction()
        for part in range(stack.HOMES):
            contact = traffic.contact_of(part)
            contacts[commits].append(contact)
            traffic.send(made, topic, traffic.as_on(topic, contact), partition=part)
        made.flush(30)
        ends[commits](30)
    cluster.settle()
    cluster.assert_alive(*clusters.THREE)

    found = {row["contact_id"] for row in cluster.sql("select contact_id from heed_data.engagement")}
    assert set(contacts[True]) <= found
    assert not set(contacts[False]) & found
    # The last record of each partition is a control record: positions stand behind it, and lag says so.
    stack.eventually(
        lambda: cluster.metric("heed_lag_records") == 0, "no lag is left", clusters.patience(10.0), 0.1
    )
    lag = cluster.sql("select sum(lag_records) as n from heed_read.freshness where owner_state = 'live'")
    assert lag[0]["n"] == 0


def test_facts_in_the_wrong_home_are_folded_where_they_belong(cluster: clusters.Cluster) -> None:
    contact, right = "lost", topics.home("contact:lost", stack.HOMES)
    producer = traffic.plain_producer(cluster.bootstrap)
    for part in range(stack.HOMES):
        told = generator.Told(
            "mail.clicked", contact, datetime.now(UTC), uuid.uuid4().hex, mailing=f"m{part}"
        )
        raw = json.dumps(generator.envelope(told, datetime.now(UTC))).encode()
        traffic.send(producer, topics.FACTS, raw, partition=part)
    assert producer.flush(30) == 0
    cluster.wait_row(contact, stack.HOMES)
    row = cluster.row(contact)
    assert row is not None
    assert row["home"] == right
    assert row["valid_until"] > datetime.now(UTC) + timedelta(days=300)
    cluster.settle()
