"""Commands: a timer's "it was time", as CloudEvents on the topic `commands`.

Promises: one command names at most 1,000 contacts of one home, each with the instant that was due; whoever
reads it learns what has changed, and reading it twice, or one made by a stranger, does nothing.
Called by: the fold (makes and reads back), the relay (publishes).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Final

import msgspec
import uuid_utils.compat as uuid_utils

from schemas import envelope, identity

SOURCE: Final = "urn:heed"


class Item(msgspec.Struct, frozen=True):
    contact_id: Annotated[str, msgspec.Meta(pattern=rf"^{identity.CONTACT_ID}(?![\s\S])")]
    due: str


class Items(msgspec.Struct, frozen=True):
    items: Annotated[list[Item], msgspec.Meta(max_length=1000)]


class Told(msgspec.Struct, frozen=True):
    """A command as it is read back: who wrote it is not asked."""

    id: Annotated[str, msgspec.Meta(max_length=256)]
    type: str
    data: Items


@dataclasses.dataclass(frozen=True, slots=True)
class Command:
    id: str
    home: int
    body: bytes


_decode = msgspec.json.Decoder(Told).decode
_is_uuid = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}").fullmatch


def subject(home: int) -> str:
    """The subject, and the record key, of a home's commands."""
    return f"home:{home}"


def make(kind: str, home: int, items: Iterable[tuple[str, datetime]], at: datetime) -> Command:
    """A command of one home; `items` are contacts with the instant that was due."""
    id_ = str(uuid_utils.uuid7())
    body = msgspec.json.encode(
        {
            "specversion": "1.0",
            "id": id_,
            "source": SOURCE,
            "type": kind,
            "subject": subject(home),
            "time": envelope.format_time(at),
            "datacontenttype": "application/json",
            "data": {"items": [{"contact_id": c, "due": envelope.format_time(due)} for c, due in items]},
        }
    )
    return Command(id_, home, body)


def read(value: bytes) -> Told:
    """A record of `commands`; raises msgspec.DecodeError or RecursionError for anything else."""
    return _decode(value)


def is_ours(id_: str) -> bool:
    """Whether an id has the very form of those that Heed gives to commands.

    Python reads far more as a UUID than PostgreSQL does (braces, hyphens anywhere, other digits).
    """
    return _is_uuid(id_) is not None
