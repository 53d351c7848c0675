"""What happens to a mail: sent, delivered, bounced, opened, clicked, unsubscribed, complained.

A mailing is what is counted. `test: true` marks an event that counts nowhere; the mark is read on each event
and is never carried to others of its mailing. Fields stand in alphabetical order, the canonical one.
Limits: a `url` is kept as it was told; `email` of a bounce is personal (see `events.EventType.personal`).
Called by events.
"""

import contextlib
import unicodedata
from typing import Annotated, Literal

import msgspec

MailingId = Annotated[
    str,
    msgspec.Meta(
        min_length=1,
        max_length=128,
        description="The mailing: what frequency and volume count.",
    ),
]
MessageId = Annotated[
    str,
    msgspec.Meta(
        min_length=1,
        max_length=256,
        description="The one message, as the sending system names it.",
    ),
]
Test = Annotated[bool, msgspec.Meta(description="true: a test send, which counts nowhere.")]
Url = Annotated[
    str,
    msgspec.Meta(min_length=1, max_length=2048, description="The link that was clicked."),
]
Email = Annotated[
    str,
    msgspec.Meta(
        min_length=3,
        max_length=254,
        # The end is told so that Python and JSON Schema agree on it: `$` of Python allows a line break.
        pattern=r"^[^@\s]+@[^@\s]+(?![\s\S])",
        description="The address that bounced; without it, the contact's primary address at that time.",
    ),
]
BounceKind = Annotated[
    Literal["hard", "soft"],
    msgspec.Meta(description="hard: the address does not exist; soft: it may work later."),
]


def compared(email: str) -> str:
    """An address as addresses are compared: NFC, trimmed, in lower case, the domain as an A-label."""
    local, _, domain = unicodedata.normalize("NFC", email.strip()).lower().rpartition("@")
    with contextlib.suppress(UnicodeError):  # no domain of today's DNS stays as it is
        domain = domain.encode("idna").decode()
    return f"{local}@{domain}"


class Sent(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """A mail was handed over for delivery."""

    mailing_id: MailingId
    message_id: MessageId | None = None
    test: Test | None = None


class Delivered(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """A mail was taken by the recipient's server. A later bounce does not take it back."""

    mailing_id: MailingId
    message_id: MessageId | None = None
    test: Test | None = None


class Bounced(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """A mail came back."""

    email: Email | None = None
    kind: BounceKind
    mailing_id: MailingId
    message_id: MessageId | None = None
    test: Test | None = None


class Opened(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """A mail was opened."""

    mailing_id: MailingId | None = None
    message_id: MessageId | None = None
    test: Test | None = None


class Clicked(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """A link of a mail was clicked. Without a mailing it is history, not engagement."""

    mailing_id: MailingId | None = None
    message_id: MessageId | None = None
    test: Test | None = None
    url: Url


class Unsubscribed(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """The recipient asked for no more mail."""

    mailing_id: MailingId
    message_id: MessageId | None = None
    test: Test | None = None


class Complained(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """The recipient reported a mail as spam."""

    mailing_id: MailingId
    message_id: MessageId | None = None
    test: Test | None = None
