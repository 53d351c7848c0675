"""What a process knows of keys: the installation's secret, and keys to seal with.

Promises: the secret is fetched once, and made if there is none (`streams.installation`); what PostgreSQL
holds of it is asked first. A subject's key is looked for, and made only when something of the subject is to
be sealed; a new one is acknowledged by the topic `keys` before anything sealed with it leaves here. Two
processes may make a key for one subject: each names its subject, and each is valid.
Limits: holds `MOST` keys, unwrapped, those used last. While PostgreSQL is away the API makes new ones.
Called by: intake, the API, and whoever drives parked records again: whatever judges events.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import io
import os
import threading
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final

import structlog

from projections import data_keys
from schemas import admission, errors, sealing
from streams import broker, installation, process, producer

AGAIN_SECONDS: Final = 0.5
MOST: Final = 50_000

Keys = dict[str, sealing.DataKey]
Raw = dict[str, tuple[str, bytes]]  # by subject: kid and key, a tenth of the memory of what seals with it
Find = Callable[[Iterable[str]], list[sealing.KeyRecord]]
Append = Callable[[Sequence[producer.Record]], None]
Ask = Callable[[Iterable[str]], Awaitable[list[sealing.KeyRecord]]]


class Vault:
    """One a process; it may be used from any thread."""

    def __init__(self, master: sealing.MasterKey, dsn: str, secret: bytes | None = None) -> None:
        self.master, self._dsn, self._secret = master, dsn, secret
        self._keys: collections.OrderedDict[str, tuple[str, bytes]] = collections.OrderedDict()
        self._lock = threading.Lock()
        self._fetched = asyncio.Event()

    @property
    def secret(self) -> bytes:
        """The installation's secret; raises `errors.Away` before it was fetched."""
        if self._secret is None:
            raise errors.Away("the installation's secret has not been read yet")
        return self._secret

    async def secret_within(self, seconds: float) -> bytes:
        """`secret`, waited for so long: a process that has just started is about to fetch it."""
        if self._secret is None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._fetched.wait(), seconds)
        return self.secret

    async def open(self, kafka: broker.Broker, append: installation.Append) -> None:
        """Fetch the secret; raises `errors.Away`, `sealing.Unopened`."""
        if self._secret is None:
            kept = await asyncio.to_thread(self._copy)
            if kept is None:
                self._secret = await installation.secret(kafka, self.master, append)
            else:
                self._secret = await asyncio.to_thread(installation.opened, kept, self.master)
            self._fetched.set()

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

    def sealed(
        self, events: Sequence[admission.Admitted], find: Find, append: Append
    ) -> list[admission.Admitted]:
        """The same events, finished for the log. Blocks for `find` and `append`, and raises what they raise.

        `find` gives keys that there are of subjects; `append` writes to the topic `keys`, acknowledged.
        """
        keys, missing = self._held(events)
        if missing:
            keys |= self._opened(find(missing))
            made, records = self._made(missing - keys.keys())
            if made:
                append(records)
                keys |= self._keep(made)
        return _finished(events, keys)

    async def sealed_soon(
        self, events: Sequence[admission.Admitted], find: Ask, append: installation.Append
    ) -> list[admission.Admitted]:
        """As `sealed`, for an event loop; where `find` raises `errors.Away` new keys are made."""
        keys, missing = self._held(events)
        if missing:
            with contextlib.suppress(errors.Away):  # sooner a further key than an event that is not taken
                keys |= await asyncio.to_thread(self._opened, await find(missing))
            made, records = await asyncio.to_thread(self._made, missing - keys.keys())
            if made:
                await append(records)
                keys |= self._keep(made)
        return _finished(events, keys)

    def _held(self, events: Iterable[admission.Admitted]) -> tuple[Keys, set[str]]:
        """Keys at hand for what is to be sealed, and the subjects that need one yet."""
        subjects = {event.subject for event in events if event.personal}
        with self._lock:
            found = {subject: self._keys[subject] for subject in subjects if subject in self._keys}
            for subject in found:
                self._keys.move_to_end(subject)
        return _ready(found), subjects - found.keys()

    def _opened(self, found: Iterable[sealing.KeyRecord]) -> Keys:
        return self._keep({one.subject: (one.kid, installation.opened(one, self.master)) for one in found})

    def _made(self, subjects: Iterable[str]) -> tuple[Raw, list[producer.Record]]:
        keys = {one: (sealing.new_kid(one), os.urandom(sealing.KEY_BYTES)) for one in sorted(subjects)}
        return keys, [installation.key_record(*key, self.master) for key in keys.values()]

    def _keep(self, keys: Raw) -> Keys:
        with self._lock:
            self._keys.update(keys)
            while len(self._keys) > MOST:
                self._keys.popitem(last=False)
        return _ready(keys)

    def _copy(self) -> sealing.KeyRecord | None:
        """The secret as PostgreSQL has it, if it is there and has it."""
        try:
            return data_keys.secret_of(self._dsn)
        except errors.Away:
            return None


def _ready(keys: Raw) -> Keys:
    return {subject: sealing.DataKey(kid, key) for subject, (kid, key) in keys.items()}


def _finished(events: Sequence[admission.Admitted], keys: Keys) -> list[admission.Admitted]:
    """The events sealed, each with a nonce of its own; randomness is asked for once, which is cheaper."""
    nonces = io.BytesIO(os.urandom(sealing.NONCE_BYTES * len(events)))
    return [
        admission.sealed(event, keys[event.subject], nonces.read(sealing.NONCE_BYTES))
        if event.personal
        else event
        for event in events
    ]
