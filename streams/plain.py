"""Rows as JSON has them: times as Heed writes them everywhere, hashes as hexadecimal digits.

Called by: whoever answers with rows as they stand in the database (`streams.contact`, `streams.export`).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from schemas import envelope


def told(value: Any) -> Any:
    """A value, and all that is in it."""
    match value:
        case datetime():
            return envelope.format_time(value.astimezone(UTC))
        case dict():
            return {name: told(one) for name, one in value.items()}
        case list():
            return [told(one) for one in value]
        case _:
            return value
