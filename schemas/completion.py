"""What HTTP may leave out of an event, and Heed fills in: its id and its time.

Promises: an Idempotency-Key and a place in the request give the same id each time; a UUIDv7 tells the time.
Limits: at a door both are required (`schemas.admission`).
Called by admission; the API makes a `Fill`.
"""

import re
import uuid
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec
from uuid_utils import compat

from schemas import codec, errors

_NAMESPACE: Final = uuid.UUID("6a1d4a3e-9f0c-5d57-8a53-6d0f3bd0a7c1")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_is_uuid7: Final = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE
).fullmatch


class Fill(msgspec.Struct, frozen=True):
    """What HTTP may fill in: an id from the Idempotency-Key and the index in the batch, else a fresh one.

    `actor`, who asks by a key of his own, stays with what he tells of who somebody is.
    """

    idempotency_key: str | None = None
    index: int = 0
    actor: str | None = None


NOTHING: Final = Fill()


def made_id(at: datetime, fill: Fill) -> str:
    """An id for an event that was accepted without one."""
    if fill.idempotency_key is None:
        return str(compat.uuid7(nanoseconds=(at - _EPOCH) // timedelta(milliseconds=1) * 1_000_000))
    key = fill.idempotency_key.encode(errors="backslashreplace").decode()
    return str(uuid.uuid5(_NAMESPACE, f"{fill.index}:{key}"))


def time_of(id: str) -> datetime | None:
    """The time that a UUIDv7 carries; raises codec.Unreadable for one that cannot be kept."""
    if _is_uuid7(id) is None:
        return None
    try:
        return _EPOCH + timedelta(milliseconds=int(id[:8] + id[9:13], 16))
    except OverflowError:
        detail = "the time in the id is out of range."
        raise codec.Unreadable(errors.Reason.UNSTORABLE, detail) from None


def completed(raw: bytes, id: str, time: str) -> bytes:
    """The event as HTTP accepted it, with its id and its time, for `intake` to judge as at a door."""
    try:
        members = _members(raw)
    except msgspec.DecodeError:
        members = _members(codec.mended(raw))
    members["id"] = msgspec.Raw(msgspec.json.encode(id))
    members["time"] = msgspec.Raw(msgspec.json.encode(time))
    return msgspec.json.encode(members)
