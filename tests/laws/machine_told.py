"""What the fold machine is told: events that meet, contradictions of them, and the rubbish of strangers.

Limits: times and kinds are the generator's; here they are only crowded together.
Called by `tests.laws.machine_fold`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tests.laws import generator, world

MS, DAY = generator.MS, generator.DAY

# The same key, another content: the first says the same, the next three are smaller by their time and count
# otherwise than before; of the last ones the digest decides.
CONTRADICTIONS: tuple[Callable[[generator.Told], generator.Told], ...] = (
    lambda event: event,
    lambda event: replace(event, time=event.time - MS, kind="mail.opened"),
    lambda event: replace(event, time=event.time - MS, test=not event.test),
    lambda event: replace(event, time=event.time - 400 * DAY),
    lambda event: replace(event, time=event.time + 3 * DAY),
    lambda event: replace(event, test=not event.test),
    lambda event: replace(event, mailing="m9"),
    lambda event: replace(event, kind="mail.clicked"),
)


def crowded(event: generator.Told) -> generator.Told:
    """Few ids, so that facts contradict each other; more clicks and deliveries that count."""
    event = replace(event, id=event.id[:2])
    if event.style in (0, 2, 4):  # says nothing else here
        kind = "mail.delivered" if event.style == 4 else "mail.clicked"
        return replace(event, kind=kind, mailing=event.mailing or "m1", test=None)
    return event


def rubbish(envelope: dict[str, Any]) -> list[tuple[bytes | None, str]]:
    """Records of a stranger on `facts`, and why each is parked."""
    good = world.encode(envelope)
    return [
        (None, "undecodable"),
        (b"{", "undecodable"),
        (b"[" * 200, "undecodable"),
        (good.replace(b'"digest"', b'"indigest"'), "undecodable"),
        (good.replace(b'"data":{', b'"data":{"x":"\xff",'), "undecodable"),
        (good.replace(b'"data":{', b'"data":{"x":"\\u0000",'), "undecodable"),
        (good.replace(b':1","data"', b':2","data"'), "newer_version"),
        (good.replace(envelope["type"].encode(), b"mail.forwarded"), "unknown_type"),
        (json.dumps(envelope, indent=1).encode(), "undecodable"),
    ]
