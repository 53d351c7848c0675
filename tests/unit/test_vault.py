"""Keys at hand: looked for, else made, only for what is sealed, and on their topic before that leaves."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from schemas import admission, envelope, errors, sealing
from streams import producer, vault
from tests import keyring
from tests.unit import samples


class Keys:
    """The topic `keys` and PostgreSQL's copy of it."""

    def __init__(self, *known: sealing.KeyRecord) -> None:
        self.known = {one.subject: one for one in known}
        self.asked: list[set[str]] = []
        self.records: list[producer.Record] = []
        self.away = False

    def find(self, subjects: Iterable[str]) -> list[sealing.KeyRecord]:
        if self.away:
            raise errors.Away
        self.asked.append(set(subjects))
        return [self.known[one] for one in subjects if one in self.known]

    def append(self, records: Sequence[producer.Record]) -> None:
        self.records += records

    async def ask(self, subjects: Iterable[str]) -> list[sealing.KeyRecord]:
        return self.find(subjects)

    async def send(self, records: Sequence[producer.Record]) -> None:
        self.append(records)


def held() -> vault.Vault:
    return vault.Vault(keyring.master(), "postgresql://nobody@127.0.0.1:1/none", keyring.SECRET)


def click(contact: str = "ada", **more: Any) -> admission.Admitted:
    return samples.admitted(samples.event(subject=f"contact:{contact}", **more))


def opened(event: admission.Admitted, record: producer.Record) -> dict[str, Any]:
    """What is sealed in an event, by a key as it stands on its topic."""
    kept = sealing.read_record(record.value)
    assert kept.wrapped is not None and kept.master is not None
    key = sealing.DataKey(kept.kid, keyring.master().unwrap(kept.wrapped, kept.kid, kept.master))
    fact = envelope.read_fact(event.value)
    assert fact.kid == key.kid
    found: dict[str, Any] = json.loads(key.open(fact.source, fact.id, fact.sealed or ""))
    return found


@pytest.mark.capability("LAW-6")
def test_a_key_is_made_once_and_only_for_what_is_sealed() -> None:
    there, mine = Keys(), held()
    plain = samples.admitted(samples.event("mail.unsubscribed", subject="contact:bob"))
    first = mine.sealed([click(), plain, click(id="e2")], there.find, there.append)
    again = mine.sealed([click(id="e3")], there.find, there.append)
    [record] = there.records
    assert there.asked == [{"contact:ada"}]
    assert record.topic == "keys"
    assert record.key == sealing.read_record(record.value).kid.encode()
    assert first[1] is plain
    for event in (first[0], first[2], *again):
        assert event.personal == b""
        assert b"example.org" not in event.value
        assert opened(event, record) == {"url": samples.DATA["mail.clicked"]["url"]}


def test_a_key_that_another_process_made_is_used() -> None:
    one, other = Keys(), held()
    held().sealed([click()], one.find, one.append)
    [record] = one.records
    two = Keys(sealing.read_record(record.value))
    [event] = other.sealed([click()], two.find, two.append)
    assert two.records == []
    assert opened(event, record)


def test_what_it_is_sealed_with_is_no_part_of_a_facts_content() -> None:
    facts = []
    for _ in range(2):
        there = Keys()
        [event] = held().sealed([click()], there.find, there.append)
        facts.append(envelope.read_fact(event.value))
    assert facts[0].kid != facts[1].kid
    assert facts[0].sealed != facts[1].sealed
    assert (facts[0].digest, bytes(facts[0].data)) == (facts[1].digest, bytes(facts[1].data))


def test_nothing_leaves_before_its_key_is_on_the_topic() -> None:
    mine, there = held(), Keys()

    def away(_: object) -> None:
        raise errors.Away

    with pytest.raises(errors.Away):
        mine.sealed([click()], there.find, away)
    mine.sealed([click()], there.find, there.append)
    assert len(there.records) == 1, "a key that was not acknowledged is not kept"


def test_a_key_under_a_master_key_that_is_not_here_stops() -> None:
    other = sealing.MasterKeys([b"another master key, of 32 bytes!"])
    kid = "contact:ada#0123456789abcdef"
    there = Keys(sealing.KeyRecord(kid, other.wrap(b"k" * 32, kid), other.id))
    with pytest.raises(sealing.Unopened, match=other.id):
        held().sealed([click()], there.find, there.append)
    assert there.records == []


async def test_an_event_loop_seals_as_a_thread_does() -> None:
    mine, there = held(), Keys()
    [event] = await mine.sealed_soon([click()], there.ask, there.send)
    [record] = there.records
    assert opened(event, record)
    assert await mine.sealed_soon([], there.ask, there.send) == []


async def test_without_postgresql_a_key_is_made() -> None:
    mine, there = held(), Keys()
    there.away = True
    [event] = await mine.sealed_soon([click()], there.ask, there.send)
    assert opened(event, there.records[0])


def test_each_has_a_nonce_of_its_own() -> None:
    there = Keys()
    sealed = held().sealed([click(id=f"e{n}") for n in range(500)], there.find, there.append)
    parts = [base64.b64decode(envelope.read_fact(event.value).sealed or "") for event in sealed]
    assert len({part[: sealing.NONCE_BYTES] for part in parts}) == 500


def test_so_many_keys_are_held_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vault, "MOST", 2)
    mine, there = held(), Keys()
    everyone = [click(contact) for contact in ("ada", "bob", "cid")]
    assert len(mine.sealed(everyone, there.find, there.append)) == 3
    assert len(mine._keys) == 2
    mine.sealed(everyone, there.find, there.append)
    assert there.asked[1] in ({"contact:ada"}, {"contact:bob"}, {"contact:cid"})


async def test_the_secret_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async def made(*_: object) -> bytes:
        return b"s" * 32

    monkeypatch.setattr("streams.installation.secret", made)
    mine = vault.Vault(keyring.master(), "postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(errors.Away):
        await mine.secret_within(0.01)
    waits = asyncio.create_task(mine.secret_within(5))
    nobody: Any = None
    await mine.wait(nobody, nobody)
    assert await waits == mine.secret == b"s" * 32


def test_the_secret_is_not_there_before_it_was_read() -> None:
    with pytest.raises(errors.Away):
        _ = vault.Vault(keyring.master(), "").secret
