"""What is known of a contact, as facts: its identifiers, names, zone and attributes (IDN-1).

An identification is a fact about a contact, and one link of each of its identifiers to it, in the registry:
identifiers add up and go only by `identifier.unlinked`, which names the event that told of them. Of primary
address, names, zone and each attribute the latest by (time, id) holds.
Limits: an attribute is text, a whole number or true or false; `primary_email` is one of the emails whether it
stands among them or not. Fields stand in alphabetical order, the canonical one.
Called by events (the table of types), admission (which makes the links) and `projections.membership`.
"""

from __future__ import annotations

import uuid
from typing import Annotated, Final

import msgspec

from schemas import links

MOST: Final = 100
_NAMESPACE: Final = uuid.UUID("0f6c8a52-5d0e-5c39-9d0a-7a4b8e1f2c61")

Address = Annotated[str, msgspec.Meta(min_length=3, max_length=254)]
Number = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
CustomId = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Label = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Zone = Annotated[
    str,
    msgspec.Meta(
        min_length=1,
        max_length=64,
        pattern=r"^[A-Za-z0-9_+\-]+(/[A-Za-z0-9_+\-]+)*(?![\s\S])",
        description="The time zone, as the IANA has it: Europe/Berlin.",
    ),
]
AttributeName = Annotated[
    str, msgspec.Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_ .\-]+(?![\s\S])")
]
Attribute = (
    bool
    | Annotated[int, msgspec.Meta(ge=-(2**53) + 1, le=2**53 - 1)]
    | Annotated[str, msgspec.Meta(max_length=1024)]
)


class Identified(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """What is known of a contact: what is told adds to what was told before, or takes its place."""

    attributes: (
        Annotated[
            dict[AttributeName, Attribute],
            msgspec.Meta(max_length=MOST, description="Anything else that is known, by name."),
        ]
        | None
    ) = None
    custom_ids: (
        Annotated[list[CustomId], msgspec.Meta(max_length=MOST, description="Ids of the sender's own.")]
        | None
    ) = None
    emails: Annotated[list[Address], msgspec.Meta(max_length=MOST, description="Email addresses.")] | None = (
        None
    )
    first_name: Annotated[Label, msgspec.Meta(description="The given name.")] | None = None
    last_name: Annotated[Label, msgspec.Meta(description="The family name.")] | None = None
    name: Annotated[Label, msgspec.Meta(description="The name in full.")] | None = None
    phones: Annotated[list[Number], msgspec.Meta(max_length=MOST, description="Phone numbers.")] | None = None
    primary_email: (
        Annotated[Address, msgspec.Meta(description="The address to write to, from now on.")] | None
    ) = None
    zone: Zone | None = None


class IdentifierLinked(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """An identifier is a contact's, by an event that told so; `primary`: mails go there."""

    contact_id: links.ContactId
    told: links.Link
    primary: bool = False


class IdentifierUnlinked(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The identifier is not the contact's any more: what the named event told of it is taken back."""

    link: links.Link


def link_id(source: str, id: str) -> str:
    """The id of the links that an identification makes, by its own source and id."""
    return str(uuid.uuid5(_NAMESPACE, f"{source}\0{id}"))
