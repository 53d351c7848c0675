"""The timeline of a contact, as the specification says it: what happened, by what was told until an instant.

Promises: depends on the set of what was told alone. A fact is in the timeline of whose its subject is; links
that nothing takes back are, and undos never. Nothing is of a contact that is deleted, nothing of a subject
that is; no opens and clicks where a consent of anything that belongs to the contact withholds them; no tests.

Limits: the types that there are; works everything out anew from all facts.

Called by the law tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b
from typing import Any, NamedTuple

from tests.oracle import links
from tests.oracle.instants import instant

Envelope = Mapping[str, Any]

MAIL, TRACKING, IDENTITY = "Serial Mail & Tracking", "Tracking", "Identity"
NAMES = {
    "mail.sent": ("Email", "Output", MAIL, "Mail sent", "Completed"),
    "mail.delivered": ("Email", "Delivery", MAIL, "Mail delivered", "Completed"),
    "mail.bounced": ("Email", "Bounce", MAIL, "Mail bounced", "Failed"),
    "mail.opened": ("System", "Email Open", TRACKING, "Mail opened", "Completed"),
    "mail.clicked": ("System", "Link Click", TRACKING, "Link clicked", "Completed"),
    "mail.unsubscribed": ("System", "Unsubscribe", TRACKING, "Unsubscribed", "Completed"),
    "mail.complained": ("System", "Complaint", TRACKING, "Reported as spam", "Completed"),
    "page.viewed": ("System", "Page View", TRACKING, "Page viewed", "Completed"),
    "contact.deleted": ("Contact", "Delete", IDENTITY, "Contact deleted", "Completed"),
    "contact.restored": ("Contact", "Restore", IDENTITY, "Contact restored", "Completed"),
    "contact.consent_changed": ("Contact", "Consent", IDENTITY, "Consent", "Completed"),
    "contact.hold_changed": ("Contact", "Hold", IDENTITY, "Hold changed", "Completed"),
    "contact.identified": ("Contact", "Identify", IDENTITY, "Contact identified", "Completed"),
    "contact.merged": ("Contact", "Merge", IDENTITY, "Merged into contact", "Completed"),
    "session.created": ("Session", "Create", IDENTITY, "Session created", "Completed"),
    "session.started": ("Session", "Start", IDENTITY, "Session started", "Completed"),
    "session.linked": ("Session", "Link", IDENTITY, "Session linked to contact", "Completed"),
}
WATCHED = {"mail.opened", "mail.clicked", "page.viewed"}


class Activity(NamedTuple):
    """A line of a timeline; `time` is milliseconds since 1970."""

    contact_id: str
    time: int
    type: str
    action: str
    feature: str
    text: str
    status: str
    actor: str | None
    event_type: str
    source: str
    event_id: str
    subject: str


def of(envelopes: Iterable[Envelope], upto: int | None = None) -> list[Activity]:
    """The activities of all contacts, the newest first."""
    everything = list(envelopes)
    told = [links.read(one) for one in everything if one["type"] in links.TYPES]
    root_of = links.roots(told, upto)
    facts = _known([one for one in everything if one["type"] not in links.TYPES], upto)
    standing = _standing(_known([one for one in everything if one["type"] in links.TYPES], upto))
    words = sorted(facts, key=lambda one: (instant(one["time"]), one["id"], one["source"]))
    presence = {one["subject"]: one["type"] for one in words
                if one["type"] in ("contact.deleted", "contact.restored")}  # fmt: skip
    gone = {subject for subject, last in presence.items() if last == "contact.deleted"}
    consent = {
        one["subject"]: one["data"]["level"] for one in words if one["type"] == "contact.consent_changed"
    }
    withheld = {root_of(subject) for subject, level in consent.items() if level != "individual"}
    shown = [
        one for one in [*facts, *standing]
        if one["type"] in NAMES and not one["data"].get("test")
        and not {one["subject"], root_of(one["subject"])} & gone
        and root_of(one["subject"]).startswith("contact:")
        and not (one["type"] in WATCHED and root_of(one["subject"]) in withheld)
    ]  # fmt: skip
    return [_line(one, root_of) for one in sorted(shown, key=_place, reverse=True)]


def _known(envelopes: Iterable[Envelope], upto: int | None) -> list[Envelope]:
    """Each once, by subject, source and id: of two contents the smaller (time, digest); those until then."""
    held: dict[tuple[str, str, str], Envelope] = {}
    for one in envelopes:
        name = (one["subject"], one["source"], one["id"])
        if name not in held or _rank(one) < _rank(held[name]):
            held[name] = one
    return [one for one in held.values() if upto is None or instant(one["time"]) <= upto]


def _standing(told: Iterable[Envelope]) -> list[Envelope]:
    """Links that nothing of this takes back."""
    known = list(told)
    undone = {
        (one["subject"], one["data"]["link"]["source"], one["data"]["link"]["id"])
        for one in known
        if "link" in one["data"]
    }
    return [
        one
        for one in known
        if "link" not in one["data"] and (one["subject"], one["source"], one["id"]) not in undone
    ]


def _line(one: Envelope, root_of: Callable[[str], str]) -> Activity:
    type_, action, feature, text, status = NAMES[one["type"]]
    data = one["data"]
    told = [data.get(name) for name in ("mailing_id", "kind", "level", "into", "contact_id")]
    told += [str(data["on"]).lower()] if "on" in data else []
    detail = ", ".join(value for value in told if value)
    return Activity(
        root_of(one["subject"]).removeprefix("contact:"), instant(one["time"]), type_, action, feature,
        f"{text}: {detail}" if detail else text, status, one.get("actor"), one["type"], one["source"],
        one["id"], one["subject"],
    )  # fmt: skip


def _rank(one: Envelope) -> tuple[int, str]:
    return instant(one["time"]), one["digest"]


def _place(one: Envelope) -> tuple[int, str, str, bool]:
    key = blake2b(f"{one['source']}\0{one['id']}".encode(), digest_size=16).hexdigest()
    return instant(one["time"]), key, one["subject"], one["type"] in links.TYPES
