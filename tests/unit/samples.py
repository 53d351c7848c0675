"""Events to try admission with: valid ones of every built type, and what can go wrong with them.

Called by the tests of schemas; pure, and apart from the demo's generator.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from schemas import admission, completion, events
from tests import keyring

AT = datetime(2026, 11, 22, 14, 39, 47, 123_000, tzinfo=UTC)
AHEAD = timedelta(seconds=300)
HOMES = 8
SECRET = "ada.lovelace@example.org"

DATA: dict[str, dict[str, Any]] = {
    "mail.sent": {"mailing_id": "m1", "message_id": "m1/ada", "test": True},
    "mail.delivered": {"mailing_id": "m1", "message_id": "m1/ada"},
    "mail.bounced": {"email": "ada@example.org", "kind": "hard", "mailing_id": "m1"},
    "mail.opened": {"mailing_id": "m1", "message_id": "m1/ada"},
    "mail.clicked": {"mailing_id": "m1", "url": "https://example.org/a?b=c&d=é"},
    "mail.unsubscribed": {"mailing_id": "m1"},
    "mail.complained": {"mailing_id": "m1", "test": False},
    "page.viewed": {"url": "https://example.org/a", "title": "A", "referrer": "https://example.org/"},
    "contact.identified": {
        "attributes": {"city": "London", "member": True, "visits": 7},
        "custom_ids": ["crm-1"],
        "emails": ["Ada@example.org", "ada@exämple.org"],
        "first_name": "Ada",
        "last_name": "Lovelace",
        "name": "Ada Lovelace",
        "phones": ["+44 20 7946 0018"],
        "primary_email": "ada@example.org",
        "zone": "Europe/London",
    },
    "contact.deleted": {},
    "contact.restored": {},
    "contact.consent_changed": {"level": "aggregate"},
    "contact.hold_changed": {"email": "ada@example.org", "kind": "hold", "on": True},
    "contact.merged": {"into": "grace"},
    "contact.unmerged": {"link": {"id": "e0", "source": "urn:test"}},
    "identifier.unlinked": {"link": {"id": "e0", "source": "urn:test"}},
    "session.created": {},
    "session.started": {},
    "session.linked": {"contact_id": "ada"},
    "session.unlinked": {"link": {"id": "e0", "source": "urn:test"}},
}


def door(name: str) -> str:
    """The door of a built type, as names.md has it."""
    if name.startswith(("page.", "custom.")):
        return "custom-events"
    return "email-activity" if name.startswith("mail.") else "contact-identity"


def subject(name: Any) -> str:
    """Whom an event of a type is about."""
    if name == "identifier.unlinked":
        return "email:ada@example.org"
    return "session:s1" if str(name).startswith("session.") else "contact:ada"


def event(type: Any = "mail.clicked", **changes: Any) -> dict[str, Any]:
    """A valid event of a type, with members changed; a member changed to `...` is left out."""
    whole = {
        "specversion": "1.0",
        "id": "e1",
        "source": "urn:test",
        "type": type,
        "subject": subject(type),
        "time": "2026-11-22T14:39:46.999Z",
        "data": DATA.get(type, {}) if isinstance(type, str) else {},
        **changes,
    }
    return {name: member for name, member in whole.items() if member is not ...}


def marked(kind: events.EventType, word: Callable[[], str]) -> dict[str, Any]:
    """Every personal field of a type, with words that stand nowhere else."""
    made: dict[str, Any] = {}
    for field in kind.personal:
        if field == "phones":
            made[field] = [f"+{uuid.uuid4().int % 10**15:015}"]
        elif field == "attributes":
            made[field] = {"note": word()}
        else:
            made[field] = [word()] if field in ("emails", "custom_ids") else word()
    return made


def words(value: Any) -> Iterator[str]:
    """The words of such fields."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from words(one)


def encode(value: object) -> bytes:
    """JSON as a plain producer writes it: escapes for all that is not ASCII."""
    return json.dumps(value).encode()


def admit(
    raw: object, door: str | None = "email-activity", fill: completion.Fill | None = None
) -> admission.Outcome:
    """The outcome of an event, given as bytes or as a value."""
    whole = raw if isinstance(raw, bytes) else encode(raw)
    return admission.admit(
        whole, at=AT, door=door, homes=HOMES, ahead=AHEAD, secret=keyring.SECRET, fill=fill
    )


def admitted(
    raw: object, door: str | None = "email-activity", fill: completion.Fill | None = None
) -> admission.Admitted:
    """The outcome of an event that must be admitted."""
    outcome = admit(raw, door, fill)
    assert isinstance(outcome, admission.Admitted), outcome
    return outcome


def data(outcome: admission.Admitted) -> dict[str, Any]:
    """The data of an admitted event, what is personal among it."""
    found: dict[str, Any] = json.loads(outcome.value)["data"] | json.loads(outcome.personal or b"{}")
    return found


def rejected(
    raw: object, door: str | None = "email-activity", fill: completion.Fill | None = None
) -> admission.Rejected:
    """The outcome of an event that must not be admitted."""
    outcome = admit(raw, door, fill)
    assert isinstance(outcome, admission.Rejected), outcome
    return outcome


# Strings as hostile as JSON can carry them and the log can keep them: no NUL, no half of a surrogate pair.
storable = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=40)

# Any JSON value, halves of surrogate pairs and numbers without limits included.
anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(st.characters(exclude_categories=[]), max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)
