"""Instants of the oracle: whole milliseconds since 1970."""

from __future__ import annotations

from whenever import Instant


def instant(text: str) -> int:
    """RFC 3339 as milliseconds, cut."""
    return Instant.parse_iso(text).timestamp(unit="millisecond")
