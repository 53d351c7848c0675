"""What keeps mail from an address: on hold, opted out, do-not-email; a function of facts (IDN-2).

Promises: order-free: what holds is worked out from all that was told, in the order of (time, id), so a late
word takes its place. A word with an address is about that address, whichever of the contacts that belong
together it was told of; one without is about the contact it was told of, and of what belongs together each
holds until it is lifted itself, so a merge never sets anybody free (IDN-5). An address is put on hold by a
hard bounce, and by `Rules.soft_bounces` soft ones within `Rules.days`; a word that lifts it lets earlier
bounces count no more. Deleting a contact lifts nothing.
Limits: a bounce without an address counts for the contact it was told of.
Called by events (the shape), `api.holds`.
"""

from __future__ import annotations

import enum
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Final, Literal

import msgspec

from schemas import mail

Kind = Annotated[
    Literal["hold", "opt_out", "do_not_email"],
    msgspec.Meta(
        description="hold: mail does not arrive; opt_out: the contact wants none; do_not_email: nobody may."
    ),
]
KINDS: Final = ("hold", "opt_out", "do_not_email")
CHANGED: Final = "contact.hold_changed"
BOUNCED: Final = "mail.bounced"


class HoldChanged(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """Mail to a contact, or to one address of it, was stopped, or may go again."""

    email: Annotated[mail.Email, msgspec.Meta(description="The address; without it, the contact.")] | None = (
        None
    )
    kind: Kind
    on: Annotated[bool, msgspec.Meta(description="true: no mail from now on; false: that is lifted.")]


class Because(enum.StrEnum):
    """Why something holds."""

    TOLD = "told"
    HARD = "hard_bounce"
    SOFT = "soft_bounces"


@dataclass(frozen=True, slots=True)
class Rules:
    """When soft bounces put an address on hold: so many within so many days, ends included."""

    soft_bounces: int = 5
    days: int = 30


@dataclass(frozen=True, slots=True)
class Told:
    """A fact of type `CHANGED` or `BOUNCED`, opened; `content` is its data."""

    subject: str
    source: str
    id: str
    time: datetime
    actor: str | None
    content: HoldChanged | mail.Bounced

    @property
    def kind(self) -> str:
        """What it may begin or lift."""
        return self.content.kind if isinstance(self.content, HoldChanged) else "hold"

    @property
    def whom(self) -> str:
        """What it is about: an address, as addresses are compared, or a subject."""
        return whom(self.subject, self.content.email)


@dataclass(frozen=True, slots=True)
class Standing:
    """What holds: since the fact that began it."""

    because: Because
    told: Told


def whom(subject: str, email: str | None) -> str:
    """What a word is about: its address, as addresses are compared, else its subject."""
    return subject if email is None else mail.compared(email)


def standing(told: Iterable[Told], rules: Rules) -> dict[str, list[Standing]]:
    """By kind (each is there) what holds, the longest first; `told` in any order, each fact once."""
    histories: dict[tuple[str, str], list[Told]] = defaultdict(list)
    for one in sorted(told, key=lambda one: (one.time, one.id, one.source, one.subject)):
        histories[one.kind, one.whom].append(one)
    found: dict[str, list[Standing]] = {kind: [] for kind in KINDS}
    for (kind, _), history in histories.items():
        begun = _begun(history, rules)
        if begun is not None:
            found[kind].append(begun)
    for holding in found.values():
        holding.sort(key=lambda one: (one.told.time, one.told.id, one.told.source, one.told.whom))
    return found


def _begun(history: Sequence[Told], rules: Rules) -> Standing | None:
    """What began and was not lifted, of what was told of one address or subject, in order."""
    begun: Standing | None = None
    soft: list[Told] = []
    for one in history:
        match one.content:
            case HoldChanged(on=False):
                begun, soft = None, []
            case HoldChanged():
                begun = begun or Standing(Because.TOLD, one)
            case mail.Bounced(kind="hard"):
                begun = begun or Standing(Because.HARD, one)
            case _:
                since = one.time - timedelta(days=rules.days)
                soft = [*(other for other in soft if since <= other.time), one]
                if len(soft) >= rules.soft_bounces:
                    begun = begun or Standing(Because.SOFT, one)
    return begun
