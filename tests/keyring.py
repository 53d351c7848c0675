"""The keys that tests work with: one master key and one secret for all of them, so that what is sealed and
digested is the same in every run.

Called by tests of every distance.
"""

from __future__ import annotations

import base64
from typing import Final

from schemas import sealing
from streams import vault

MASTER_BYTES: Final = b"a master key for tests of 32 b.!"
MASTER_TEXT: Final = base64.b64encode(MASTER_BYTES).decode()
SECRET: Final = b"a secret for tests, of 32 bytes!"


def master() -> sealing.MasterKeys:
    """The master key of tests."""
    return sealing.MasterKeys([MASTER_BYTES])


def secret_record() -> tuple[bytes, bytes]:
    """Key and value of the record that makes `SECRET` an installation's, where no other stands before it."""
    kid = f"{sealing.INSTALLATION}#{0:016x}"
    return kid.encode(), sealing.write_kept(kid, master().wrap(SECRET, kid), master().id)


def held() -> vault.Vault:
    """A vault that needs no servers to be opened."""
    return vault.Vault(master(), "postgresql://nobody@127.0.0.1:1/none", SECRET)
