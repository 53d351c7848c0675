"""Keys: how they are named, wrapped and written, and how what is personal is sealed with them (LAW-6).

A *data key* is 256 random bits for one subject. Its name, the *kid*, is `<subject>#<16 hex digits>`, so it
tells whose it is; a subject may have several, all of them valid. It stands in the topic `keys`, wrapped by
the *master key*, which stands nowhere in Heed's data. `installation#…` is no subject's: it is the secret by
which digests are keyed. A key is *destroyed* by a record that says so, never by a tombstone: what is merely
missing is an error, and never counts as erased.
Promises: AES-256-GCM throughout; a wrapped key is bound to its kid. No error holds a key or what was sealed.
Limits: pure, but for the randomness of new keys and nonces.
Called by admission (digests), `streams.vault` (wraps and unwraps), `projections.data_keys` (reads records).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
from collections.abc import Sequence
from typing import Annotated, Final, Protocol

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from schemas import errors

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
INSTALLATION: Final = "installation"

_KID: Final = rf"(?:{INSTALLATION}|[a-z]+:[A-Za-z0-9_.~-]{{1,128}})#[0-9a-f]{{16}}"
_is_kid: Final = re.compile(_KID).fullmatch


class Unopened(errors.Doubt):
    """A key in the topic keys cannot be unwrapped: it was changed, or is of another installation."""


class MasterKey(Protocol):
    """What wraps data keys: keys out of the settings, or those that a KMS keeps to itself.

    `id` names the key that wraps now and tells nothing of it. `unwrap` is given the id that a record was
    wrapped under, which may be an earlier one; it raises `Unopened` for what it cannot open, `errors.Away`
    while a KMS does not answer. Both calls may block; they are made from any thread.
    """

    @property
    def id(self) -> str: ...
    def wrap(self, key: bytes, kid: str) -> bytes: ...
    def unwrap(self, wrapped: bytes, kid: str, id: str) -> bytes: ...


class MasterKeys:
    """Master keys as the settings give them: the first wraps, each of them opens."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._opens = {master_id(key): AESGCM(key) for key in keys}
        self._id = master_id(keys[0])

    @property
    def id(self) -> str:
        return self._id

    def wrap(self, key: bytes, kid: str) -> bytes:
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._opens[self._id].encrypt(nonce, key, kid.encode())

    def unwrap(self, wrapped: bytes, kid: str, id: str) -> bytes:
        opens = self._opens.get(id)
        if opens is None:
            raise Unopened(
                f"A key in the topic keys is wrapped by the master key {id}, which this process does not "
                "have: give it that one too, as a further line of HEED_MASTER_KEY_FILE."
            )
        try:
            return opens.decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], kid.encode())
        except (InvalidTag, ValueError):
            raise Unopened from None


def master_id(key: bytes) -> str:
    """What a master key is known by: 16 hex digits that tell nothing of it."""
    return hashlib.blake2b(key, digest_size=8, person=b"heed master key").hexdigest()


def parse_master_key(text: str) -> bytes:
    """32 bytes in base64; raises ValueError for anything else."""
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError from None
    if len(key) != KEY_BYTES:
        raise ValueError
    return key


class Tampered(errors.HeedError):
    """A sealed part cannot be opened: it, its key, or the source and id of its fact are not those of then."""


class DataKey:
    """A key of a subject, unwrapped: seals and opens the personal parts of its facts.

    What is sealed is bound to the key's name and to source and id of its fact: moved to another it is not
    opened.
    """

    __slots__ = ("_aes", "kid")

    def __init__(self, kid: str, key: bytes) -> None:
        self.kid = kid
        self._aes = AESGCM(key)

    def seal(self, source: str, id: str, personal: bytes, nonce: bytes) -> str:
        """The personal part of a fact, encrypted: base64 of nonce and ciphertext.

        `nonce`: `NONCE_BYTES` of randomness that are used for nothing else.
        """
        found = nonce + self._aes.encrypt(nonce, personal, self._bound(source, id))
        return binascii.b2a_base64(found, newline=False).decode()

    def open(self, source: str, id: str, sealed: str) -> bytes:
        """The personal part again; raises `Tampered`."""
        try:
            found = base64.b64decode(sealed, validate=True)
            return self._aes.decrypt(found[:NONCE_BYTES], found[NONCE_BYTES:], self._bound(source, id))
        except (InvalidTag, ValueError):
            raise Tampered from None

    def _bound(self, source: str, id: str) -> bytes:
        return f"{self.kid}\0{source}\0{id}".encode()


class Kept(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The value of a record of the topic `keys`: a wrapped key and the master key's id, or *destroyed*.

    The kid stands in it as well as in the record's key, by which Kafka compacts: it is whole by itself.
    """

    kid: Annotated[
        str,
        msgspec.Meta(
            pattern=f"^{_KID}(?![\\s\\S])", description="The key's name: <subject>#<16 hex digits>."
        ),
    ]
    wrapped: Annotated[str, msgspec.Meta(max_length=8192, description="The key, wrapped; base64.")] | None = (
        None
    )
    master: (
        Annotated[str, msgspec.Meta(min_length=1, max_length=256, description="Id of the master key.")] | None
    ) = None
    destroyed: Annotated[bool, msgspec.Meta(description="true: there is no key any more, for ever.")] = False


class KeyRecord(msgspec.Struct, frozen=True, gc=False):
    """A record of the topic `keys`, read: `wrapped` is None when the key is destroyed."""

    kid: str
    wrapped: bytes | None
    master: str | None

    @property
    def subject(self) -> str:
        """Whose key it is."""
        return subject_of(self.kid)


_decode: Final = msgspec.json.Decoder(Kept).decode
_encode: Final = msgspec.json.Encoder().encode


def new_kid(subject: str) -> str:
    """A name for a new key of a subject."""
    return f"{subject}#{os.urandom(8).hex()}"


def subject_of(kid: str) -> str:
    """Whose key a kid names."""
    return kid.rpartition("#")[0]


def is_kid(text: str) -> bool:
    """Whether this names a key."""
    return _is_kid(text) is not None


def write_kept(kid: str, wrapped: bytes, master: str) -> bytes:
    """The value of a record that holds a key."""
    return _encode(Kept(kid, base64.b64encode(wrapped).decode(), master))


def write_destroyed(kid: str) -> bytes:
    """The value of a record that says that a key is no more."""
    return _encode(Kept(kid, destroyed=True))


def read_record(value: bytes | None) -> KeyRecord:
    """A record of the topic `keys`; raises ValueError for what Heed never wrote there."""
    kept = _decode(value or b"")
    if kept.destroyed:
        return KeyRecord(kept.kid, None, None)
    if kept.wrapped is None or kept.master is None:
        raise ValueError
    return KeyRecord(kept.kid, base64.b64decode(kept.wrapped, validate=True), kept.master)
