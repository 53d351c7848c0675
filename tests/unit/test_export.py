"""What is told of a fact that is sealed: opened, erased, or an error; never one for the other."""

from __future__ import annotations

from typing import Any

import pytest

from schemas import codec, envelope, sealing
from streams import export, plain
from tests import keyring
from tests.unit import samples


def row(name: str = "mail.clicked") -> dict[str, Any]:
    """A row of `fact`, as the export reads it."""
    fact = envelope.read_fact(keyring.sealed(samples.admitted(samples.event(name))).value)
    return {
        "subject": fact.subject,
        "source": fact.source,
        "id": fact.id,
        "data": bytes(fact.data).decode(),
        "sealed": fact.sealed,
        "kid": fact.kid,
    }


def kept(key: bytes | None) -> dict[str, sealing.KeyRecord]:
    kid = keyring.key_of("contact:ada").kid
    master = keyring.master()
    return {kid: sealing.KeyRecord(kid, key and master.wrap(key, kid), master.id)}


KEY = keyring.raw_key_of("contact:ada")


def told(fact: dict[str, Any], keys: dict[str, sealing.KeyRecord]) -> dict[str, Any]:
    [found] = export._opened([fact], keys, keyring.master())
    return found


@pytest.mark.capability("LAW-6")
@pytest.mark.parametrize("name", ["mail.clicked", "mail.bounced", "mail.sent"])
def test_a_sealed_fact_is_told_whole(name: str) -> None:
    found = told(row(name), kept(KEY))
    assert found["data"] == samples.DATA[name]
    assert found.keys() == {"subject", "source", "id", "data"}


def test_a_fact_that_holds_nothing_personal_needs_no_key() -> None:
    assert told(row("mail.unsubscribed"), {})["data"] == samples.DATA["mail.unsubscribed"]


def test_a_destroyed_key_leaves_what_is_open_and_says_so() -> None:
    found = told(row(), kept(None))
    assert (found["erased"], found["data"]) == (True, {"mailing_id": "m1"})


def test_a_missing_key_is_never_taken_for_a_destroyed_one() -> None:
    with pytest.raises(export.NotOpened, match="It was not erased") as refused:
        told(row(), {})
    assert refused.value.exit_code == 3


@pytest.mark.parametrize("change", [{"id": "e2"}, {"source": "urn:other"}, {"sealed": "AAAA"}])
def test_a_sealed_part_that_was_changed_is_an_error(change: dict[str, str]) -> None:
    with pytest.raises(export.NotOpened, match="cannot be opened with its key"):
        told(row() | change, kept(KEY))


def test_a_key_under_another_master_key_is_an_error() -> None:
    other = sealing.MasterKeys([b"another master key, of 32 bytes!"])
    with pytest.raises(sealing.Unopened, match=keyring.master().id):
        export._opened([row()], kept(KEY), other)


def test_the_two_parts_make_the_whole_again() -> None:
    outcome = samples.admitted(samples.event("mail.bounced", data=samples.DATA["mail.bounced"]))
    opened = bytes(envelope.read_fact(outcome.value).data)
    assert codec.joined(opened, outcome.personal) == codec.joined(
        samples.encode(samples.DATA["mail.bounced"]), b"{}"
    )


def test_times_are_told_as_heed_writes_them() -> None:
    assert plain.told([{"at": samples.AT, "n": 1}]) == [{"at": "2026-11-22T14:39:47.123Z", "n": 1}]
