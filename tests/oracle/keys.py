"""What is sealed, opened apart from Heed's own code, and the digest of every fact proved by it.

Promises: a fact whose key is not on the topic, whose sealed part does not open, or whose digest is not that
of all it says, is named. One whose key was destroyed cannot be proved, and is passed over.
Limits: needs the master key as 32 bytes, so none that a KMS keeps.
Called by `oracle.audit`.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import orjson
import rfc8785
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.oracle.broker import Record

OWN = "urn:heed"  # facts of Heed itself have a digest without a key


class Keys:
    """The topic `keys`, as far as it was read; read again for a key that is not there."""

    def __init__(self, read: Callable[[], Iterable[Record]], master: Sequence[bytes]) -> None:
        self._read, self._master = read, master
        self._wrapped: dict[str, tuple[bytes, str] | None] = {}
        self._opened: dict[str, AESGCM] = {}
        self._load()
        first = next(kid for kid, one in self._wrapped.items() if kid.startswith("installation#") and one)
        self._secret = self._key(first)

    def fault(self, envelope: dict[str, Any]) -> str | None:
        """What is wrong with the sealed part or the digest of a fact, in words."""
        data, kid = envelope["data"], envelope.get("kid")
        if kid is not None:
            if kid not in self._wrapped:
                self._load()
            if kid not in self._wrapped:
                return "its key is not on the topic"
            if self._wrapped[kid] is None:
                return None
            try:
                data = data | orjson.loads(self._open(envelope))
            except (InvalidTag, ValueError):
                return "the sealed part does not open"
        secrets = (self._secret, b"") if envelope["source"] == OWN else (self._secret,)
        if envelope["digest"] not in [digest(envelope["type"], data, secret) for secret in secrets]:
            return "the digest is not that of type and data"
        return None

    def _open(self, envelope: dict[str, Any]) -> bytes:
        kid = envelope["kid"]
        if kid not in self._opened:
            self._opened[kid] = AESGCM(self._key(kid))
        raw = base64.b64decode(envelope["sealed"])
        bound = "\0".join((kid, envelope["source"], envelope["id"])).encode()
        return self._opened[kid].decrypt(raw[:12], raw[12:], bound)

    def _key(self, kid: str) -> bytes:
        found = self._wrapped[kid]
        assert found is not None, kid
        wrapped, id = found
        for master in self._master:
            if hashlib.blake2b(master, digest_size=8, person=b"heed master key").hexdigest() == id:
                return AESGCM(master).decrypt(wrapped[:12], wrapped[12:], kid.encode())
        raise LookupError(f"the master key {id} is not among those given")

    def _load(self) -> None:
        for record in self._read():
            try:
                told = orjson.loads(record.value or b"null")
                kid = told["kid"]
                if told.get("destroyed"):
                    self._wrapped[kid] = None
                elif self._wrapped.get(kid, ()) is not None:
                    self._wrapped[kid] = (base64.b64decode(told["wrapped"]), told["master"])
            except (ValueError, KeyError, TypeError):
                continue  # a stranger's; Heed warns of it


def digest(kind: str, data: dict[str, Any], secret: bytes) -> str:
    """BLAKE2b-128 over the canonical JSON (RFC 8785) of type and data, keyed.

    Of flat texts and booleans under ASCII names, sorted JSON is that form, and ten times as fast.
    """
    whole: dict[str, Any] = {"data": data, "type": kind}
    if all(isinstance(value, str | bool) and name.isascii() for name, value in data.items()):
        canonical = orjson.dumps(whole, option=orjson.OPT_SORT_KEYS)
    else:
        canonical = rfc8785.dumps(whole)
    return hashlib.blake2b(canonical, digest_size=16, key=secret).hexdigest()
