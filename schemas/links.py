"""Who belongs to whom, as facts: contacts merged, sessions linked, and both undone by naming them (IDN-4).

A link goes from a subject to a contact; an undo names the link that it takes back by its source and id, so it
may come before it. Links are kept for ever, all of them; which of them holds is a matter of reading
(`projections.membership`): of a subject's standing links the latest by (time, id).
Called by events (the table of types) and `projections.membership`.
"""

from typing import Annotated

import msgspec

from schemas import identity

ContactId = Annotated[
    str,
    msgspec.Meta(
        min_length=1,
        max_length=64,
        # The end is told so that Python and JSON Schema agree on it: `$` of Python allows a line break.
        pattern=rf"^{identity.CONTACT_ID}(?![\s\S])",
        description="The contact's id, as it stands behind contact: in a subject.",
    ),
]
Named = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]


class Link(msgspec.Struct, frozen=True, gc=False):
    """The event that is taken back: its source and its id."""

    id: Named
    source: Named


class Merged(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The contact that the event is about belongs to another now, with all that is kept of it."""

    into: ContactId


class Unmerged(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A merge is taken back: everything is as had it never been told."""

    link: Link


class SessionLinked(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A session is a contact's; what happened in it before is, too."""

    contact_id: ContactId


class SessionUnlinked(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The link of a session is taken back."""

    link: Link


def is_to_itself(subject: str, merged: bytes) -> bool:
    """Whether a merge (its data in canonical form) is one of a contact into itself."""
    return merged == b'{"into":"%b"}' % subject.removeprefix(identity.CONTACT).encode()
