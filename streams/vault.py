"""What a process knows of keys: its master key, and the installation's secret.

Promises: the secret is fetched once, and made if there is none (`streams.installation`); what PostgreSQL
holds of it is asked first. Whoever asks for it before it is there gets `errors.Away`.
Limits: the master key is read at the start of the process.
Called by: workers, the API and `heed parked`: whatever judges events.
"""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from projections import data_keys
from schemas import errors, sealing
from streams import broker, installation, process

AGAIN_SECONDS: Final = 0.5


class Vault:
    """One a process; its secret may be read from any thread."""

    def __init__(self, master: sealing.MasterKey, dsn: str, secret: bytes | None = None) -> None:
        self.master, self._dsn, self._secret = master, dsn, secret

    @property
    def secret(self) -> bytes:
        """The installation's secret; raises `errors.Away` before it was fetched."""
        if self._secret is None:
            raise errors.Away("the installation's secret has not been read yet")
        return self._secret

    async def open(self, kafka: broker.Broker, append: installation.Append) -> None:
        """Fetch the secret; raises `errors.Away`, `sealing.Unopened`."""
        if self._secret is None:
            kept = await asyncio.to_thread(self._copy)
            if kept is None:
                self._secret = await installation.secret(kafka, self.master, append)
            else:
                self._secret = await asyncio.to_thread(installation.opened, kept, self.master)

    async def wait(self, kafka: broker.Broker, append: installation.Append) -> None:
        """`open`, however long it takes until the servers are there; raises `sealing.Unopened`."""
        said = False
        while self._secret is None:
            try:
                await self.open(kafka, append)
            except errors.Away as away:
                if not said:
                    structlog.get_logger().warning("waiting for a server", error=process.told(away))
                said = True
                await asyncio.sleep(AGAIN_SECONDS)

    def _copy(self) -> sealing.KeyRecord | None:
        """The secret as PostgreSQL has it, if it is there and has it."""
        try:
            return data_keys.secret_of(self._dsn)
        except errors.Away:
            return None
