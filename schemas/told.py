"""What can be told of an event, or of a record of the log, that is not to be folded.

Promises: takes any bytes and never raises; gives only what PostgreSQL can keep.
Limits: slow (the standard library's JSON), so for rare cases; whoever calls bounds the size.
Called by admission (events) and by projections (records of the log).
"""

import json
from datetime import datetime
from typing import NamedTuple

from schemas import codec, envelope, identity


class Told(NamedTuple):
    """The attributes of an envelope that could be read."""

    id: str | None = None
    source: str | None = None
    type: str | None = None
    time: datetime | None = None
    subject: str | None = None


def of(raw: bytes) -> Told:
    """What stands in an envelope, each attribute by itself."""
    try:
        value = json.loads(codec.mended(raw))
    except (ValueError, RecursionError):
        return Told()
    if not isinstance(value, dict):
        return Told()
    id, source, type = (_known(value.get(name)) for name in ("id", "source", "type"))
    about = value.get("subject")
    subject = about if isinstance(about, str) and identity.is_subject(about) else None
    return Told(id, source, type, _moment(_known(value.get("time")) or ""), subject)


def _moment(text: str) -> datetime | None:
    try:
        return envelope.parse_time(text)
    except codec.Unreadable:
        return None


def _known(value: object) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= 256 and "\0" not in value else None
