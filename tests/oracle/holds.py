"""What keeps mail from an address, as the specification says it (IDN-2), by brute force.

Promises: depends on the set of what was told alone. Something holds where it began after the last word that
lifted it: by a word, a hard bounce, or the soft bounce that is the n-th within some days.

Limits: works everything out anew from all facts; addresses in ASCII.

Called by the law tests.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tests.oracle import links
from tests.oracle.instants import instant

Envelope = Mapping[str, Any]
Order = tuple[int, str, str, str]
DAY = 86_400_000
WORD, BOUNCE = "contact.hold_changed", "mail.bounced"


def of(
    envelopes: Iterable[Envelope], contact: str, soft: int = 5, days: int = 30, upto: int | None = None
) -> dict[str, set[tuple[str, str, int, str, str]]]:
    """By kind what holds of a contact: (address or subject, why, since in ms, source, id)."""
    everything = list(envelopes)
    root_of = links.roots([links.read(one) for one in everything if one["type"] in links.TYPES], upto)
    held: dict[tuple[str, str, str], Envelope] = {}
    for one in everything:
        name = (one["subject"], one["source"], one["id"])
        if one["type"] in links.TYPES:
            continue
        if name not in held or _rank(one) < _rank(held[name]):
            held[name] = one
    told = [
        one for one in held.values()
        if one["type"] in (WORD, BOUNCE) and not one["data"].get("test")
        and (upto is None or instant(one["time"]) <= upto)
        and root_of(one["subject"]) == f"contact:{contact}"
    ]  # fmt: skip
    return {kind: _holding(told, kind, soft, days) for kind in ("hold", "opt_out", "do_not_email")}


def _holding(told: list[Envelope], kind: str, soft: int, days: int) -> set[tuple[str, str, int, str, str]]:
    found = set()
    for whom in {_whom(one) for one in told}:
        mine = [one for one in told if _whom(one) == whom and _kind(one) == kind]
        lifted = max((_order(one) for one in mine if one["data"].get("on") is False), default=None)
        left = [one for one in mine if lifted is None or _order(one) > lifted]
        began = [(one, why) for one in left if (why := _begins(one, left, soft, days))]
        if began:
            one, why = min(began, key=lambda pair: _order(pair[0]))
            found.add((whom, why, instant(one["time"]), one["source"], one["id"]))
    return found


def _begins(one: Envelope, left: list[Envelope], soft: int, days: int) -> str | None:
    if one["type"] == WORD:
        return "told"
    if one["data"]["kind"] == "hard":
        return "hard_bounce"
    near = [
        other for other in left
        if other["type"] == BOUNCE and other["data"]["kind"] == "soft" and _order(other) <= _order(one)
        and instant(one["time"]) - instant(other["time"]) <= days * DAY
    ]  # fmt: skip
    return "soft_bounces" if len(near) >= soft else None


def _whom(one: Envelope) -> str:
    email: str | None = one["data"].get("email")
    return str(one["subject"]) if email is None else email.strip().lower()


def _kind(one: Envelope) -> str:
    return str(one["data"]["kind"]) if one["type"] == WORD else "hold"


def _order(one: Envelope) -> Order:
    return instant(one["time"]), one["id"], one["source"], one["subject"]


def _rank(one: Envelope) -> tuple[int, str]:
    return instant(one["time"]), one["digest"]
