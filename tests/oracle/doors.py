"""What must have become of a record at a door, judged from its bytes alone.

Promises: GOOD only for an event that Heed has to take, BAD only for one it may never take; whatever is a
matter of detail is EITHER. So a record can be held against the log without knowing how admission decides.

Called by `oracle.audit`.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import orjson
from whenever import Instant

MAIL_WITH_MAILING = frozenset(
    {"mail.sent", "mail.delivered", "mail.bounced", "mail.unsubscribed", "mail.complained"}
)
MAIL = MAIL_WITH_MAILING | {"mail.opened", "mail.clicked"}
IDENTIFYING = frozenset({"contact.identified", "identifier.unlinked"})
LINKS = frozenset({"contact.merged", "contact.unmerged", "session.linked", "session.unlinked"})
CONTACT = (
    frozenset({"contact.deleted", "contact.restored", "contact.consent_changed"})
    | LINKS
    | {"contact.hold_changed"}
)
CONTACT |= {"session.created", "session.started"}
SITE = frozenset({"page.viewed"})  # custom.received is parked, as long as nothing can be defined
DOORS = {"email-activity": MAIL, "custom-events": SITE, "contact-identity": CONTACT | IDENTIFYING}
SUBJECT = re.compile(r"(contact|session):[A-Za-z0-9_.~-]{1,64}", re.ASCII)
ID = re.compile(r"[A-Za-z0-9_.~-]{1,64}", re.ASCII)
PLAIN = re.compile(r"[\x20-\x7e]{1,128}", re.ASCII)
ADDRESS = re.compile(r"[a-z0-9.]+@[a-z0-9.]+", re.ASCII)
TEXTS = ("mailing_id", "message_id", "url", "email", "title", "referrer")
LIMIT = 32 * 1024


class Verdict(StrEnum):
    GOOD = "good"
    BAD = "bad"
    EITHER = "either"


def judge(raw: bytes, door: str, appended: datetime, ahead: timedelta = timedelta(minutes=5)) -> Verdict:
    """Whether the record has to be in the log (GOOD), may not be (BAD), or may be in either place."""
    try:
        event = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return Verdict.BAD
    if not isinstance(event, dict) or len(raw) > LIMIT:
        return Verdict.BAD
    kind = event.get("type")
    if not isinstance(kind, str) or kind not in DOORS[door]:
        return Verdict.BAD
    subject = event.get("subject")
    if _by_identifiers(kind, event):
        return Verdict.EITHER
    if not isinstance(subject, str) or not SUBJECT.fullmatch(subject):
        return Verdict.BAD
    if kind in CONTACT and not subject.startswith(kind.split(".")[0]):
        return Verdict.BAD
    if not all(isinstance(event.get(name), str) and event[name] for name in ("id", "source", "time")):
        return Verdict.BAD
    return Verdict.GOOD if _plain(event, appended + ahead) else Verdict.EITHER


def _by_identifiers(kind: str, event: dict[str, Any]) -> bool:
    """Whether it tells of identifiers, which is more than can be judged from here."""
    subject, data = event.get("subject"), event.get("data")
    if kind in IDENTIFYING or (
        kind not in CONTACT
        and isinstance(subject, str)
        and subject.startswith(("email:", "phone:", "custom:"))
    ):
        return True
    return (
        subject is None and kind not in CONTACT and isinstance(data, dict) and bool(data.get("identifiers"))
    )


def _plain(event: dict[str, Any], latest: datetime) -> bool:
    """Nothing about it that admission could stumble over."""
    data = event.get("data")
    if event.get("specversion") != "1.0" or not isinstance(data, dict):
        return False
    if event.get("dataschema", f"urn:heed:{event['type']}:1") != f"urn:heed:{event['type']}:1":
        return False
    if event.get("datacontenttype", "application/json") != "application/json":
        return False
    if not all(PLAIN.fullmatch(event[name]) for name in ("id", "source")):
        return False
    try:
        time = Instant.parse_iso(event["time"]).to_stdlib()
    except ValueError:
        return False
    if not datetime(1970, 1, 1, tzinfo=UTC) <= time <= latest:
        return False
    if event["type"] in LINKS:
        return _plain_link(event["type"], event["subject"], data)
    return _plain_data(event["type"], data)


def _plain_link(kind: str, subject: str, data: dict[str, Any]) -> bool:
    if kind in ("contact.unmerged", "session.unlinked"):
        link = data.get("link")
        named = [link.get("id"), link.get("source")] if isinstance(link, dict) else [None]
        return all(isinstance(one, str) and PLAIN.fullmatch(one) for one in named)
    to = data.get("into" if kind == "contact.merged" else "contact_id")
    return isinstance(to, str) and ID.fullmatch(to) is not None and subject != f"contact:{to}"


def _plain_data(kind: str, data: dict[str, Any]) -> bool:
    if kind == "contact.consent_changed":
        return data.get("level") in ("refused", "aggregate", "individual")
    if kind == "contact.hold_changed":
        return (
            data.get("kind") in ("hold", "opt_out", "do_not_email")
            and isinstance(data.get("on"), bool)
            and isinstance(data.get("email", "a@example.org"), str)
            and bool(ADDRESS.fullmatch(data.get("email", "a@example.org")))
        )
    texts = [data[name] for name in TEXTS if name in data]
    if not all(isinstance(text, str) and PLAIN.fullmatch(text) for text in texts):
        return False
    if not isinstance(data.get("test", False), bool):
        return False
    if kind in MAIL_WITH_MAILING and "mailing_id" not in data:
        return False
    if kind in ("mail.clicked", "page.viewed") and "url" not in data:
        return False
    if kind != "mail.bounced":
        return True
    return data.get("kind") in ("hard", "soft") and bool(
        ADDRESS.fullmatch(data.get("email", "a@example.org"))
    )
