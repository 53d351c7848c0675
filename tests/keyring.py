"""The keys that tests work with: one master key and one secret for all of them, so that what is sealed and
digested is the same in every run.

Called by tests of every distance.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from typing import Final

from schemas import admission, envelope, sealing
from streams import vault

MASTER_BYTES: Final = b"a master key for tests of 32 b.!"
MASTER_TEXT: Final = base64.b64encode(MASTER_BYTES).decode()
SECRET: Final = b"a secret for tests, of 32 bytes!"


def master() -> sealing.MasterKeys:
    """The master key of tests."""
    return sealing.MasterKeys([MASTER_BYTES])


def raw_key_of(subject: str) -> bytes:
    """The one key of a subject."""
    return hashlib.blake2b(subject.encode(), digest_size=sealing.KEY_BYTES).digest()


def key_of(subject: str) -> sealing.DataKey:
    """The same, to seal and open with."""
    return sealing.DataKey(f"{subject}#{0:016x}", raw_key_of(subject))


def sealed(event: admission.Admitted) -> admission.Admitted:
    """An event as it goes on the log; the same bytes each time, so never for anybody's real data."""
    if not event.personal:
        return event
    return admission.sealed(event, key_of(event.subject), bytes(sealing.NONCE_BYTES))


def record_of(subject: str) -> bytes:
    """The value of the record of a subject's key, as it stands on the topic."""
    kid = key_of(subject).kid
    return sealing.write_kept(kid, master().wrap(raw_key_of(subject), kid), master().id)


def opened(fact: envelope.Fact) -> bytes:
    """The personal part of such a fact, canonical."""
    if fact.sealed is None:
        return b"{}"
    return key_of(fact.subject).open(fact.source, fact.id, fact.sealed)


def secret_record() -> tuple[bytes, bytes]:
    """Key and value of the record that makes `SECRET` an installation's, where no other stands before it."""
    kid = f"{sealing.INSTALLATION}#{0:016x}"
    return kid.encode(), sealing.write_kept(kid, master().wrap(SECRET, kid), master().id)


class Held(vault.Vault):
    """A vault that needs no servers: it is open, and has a key of every subject."""

    def _held(self, events: Iterable[admission.Admitted]) -> tuple[vault.Keys, set[str]]:
        return {event.subject: key_of(event.subject) for event in events if event.personal}, set()


def held() -> vault.Vault:
    """Such a vault."""
    return Held(master(), "postgresql://nobody@127.0.0.1:1/none", SECRET)
