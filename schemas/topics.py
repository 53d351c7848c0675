"""The topics of Kafka, what they promise, and which home a subject has.

`home` agrees with Kafka's default partitioner (murmur2, as the Java client has it), so a record keyed by its
subject lies in the partition of its home whoever wrote it. Declared once: `heed topics`, the start check and
the compose file all read this.
Limits: the number of homes is fixed for the life of a log; replication is the cluster's own default.
Called by admission (home), deploy and the CLI (topics), streams (names).
"""

from dataclasses import dataclass
from struct import Struct
from typing import Final

EMAIL_ACTIVITY: Final = "email-activity"
CONTACT_IDENTITY: Final = "contact-identity"
CUSTOM_EVENTS: Final = "custom-events"
DOORS: Final[tuple[str, ...]] = (EMAIL_ACTIVITY, CUSTOM_EVENTS, CONTACT_IDENTITY)
FACTS: Final = "facts"
REGISTRY: Final = "registry"
KEYS: Final = "keys"
COMMANDS: Final = "commands"

DAY_MS: Final = 86_400_000
DOOR_DAYS: Final = 14
COMMAND_DAYS: Final = 7
MAX_MESSAGE_BYTES: Final = 2 * 1024 * 1024

_WORDS: Final = tuple(Struct(f"<{n}I").unpack_from for n in range(33))


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as it must be: its partitions, and the settings that the start check compares."""

    name: str
    partitions: int
    config: dict[str, str]


def murmur2(key: bytes) -> int:
    """Kafka's hash of a record key, as the unsigned 32 bits of what Java prints signed."""
    length = len(key)
    count = length >> 2
    h = 0x9747B28C ^ length
    # The multiplier is written out: a constant of the code object is read faster than a global.
    for k in _WORDS[count](key) if count < 33 else Struct(f"<{count}I").unpack_from(key):
        k = k * 0x5BD1E995 & 0xFFFFFFFF
        h = (h * 0x5BD1E995 ^ (k ^ k >> 24) * 0x5BD1E995) & 0xFFFFFFFF
    if tail := length & 3:
        h = (h ^ int.from_bytes(key[-tail:], "little")) * 0x5BD1E995 & 0xFFFFFFFF
    h = (h ^ h >> 13) * 0x5BD1E995 & 0xFFFFFFFF
    return h ^ h >> 15


def home(subject: str, homes: int) -> int:
    """The home of a subject: the partition of `facts` that Kafka's default partitioner gives to its key."""
    return (murmur2(subject.encode()) & 0x7FFFFFFF) % homes


def partition(topic: str, subject: str, homes: int) -> int:
    """Where a fact of this subject lies: in its home, or in the registry's one partition."""
    return 0 if topic == REGISTRY else home(subject, homes)


def all_topics(homes: int) -> tuple[Topic, ...]:
    """Every topic that Heed needs, with `homes` partitions; registry and keys have one, for their order."""
    doors = tuple(Topic(name, homes, _config(DOOR_DAYS * DAY_MS)) for name in DOORS)
    return (
        *doors,
        Topic(FACTS, homes, _config(-1)),
        Topic(REGISTRY, 1, _config(-1)),
        Topic(KEYS, 1, _COMPACTED),
        Topic(COMMANDS, homes, _config(COMMAND_DAYS * DAY_MS)),
    )


# The last word on each key is kept for ever. What it replaced, as a key that was destroyed, is gone a day and
# a record later.
_COMPACTED: Final = {
    "cleanup.policy": "compact",
    "max.compaction.lag.ms": str(DAY_MS),
    "message.timestamp.type": "LogAppendTime",
    "max.message.bytes": str(MAX_MESSAGE_BYTES),
}


def _config(retention_ms: int) -> dict[str, str]:
    return {
        "cleanup.policy": "delete",
        "retention.ms": str(retention_ms),
        "retention.bytes": "-1",
        "message.timestamp.type": "LogAppendTime",
        "max.message.bytes": str(MAX_MESSAGE_BYTES),
    }
