"""Keys: named, wrapped, written and read; what was changed anywhere is not opened."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import errors, sealing
from tests import keyring
from tests.unit import samples

KID = "contact:ada#0123456789abcdef"
KEY = bytes(range(32))
OTHER = b"another master key, of 32 bytes!"


def test_a_wrapped_key_is_opened_by_its_master_alone() -> None:
    master = keyring.master()
    wrapped = master.wrap(KEY, KID)
    assert KEY not in wrapped
    assert wrapped != master.wrap(KEY, KID)
    assert master.unwrap(wrapped, KID, master.id) == KEY
    with pytest.raises(sealing.Unopened, match="HEED_MASTER_KEY_FILE"):
        sealing.MasterKeys([OTHER]).unwrap(wrapped, KID, master.id)
    with pytest.raises(sealing.Unopened):
        sealing.MasterKeys([OTHER, keyring.MASTER_BYTES]).unwrap(wrapped, KID, sealing.master_id(OTHER))


@given(st.integers(0, 8 * (12 + 32 + 16) - 1))
def test_a_wrapped_key_that_was_changed_is_not_opened(bit: int) -> None:
    master = keyring.master()
    wrapped = bytearray(master.wrap(KEY, KID))
    wrapped[bit // 8] ^= 1 << bit % 8
    with pytest.raises(sealing.Unopened):
        master.unwrap(bytes(wrapped), KID, master.id)


@pytest.mark.parametrize("kid", ["contact:bob#0123456789abcdef", "contact:ada#0123456789abcdee"])
def test_a_wrapped_key_is_bound_to_its_name(kid: str) -> None:
    master = keyring.master()
    with pytest.raises(sealing.Unopened):
        master.unwrap(master.wrap(KEY, KID), kid, master.id)


def test_the_first_master_key_wraps_and_each_opens() -> None:
    old, both = keyring.master(), sealing.MasterKeys([OTHER, keyring.MASTER_BYTES])
    assert both.id == sealing.master_id(OTHER) != old.id
    assert both.unwrap(old.wrap(KEY, KID), KID, old.id) == KEY
    assert sealing.MasterKeys([OTHER]).unwrap(both.wrap(KEY, KID), KID, both.id) == KEY


def test_a_master_keys_id_tells_nothing_of_it() -> None:
    assert len(keyring.master().id) == 16
    assert keyring.master().id not in (keyring.MASTER_BYTES.hex(), keyring.MASTER_TEXT)


@pytest.mark.parametrize("text", ["", "hunter2", "Zm9v", base64.b64encode(b"k" * 33).decode(), "é" * 44])
def test_what_is_no_master_key(text: str) -> None:
    with pytest.raises(ValueError):
        sealing.parse_master_key(text)


@pytest.mark.parametrize("subject", ["contact:Ada_L.~-1815", "session:" + "s" * 64, sealing.INSTALLATION])
def test_a_kid_names_its_subject(subject: str) -> None:
    kid = sealing.new_kid(subject)
    assert sealing.is_kid(kid)
    assert sealing.subject_of(kid) == subject
    assert kid != sealing.new_kid(subject)


def test_a_record_is_read_as_it_was_written() -> None:
    wrapped = keyring.master().wrap(KEY, KID)
    read = sealing.read_record(sealing.write_kept(KID, wrapped, "m"))
    assert read == sealing.KeyRecord(KID, wrapped, "m")
    assert read.subject == "contact:ada"
    assert sealing.read_record(sealing.write_destroyed(KID)) == sealing.KeyRecord(KID, None, None)


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"{",
        b"[]",
        b'"x"',
        b"{}",
        b'{"kid":"contact:ada#0123456789abcdef"}',
        b'{"kid":"contact:ada#0123456789abcdef","wrapped":"AAAA"}',
        b'{"kid":"contact:ada#0123456789abcdef","wrapped":"?","master":"m"}',
        b'{"kid":"contact:ada#0123456789abcdef","wrapped":"AAAA","master":""}',
        b'{"kid":"contact:ada","destroyed":true}',
        b'{"kid":"contact:ada#0123456789ABCDEF","destroyed":true}',
        b'{"kid":"contact:ada#0123456789abcdef\\n","destroyed":true}',
        b'{"kid":"email:ada@example.org#0123456789abcdef","destroyed":true}',
        b'{"kid":"contact:ada#0123456789abcdef","destroyed":"yes"}',
    ],
)
def test_what_is_no_record_of_a_key(value: bytes | None) -> None:
    with pytest.raises(ValueError):
        sealing.read_record(value)


NONCE = bytes(range(12))
PERSONAL = b'{"message_id":"m1/ada","url":"https://example.org/"}'


@pytest.mark.capability("LAW-6")
@given(samples.storable, samples.storable, st.binary(max_size=300))
def test_what_is_sealed_is_opened_again(source: str, id: str, personal: bytes) -> None:
    key = sealing.DataKey(KID, KEY)
    sealed = key.seal(source, id, personal, NONCE)
    assert key.open(source, id, sealed) == personal
    assert sealed != key.seal(source, id, personal, bytes(12))
    assert sealed.isascii()
    assert not set(sealed) & set('\\"\t\n')


@pytest.mark.parametrize(
    ("kid", "key", "source", "id"),
    [
        ("contact:bob#0123456789abcdef", KEY, "urn:test", "e1"),
        ("contact:ada#0123456789abcdee", KEY, "urn:test", "e1"),
        (KID, OTHER, "urn:test", "e1"),
        (KID, KEY, "urn:tes", "e1"),
        (KID, KEY, "urn:test", "e2"),
        (KID, KEY, "urn:teste", "1"),
    ],
)
def test_a_sealed_part_is_bound_to_its_key_and_its_fact(kid: str, key: bytes, source: str, id: str) -> None:
    sealed = sealing.DataKey(KID, KEY).seal("urn:test", "e1", PERSONAL, NONCE)
    with pytest.raises(sealing.Tampered) as refused:
        sealing.DataKey(kid, key).open(source, id, sealed)
    assert "ada" not in str(refused.value)


@given(st.integers(0, 8 * (12 + len(PERSONAL) + 16) - 1))
def test_a_sealed_part_that_was_changed_is_not_opened(bit: int) -> None:
    key = sealing.DataKey(KID, KEY)
    raw = bytearray(base64.b64decode(key.seal("urn:test", "e1", PERSONAL, NONCE)))
    raw[bit // 8] ^= 1 << bit % 8
    with pytest.raises(sealing.Tampered):
        key.open("urn:test", "e1", base64.b64encode(raw).decode())


@pytest.mark.parametrize("sealed", ["", "?", "AAAA", "é", "A" * 37])
def test_what_is_no_sealed_part(sealed: str) -> None:
    with pytest.raises(sealing.Tampered):
        sealing.DataKey(KID, KEY).open("urn:test", "e1", sealed)


def test_what_cannot_be_opened_is_doubt() -> None:
    assert issubclass(sealing.Unopened, errors.Doubt)
    assert sealing.Unopened.exit_code == 3
