"""The oracle's own way to what is sealed: opened, and the digest proved, by code that shares none of ours."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from schemas import links, sealing
from streams import telling
from tests import keyring
from tests.oracle import keys
from tests.oracle.broker import Record
from tests.unit import samples


class Topic:
    """The topic `keys`: the secret of tests, and keys of contacts."""

    def __init__(self, *subjects: str) -> None:
        secret = keyring.secret_record()
        self.values = [b"{", secret[1], *(keyring.record_of(one) for one in subjects)]

    def read(self) -> list[Record]:
        return [Record("keys", 0, n, 0, None, value, {}) for n, value in enumerate(self.values)]

    def keys(self) -> keys.Keys:
        return keys.Keys(self.read, [keyring.MASTER_BYTES])


OWN = telling.Entry("contact.merged", "contact:bob", links.Merged("ada"), "key:1")
SEALED = json.loads(keyring.sealed(samples.admitted(samples.event())).value)


def test_what_is_sealed_is_proved_with_the_digest_of_all_that_was_told() -> None:
    held = Topic("contact:ada").keys()
    assert held.fault(SEALED) is None
    assert held.fault(json.loads(samples.admitted(samples.event("mail.unsubscribed")).value)) is None
    assert held.fault({**SEALED, "id": "e2"}) == "the sealed part does not open"
    assert held.fault({**SEALED, "sealed": "AAAA"}) == "the sealed part does not open"
    wrong = "the digest is not that of type and data"
    assert held.fault({**SEALED, "digest": "0" * 32}) == wrong
    assert held.fault({**SEALED, "data": {"mailing_id": "m2"}}) == wrong
    own = json.loads(telling.record(OWN).value)
    assert held.fault(own) is None
    assert held.fault({**own, "source": "urn:test"}) == wrong


def test_a_key_that_is_missing_is_named_and_one_that_is_destroyed_passed_over() -> None:
    topic = Topic()
    held = topic.keys()
    assert held.fault(SEALED) == "its key is not on the topic"
    topic.values.append(keyring.record_of("contact:ada"))
    assert held.fault(SEALED) is None
    topic.values += [sealing.write_destroyed(SEALED["kid"]), keyring.record_of("contact:ada")]
    assert topic.keys().fault({**SEALED, "digest": "0" * 32}) is None


@given(
    st.dictionaries(
        st.text(st.characters(codec="ascii"), max_size=9),
        st.text(max_size=9) | st.booleans() | st.integers(-9, 9) | st.lists(st.text(max_size=3), max_size=2),
    )
)
def test_the_fast_digest_is_the_digest(data: dict[str, Any]) -> None:
    canonical = rfc8785.dumps({"type": "t", "data": data})
    wanted = hashlib.blake2b(canonical, digest_size=16, key=b"k").hexdigest()
    assert keys.digest("t", data, b"k") == wanted
