"""The timeline of a contact: which facts are activities, and what each is called (ACT-1).

The one table of them: a type of fact that is to be in timelines gets a line here, and nothing else is needed.
`heed migrate` copies it into the database (`activity_kind`), where the timeline is a reading of the facts.
Words are English and are what people filter by, so a line may be added, and is changed only with a reason.

Limits: a text tells nothing of what is personal (url, address, message id), so it can stand in lists and
dashboards. Undos are no activities: what was taken back was never there (LAW-3); the audit log has both.
Called by `projections.migrations` (the copy) and the API (what can be filtered by).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from schemas import events


class Status(enum.StrEnum):
    """How far an activity has come."""

    SCHEDULED = "Scheduled"
    COMPLETED = "Completed"
    FAILED = "Failed"
    CANCELLED = "Cancelled"


@dataclass(frozen=True, slots=True)
class Kind:
    """What a fact of one type is called in a timeline.

    `told` names the fields of its data that stand behind the text, where they are told. `behaviour` marks
    what the contact itself did with mail or on a site, which is shown only where its consent allows.
    """

    event_type: str
    type: str
    action: str
    feature: str
    text: str
    told: tuple[str, ...] = ()
    status: Status = Status.COMPLETED
    behaviour: bool = False


_MAIL: Final = "Serial Mail & Tracking"
_TRACKING: Final = "Tracking"
_IDENTITY: Final = "Identity"
_MAILING: Final = ("mailing_id",)

_KINDS: Final = (
    Kind("mail.sent", "Email", "Output", _MAIL, "Mail sent", _MAILING),
    Kind("mail.delivered", "Email", "Delivery", _MAIL, "Mail delivered", _MAILING),
    Kind("mail.bounced", "Email", "Bounce", _MAIL, "Mail bounced", ("mailing_id", "kind"), Status.FAILED),
    Kind("mail.opened", "System", "Email Open", _TRACKING, "Mail opened", _MAILING, behaviour=True),
    Kind("mail.clicked", "System", "Link Click", _TRACKING, "Link clicked", _MAILING, behaviour=True),
    Kind("mail.unsubscribed", "System", "Unsubscribe", _TRACKING, "Unsubscribed", _MAILING),
    Kind("mail.complained", "System", "Complaint", _TRACKING, "Reported as spam", _MAILING),
    Kind("page.viewed", "System", "Page View", _TRACKING, "Page viewed", behaviour=True),
    Kind("contact.identified", "Contact", "Identify", _IDENTITY, "Contact identified"),
    Kind("contact.deleted", "Contact", "Delete", _IDENTITY, "Contact deleted"),
    Kind("contact.restored", "Contact", "Restore", _IDENTITY, "Contact restored"),
    Kind("contact.consent_changed", "Contact", "Consent", _IDENTITY, "Consent", ("level",)),
    Kind("contact.hold_changed", "Contact", "Hold", _IDENTITY, "Hold changed", ("kind", "on")),
    Kind("contact.merged", "Contact", "Merge", _IDENTITY, "Merged into contact", ("into",)),
    Kind("session.created", "Session", "Create", _IDENTITY, "Session created"),
    Kind("session.started", "Session", "Start", _IDENTITY, "Session started"),
    Kind("session.linked", "Session", "Link", _IDENTITY, "Session linked to contact", ("contact_id",)),
)

KINDS: Final[dict[str, Kind]] = {kind.event_type: kind for kind in _KINDS}
TYPES: Final = tuple(dict.fromkeys(kind.type for kind in _KINDS))
ACTIONS: Final = tuple(dict.fromkeys(kind.action for kind in _KINDS))
FEATURES: Final = tuple(dict.fromkeys(kind.feature for kind in _KINDS))
STATUSES: Final = tuple(str(status) for status in Status)

assert all(
    name in events.EVENTS and not set(kind.told) & set(events.EVENTS[name].personal)
    for name, kind in KINDS.items()
)
