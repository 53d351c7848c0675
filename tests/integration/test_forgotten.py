"""A contact is erased, and nothing that was personal of it can be read anywhere (LAW-6).

Each personal field of each type, at each door, has a word that stands nowhere else; so has each parked
record. The contact has another one merged into it and a session. Words are looked for by `tests.readable`,
first to see that they are found, then to see that they are not. What stays readable until it expires are the
doors, and parked records whose contact nobody can tell.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from schemas import events, sealing, topics
from tests import cluster as clusters
from tests import readable, stack, traffic
from tests.integration import test_cli, test_sealing
from tests.oracle import broker as reading
from tests.unit import samples

pytestmark = [pytest.mark.slow, pytest.mark.capability("LAW-6")]

# The root, a contact merged into it, and a session of it.
SUBJECTS = ("contact:gone", "contact:merged", "session:visit")
DOORS = tuple(f"topic {name}" for name in topics.DOORS)
PARKED = ("table heed_ops.parked", "dump")
PATHS = (
    "", "/engagement", "/engagement/explain", "/activity", "/export",
)  # fmt: skip
LISTS = (
    "/v1/activity", "/v1/activity?format=csv", "/v1/engagement", "/v1/parked", "/v1/audit",
    "/v1/contacts/stays", "/v1/contacts/late", "/v1/contacts/late/activity",
)  # fmt: skip
HELD = "select count(*) as n from {} where subject = any(%s)"
KEYS = "select count(*) as n from heed_ops.data_key where subject = any(%s) and not destroyed"


@pytest.fixture(scope="module")
def cluster(
    servers: stack.Servers, module_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[clusters.Cluster]:
    """One worker that says all it can."""
    stack.recreate_topics(servers.bootstrap, topics.all_topics(stack.HOMES))
    home: Path = tmp_path_factory.mktemp("home")
    with stack.Launcher() as launch:
        made = clusters.Cluster(launch, servers.bootstrap, module_database, home, HEED_LOG_LEVEL="debug")
        yield made.start("worker-1")
        made.tell()
        made.close()


class Words:
    """Words that stand in one place each, and what was told with them."""

    def __init__(self) -> None:
        self.sealed: set[str] = set()
        self.parked: set[str] = set()
        self.untold: set[str] = set()  # parked, and nobody can tell whose it is

    def word(self, of: set[str]) -> str:
        of.add(found := f"{uuid.uuid4().hex}@example.org")
        return found

    def _marked(self, kind: events.EventType) -> dict[str, Any]:
        found = samples.marked(kind, lambda: self.word(self.sealed))
        self.sealed |= set(samples.words(found))
        return found

    def facts(self, subject: str) -> list[dict[str, Any]]:
        """An event of every type that can be told of a subject and has something personal."""
        return [
            samples.event(
                kind.name,
                id=uuid.uuid4().hex,
                subject=subject,
                data={**samples.DATA[kind.name], **self._marked(kind)},
            )
            for kind in events.built()
            if kind.personal and subject.startswith(kind.subjects)
        ]

    def waiting(self, subject: str) -> list[dict[str, Any]]:
        """Events that are parked whichever way they come, though all is right with them."""
        url = {"mailing_id": "m1", "url": self.word(self.parked)}
        return [
            samples.event(id=self.word(self.parked), subject=subject, time="2100-01-01T00:00:00Z", data=url),
            samples.event(
                "custom.received", id=self.word(self.parked), subject=subject,
                data={"name": "asked", "text": self.word(self.parked)},
            ),
        ]  # fmt: skip

    def wrong(self, subject: str) -> list[dict[str, Any]]:
        """Events with something wrong, of which it can be told whose they are."""
        kinds: tuple[tuple[str, dict[str, Any]], ...] = (
            ("mail.clicked", {"data": {"mailing_id": 7, "url": self.word(self.parked)}}),
            ("mail.read", {"data": {"text": self.word(self.parked)}}),
            ("mail.opened", {"dataschema": "urn:heed:mail.opened:9", "data": {"a": self.word(self.parked)}}),
            ("contact.erased", {"data": {"covers": [subject], "why": self.word(self.parked)}}),
        )
        return [
            samples.event(name, id=self.word(self.parked), subject=subject, **more) for name, more in kinds
        ]

    def nobodys(self) -> list[bytes]:
        """Bytes of which nobody can tell whose they are."""
        about = samples.event(subject=f"email:{self.word(self.untold)}", id="nobody")
        return [self.word(self.untold).encode(), samples.encode(about)]


def at_doors(told: Iterable[dict[str, Any]]) -> list[tuple[str, bytes | None]]:
    """As a plain producer sends them; what no door takes comes by that of mail."""
    built = {kind.name: kind.door for kind in events.EVENTS.values() if kind.door is not None}
    return [(built.get(one["type"], topics.EMAIL_ACTIVITY), samples.encode(one)) for one in told]


def post(url: str, told: list[dict[str, Any]]) -> list[str]:
    """Events by HTTP; answers the reason of each that was not accepted."""
    answer = httpx.post(f"{url}/v1/events", json=told, timeout=60)
    assert answer.status_code in (202, 400), answer.text
    return [one.get("reason") or one["status"] for one in answer.json()["outcomes"]]


def link(name: str, subject: str, **data: str) -> dict[str, Any]:
    return samples.event(name, id=uuid.uuid4().hex, subject=subject, data=data)


def tell(cluster: clusters.Cluster, url: str) -> Words:
    """Everything of the contact, by every way there is."""
    words = Words()
    links = [
        link("contact.merged", "contact:merged", into="gone"),
        link("session.linked", "session:visit", contact_id="gone"),
        link("contact.consent_changed", "contact:gone", level="individual"),
    ]
    traffic.send_all(cluster.bootstrap, at_doors(links))
    for subject in SUBJECTS:
        by_http, by_door = words.facts(subject), words.facts(subject)
        assert set(post(url, by_http)) == {"accepted"}
        assert set(post(url, words.waiting(subject))) == {"future", "undefined_event"}
        told = [*by_door, *words.waiting(subject), *words.wrong(subject)]
        traffic.send_all(cluster.bootstrap, at_doors(told))
    traffic.send_all(cluster.bootstrap, [(topics.EMAIL_ACTIVITY, raw) for raw in words.nobodys()])
    cluster.settle()
    return words


def counted(cluster: clusters.Cluster) -> dict[str, int]:
    """How many facts, of whichever pair of tables, parked records and keys there are of the contact."""
    tables = [f"{one['schema']}.{one['name']}" for one in cluster.sql(readable.SEALED)]
    found = {name: HELD.format(name) for name in (*tables, "heed_ops.parked")} | {"keys": KEYS}
    return {name: cluster.sql(asked, list(SUBJECTS))[0]["n"] for name, asked in found.items()}


def wait_gone(cluster: clusters.Cluster) -> None:
    stack.eventually(
        lambda: not any(counted(cluster).values()),
        f"nothing is held any more: {counted(cluster)}",
        clusters.patience(60),
        0.2,
    )
    cluster.settle()


def late(cluster: clusters.Cluster, url: str) -> Words:
    """What comes after the erasure: by doors, by HTTP, and by a process that had judged it before."""
    words = Words()
    for subject in SUBJECTS:
        told = words.facts(subject)
        stack.eventually(
            lambda told=told: set(post(url, told)) == {"erased"},  # type: ignore[misc]
            "the API knows of it, within a second",
            clusters.patience(10),
        )
        assert set(post(url, words.waiting(subject))) == {"erased"}
        told += [*words.waiting(subject), *words.wrong(subject)]
        traffic.send_all(cluster.bootstrap, at_doors(told))
        slow = samples.admitted(words.facts(subject)[0], door=None)
        test_sealing.tell(cluster, slow)
    links = [
        link("session.linked", "session:late", contact_id="gone"),
        link("contact.merged", "contact:late", into="gone"),
        link("contact.merged", "contact:gone", into="late"),
    ]
    traffic.send_all(cluster.bootstrap, at_doors(links))
    cluster.settle()
    return words


def see_nothing(
    cluster: clusters.Cluster, servers: stack.Servers, url: str, words: Words, stays: Words
) -> None:
    """No word is to be read, but those that are to stay."""
    readable.compact(cluster.bootstrap)
    found = readable.places(cluster, servers, [url])
    for path in (*(f"/v1/contacts/{one.split(':')[1]}{path}" for one in SUBJECTS[:2] for path in PATHS),
                 f"/v1/sessions/{SUBJECTS[2].split(':')[1]}"):  # fmt: skip
        answer = httpx.get(url + path, timeout=30)
        assert answer.status_code in (410, 404), (path, answer.text)
        found[path] = answer.content
    for path in LISTS:
        found[path] = httpx.get(url + path, timeout=30).content
    assert not readable.where(words.sealed | words.parked, found, DOORS)
    assert {place for _, place in readable.where(words.untold, found, DOORS)} <= {*PARKED, "/v1/parked"}
    stand = readable.where(stays.sealed, found, DOORS)
    assert {word for word, _ in stand} == stays.sealed, "what is another's can be read as before"
    assert {"sealed on the log", "sealed in heed_data.fact"} <= {place for _, place in stand}


def test_nothing_of_an_erased_contact_can_be_read(
    cluster: clusters.Cluster, url: str, servers: stack.Servers
) -> None:
    stays = Words()
    assert set(post(url, stays.facts("contact:stays"))) == {"accepted"}
    words = tell(cluster, url)
    before = readable.places(cluster, servers, [url])
    seen = readable.where(words.sealed, before, DOORS)
    for place in ("sealed on the log", "sealed in heed_data.fact"):
        assert {word for word, where in seen if where == place} == words.sealed, place
    seen = readable.where(words.parked, before, DOORS)
    for place in PARKED:
        assert {word for word, where in seen if where == place} == words.parked, place
    assert not readable.where(
        words.sealed, before, {*DOORS, *(place for place in before if "sealed" in place)}
    )

    asked = {"why": "She asked for it."}
    refused = httpx.post(f"{url}/v1/contacts/merged/erase", json=asked, timeout=60)
    assert (refused.status_code, refused.json()["merged_into"]) == (409, "gone")
    assert all(counted(cluster).values()), "a question erases nothing"
    began = time.monotonic()
    done = httpx.post(f"{url}/v1/contacts/merged/erase", json=asked | {"whole": True}, timeout=60)
    assert done.status_code == 200, done.text
    identifiers = 2 * 2 * 4  # of two contacts, each told by both ways of a number, an id and two addresses
    assert (done.json()["contact_id"], done.json()["subjects"]) == ("gone", 3 + identifiers)
    wait_gone(cluster)
    print(f"erased within {time.monotonic() - began:.1f} s")
    again = test_cli.heed(cluster, "erase", "gone", "--yes", "--json")
    assert again.returncode == 0, again.stdout + again.stderr
    assert json.loads(again.stdout)["held"] == {"facts": 0, "keys": 0}

    wrong = late(cluster, url)
    wait_gone(cluster)
    words.sealed |= wrong.sealed
    words.parked |= wrong.parked
    kept = cluster.sql("select * from heed_ops.parked where reason = 'erased'")
    assert len(kept) >= len(SUBJECTS) * 3
    for one in kept:
        assert not any(one[name] for name in ("bytes", "event_id", "source", "subject")), one
    assert not cluster.sql("select from heed_data.member where root = any(%s)", list(SUBJECTS))
    for contact in ("gone", "merged"):
        export = test_cli.heed(cluster, "export", contact)
        assert export.returncode == 2 and "erased" in export.stderr, export.stdout + export.stderr
    see_nothing(cluster, servers, url, words, stays)

    replayed = test_cli.heed(cluster, "replay", "--json")
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr
    wait_gone(cluster)
    see_nothing(cluster, servers, url, words, stays)
    back = test_cli.heed(cluster, "replay", "--back", "--json")
    assert back.returncode == 0, back.stdout + back.stderr
    wait_gone(cluster)
    see_nothing(cluster, servers, url, words, stays)
    cluster.assert_alive()


def test_a_key_of_an_erased_contact_that_is_made_later_is_destroyed(cluster: clusters.Cluster) -> None:
    """As by a process that had judged an event of it and was slow to tell."""
    event = samples.admitted(samples.event(subject="contact:gone", id=uuid.uuid4().hex))
    [kid] = test_sealing.tell(cluster, event)
    wait_destroyed(cluster, kid)
    wait_gone(cluster)


def wait_destroyed(cluster: clusters.Cluster, kid: str) -> None:
    """On the topic as in the table."""

    def destroyed() -> bool:
        found = cluster.sql("select destroyed from heed_ops.data_key where kid = %s", kid)
        return found == [{"destroyed": True}]

    stack.eventually(destroyed, f"{kid} is destroyed", clusters.patience(30))
    last = [one for one in reading.records(cluster.bootstrap, topics.KEYS) if one.key == kid.encode()]
    assert sealing.read_record(last[-1].value).wrapped is None
