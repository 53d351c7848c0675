"""What the fold machine is told: events that meet, contradictions of them, and the rubbish of strangers.

Limits: contacts only, no links.
Called by `tests.laws.machine_fold`.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

from tests.laws import generator, world

MS, DAY = generator.MS, generator.DAY
KINDS = (*["mail.clicked"] * 8, *["mail.delivered"] * 4, *generator.KINDS)

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


def some(dice: random.Random, now: datetime, months: int, contacts: int, number: int) -> list[generator.Told]:
    """Events that meet: few ids, so that facts contradict each other; most count; times at every edge.

    By a dice, not by hypothesis: it is more even, so that a short run sees more.
    """
    special = [now, *generator.edges(now, months), *generator.month_ends(now), now + MS, now + 120_000 * MS]
    return [
        generator.Told(
            kind=dice.choice(KINDS),
            contact=f"c{dice.randrange(contacts)}",
            time=dice.choice(special) if dice.random() < 0.6 else now - dice.randrange(430 * DAY // MS) * MS,
            id=f"e{dice.randrange(4)}",
            source=dice.choice(("urn:a", "urn:b")),
            mailing=dice.choice(("m1", "m1", "m2", "m3", None)),
            test=dice.choice((None, None, None, False, True)),
        )
        for _ in range(number)
    ]


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
