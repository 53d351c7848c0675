"""Who an event is about: the forms of a subject, and the facts about contacts.

A subject is `<kind>:<value>`. The id of a contact or of a session is opaque and can never be an address: it
has no `@`. What is told of a session is kept under it, and is a contact's while it is linked to one
(`schemas.links`).
A contact may also be told of by an identifier of its own, which reaches the log as a keyed hash alone
(`schemas.identifiers`).
Called by events (structs), admission (subjects) and the API (ids).
"""

import re
from typing import Annotated, Final

import msgspec

CONTACT: Final = "contact:"
SESSION: Final = "session:"
CONTACT_ID: Final = "[A-Za-z0-9_.~-]{1,64}"
EMAIL: Final = "email:"
PHONE: Final = "phone:"
CUSTOM: Final = "custom:"
SET: Final = "set:"
IDENTIFIERS: Final = (EMAIL, PHONE, CUSTOM)
SUBJECTS: Final = f"(?:{CONTACT}|{SESSION}){CONTACT_ID}"
IDENTIFIER: Final = f"(?:{EMAIL}|{PHONE}|{CUSTOM})[0-9a-f]{{64}}"

LOGGED: Final = f"(?:{SUBJECTS}|{IDENTIFIER}|{SET}[0-9a-f]{{64}})"

Subject = Annotated[
    str,
    msgspec.Meta(max_length=72, pattern=rf"^{LOGGED}(?![\s\S])", description="Whom facts are kept under."),
]

is_contact_id: Final = re.compile(CONTACT_ID).fullmatch
is_subject: Final = re.compile(SUBJECTS).fullmatch
is_identifier: Final = re.compile(IDENTIFIER).fullmatch
# What can be in a set, and what a subject of the log looks like.
is_member: Final = re.compile(f"{IDENTIFIER}|{SESSION}{CONTACT_ID}").fullmatch
is_logged: Final = re.compile(LOGGED).fullmatch


class Deleted(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A contact was deleted. It keeps its facts and its addresses, and has no row until it is restored."""


class Restored(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A deleted contact is back, with the row that it would have had."""


def contact_id(subject: str) -> str | None:
    """The id in a `contact:` subject; None for a subject of another kind."""
    return subject[len(CONTACT) :] if subject.startswith(CONTACT) else None
