"""Makes a payload that shows a fault as short as it can be made by leaving parts out.

Called by the fuzz tests, when one of them fails.
"""

from __future__ import annotations

from collections.abc import Callable


def minimise(raw: bytes, fails: Callable[[bytes], bool]) -> bytes:
    """The shortest that was found for which `fails` still holds; asks at most some thousand times."""
    size = len(raw) // 2
    while size:
        at = 0
        while at < len(raw):
            shorter = raw[:at] + raw[at + size :]
            if fails(shorter):
                raw = shorter
            else:
                at += size
        size //= 2
    return raw
