"""What breaks when, from a seed: the same seed gives the same plan.

Promises: every kind of the list comes once before any comes again; a fault begins at most 20 s after the one
before; the last ones end early enough for the rest to be seen. Limits: the plan says when a fault is due,
not which batch, byte or statement it hits: that is the machine's.
Called by: `tests.soak.__main__`, unit tests.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

WORKERS: Final = ("worker-1", "worker-2", "worker-3")
GAPS: Final = (9.0, 19.0)  # seconds between the beginnings of two faults: never more than 20
QUIET: Final = 20.0  # seconds at the end without a new fault
SESSION: Final = 10.0  # seconds after which Kafka's group gives a silent worker's homes away


@dataclass(frozen=True, slots=True)
class Kind:
    """One way to break something: for how long, whom it can befall, and what it is."""

    name: str
    about: str
    seconds: tuple[float, float] = (0.0, 0.0)
    targets: Sequence[str] = ("",)
    disk: bool = False


KINDS: Final = (
    Kind("kill-worker", "kill -9 of a worker", targets=WORKERS),
    Kind("kill-in-transaction", "kill -9 of a worker that has written and not committed", targets=WORKERS),
    Kind("kill-api", "kill -9 of the API"),
    Kind("stop-worker", "SIGTERM of a worker, as in a deploy", targets=WORKERS),
    Kind("freeze-in-copy", "SIGSTOP inside COPY, longer than the session", (12, 16), WORKERS),
    Kind("freeze-after-set", "SIGSTOP after the compare-and-set, longer than the session", (12, 16), WORKERS),
    Kind("freeze-before-commit", "SIGSTOP before COMMIT, longer than the session", (12, 16), WORKERS),
    Kind("postgres-kill", "kill -9 of PostgreSQL, away for a while", (1, 8)),
    Kind("postgres-restart", "PostgreSQL stopped and started"),
    Kind("kafka-kill", "kill -9 of Kafka, away for a while", (1, 12)),
    Kind("kafka-restart", "Kafka stopped and started"),
    Kind("cut-postgres", "a worker's way to PostgreSQL is a hole", (4, 14), WORKERS),
    Kind("cut-kafka", "a worker's way to Kafka is a hole, longer than the session", (12, 16), WORKERS),
    Kind("cut-api", "the API's way to Kafka is a hole", (3, 9), ("api",)),
    Kind("reset-postgres", "every connection of a worker to PostgreSQL is reset", targets=WORKERS),
    Kind("reset-kafka", "every connection of a worker to Kafka is reset", targets=WORKERS),
    Kind("slow-postgres", "a worker's way to PostgreSQL takes 100 ms more each way", (8, 12), WORKERS),
    Kind("disk-full-postgres", "the disk of PostgreSQL is full to the last block", (6, 12), disk=True),
    Kind("disk-full-kafka", "the disk of Kafka is full to the last block", (6, 12), disk=True),
    Kind("clock-worker", "a worker's clock is ten minutes off", (8, 14), WORKERS),
    Kind("clock-api", "the API's clock is ten minutes off", (8, 14), ("api",)),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is to break: `at` seconds after the load began, for `seconds`; `ahead` is a clock's
    way.
    """

    number: int
    at: float
    kind: str
    target: str
    seconds: float
    ahead: bool


def plan(seed: int, seconds: float, *, disk: bool = True, only: Sequence[str] = ()) -> list[Fault]:
    """The faults of a run of so many seconds; `disk` off leaves out what needs a disk of its own."""
    dice = random.Random(f"faults {seed}")
    kinds = [kind for kind in KINDS if (disk or not kind.disk) and (not only or kind.name in only)]
    made: list[Fault] = []
    deck: list[Kind] = []
    at = dice.uniform(2, 5)
    while at < seconds - QUIET:
        if not deck:
            deck = dice.sample(kinds, len(kinds))
        kind = deck.pop()
        lasts = round(dice.uniform(*kind.seconds), 1)
        made.append(
            Fault(len(made), round(at, 1), kind.name, dice.choice(kind.targets), lasts, dice.random() < 0.5)
        )
        at += dice.uniform(*GAPS)
    return made
