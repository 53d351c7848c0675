"""What stands in the registry: what was decided for all of Heed, by whom, and is a fact like any other.

A subject here is what was decided about: `setting:<name>`, `key:<id>`, `parked:<topic>/<partition>@<offset>`.
Of several facts about one subject the latest by (time, id) holds, so the order in which they are read decides
nothing. Only Heed writes them; `actor` in the envelope says who asked for it.
Limits: links (`schemas.links`) stand there too; definitions join them as they are built.
Called by events (the table of types), settings' and keys' readers.
"""

from typing import Annotated, Final

import msgspec

from schemas import identity

SETTING: Final = "setting:"
PARKED: Final = "parked:"
KEY: Final = "key:"
MOST_COVERED: Final = 5_000  # subjects in one fact: more are told in several, which a record of Kafka's holds

Text = Annotated[str, msgspec.Meta(max_length=256)]
Word = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
Offset = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]


class SettingChanged(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A setting got another value (CEE-7); `value` is written as its variable would be."""

    name: Word
    value: Text


class KeyCreated(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A key was made (CEE-14): its SHA-256 in hex, its name, its scopes with a space between."""

    hash: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$", max_length=64)]
    name: Word
    scopes: Word


class KeyRevoked(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A key is not taken any more, whatever is said of it later (CEE-14)."""


class ParkedDiscarded(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A parked record was thrown away by somebody (LAW-7): where it stood, and why it had been parked."""

    offset: Offset
    part: Offset
    reason: Word
    topic: Word


class ContactErased(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A contact was erased, with all that belonged to it: no fact of these subjects is kept (LAW-6)."""

    covers: Annotated[list[identity.Subject], msgspec.Meta(min_length=1, max_length=MOST_COVERED)]
    why: Annotated[str, msgspec.Meta(max_length=256)] = ""


def setting(name: str) -> str:
    """The subject of a setting."""
    return SETTING + name


def parked(topic: str, part: int, offset: int) -> str:
    """The subject of a parked record."""
    return f"{PARKED}{topic}/{part}@{offset}"
