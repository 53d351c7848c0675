"""The table of event types: by which door each comes, which topic of the log keeps it, what it carries.

Every type that has a name is here, built or not, so that what is planned, what is Heed's own and what nobody
knows are told apart: a type that is not built is `unknown_type`, one that only Heed writes is `wrong_door` at
every door.
Called by admission and codec; read by deploy/contracts.py, which writes the JSON Schemas.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from schemas import (
    consent,
    custom_events,
    hold,
    identified,
    identity,
    links,
    mail,
    registry,
    sessions,
    topics,
)

SNOOZE_CHANGES: Final = "snooze-changes"

ANYONE: Final = (identity.CONTACT, identity.SESSION, *identity.IDENTIFIERS, identity.SET)

Decode = Callable[[bytes | msgspec.Raw], msgspec.Struct]


@dataclass(frozen=True, slots=True)
class EventType:
    """A type: its door (None: Heed alone writes it), its topic in the log, its newest version and shape.

    `personal` names the fields that are sealed before they enter the log: a closed list (LAW-6); the others
    stand open. `subjects` says whom an event can be about. `undefined`: it names an event of an
    organisation's own, and waits, parked, until that is defined (EVT-1); nothing can be defined yet.
    """

    name: str
    door: str | None
    topic: str = topics.FACTS
    version: int = 1
    struct: type[msgspec.Struct] | None = None
    personal: tuple[str, ...] = ()
    subjects: tuple[str, ...] = ANYONE
    undefined: bool = False
    decode: Decode = field(init=False, repr=False, compare=False)
    open: type[msgspec.Struct] | None = field(init=False, repr=False, compare=False, default=None)
    decode_open: Decode = field(init=False, repr=False, compare=False)
    decode_personal: Decode = field(init=False, repr=False, compare=False)
    dataschema: str = field(init=False, repr=False, compare=False, default="")

    def __post_init__(self) -> None:
        object.__setattr__(self, "dataschema", f"urn:heed:{self.name}:{self.version}")
        if self.struct is not None:
            opened, personal = _parted(self.struct, self.personal)
            object.__setattr__(self, "open", opened)
            for name, struct in (("", self.struct), ("_open", opened), ("_personal", personal)):
                object.__setattr__(self, f"decode{name}", msgspec.json.Decoder(struct).decode)

    @property
    def built(self) -> bool:
        """Whether this version of Heed takes events of this type at a door."""
        return self.struct is not None and self.door is not None

    @property
    def attributed(self) -> bool:
        """Whether the log keeps who told it, where that is known: it changes who somebody is, or Heed."""
        return self.door in (None, topics.CONTACT_IDENTITY)

    @property
    def folded(self) -> bool:
        """Whether this version of Heed knows facts of this type on the topic `facts`."""
        return self.struct is not None and self.topic == topics.FACTS

    @property
    def registered(self) -> bool:
        """Whether this version of Heed knows facts of this type in the registry."""
        return self.struct is not None and self.topic == topics.REGISTRY


def _parted(
    struct: type[msgspec.Struct], personal: tuple[str, ...]
) -> tuple[type[msgspec.Struct], type[msgspec.Struct]]:
    """The fields of a struct as two: those that stand open, and those that are personal."""
    fields = msgspec.structs.fields(struct)
    assert set(personal) <= {one.name for one in fields}, personal
    opened = [
        (one.name, one.type) if one.required else (one.name, one.type, one.default)
        for one in fields
        if one.name not in personal
    ]
    sealed = [(one.name, one.type | None, None) for one in fields if one.name in personal]
    return _struct(struct, opened), _struct(struct, sealed)


def _struct(like: type[msgspec.Struct], fields: Sequence[Any]) -> type[msgspec.Struct]:
    about = {"__doc__": like.__doc__}
    return msgspec.defstruct(
        like.__name__, fields, namespace=about, frozen=True, gc=False, omit_defaults=True, kw_only=True
    )


def _mail(name: str, struct: type[msgspec.Struct], personal: tuple[str, ...] = ()) -> EventType:
    personal = (*personal, "message_id")
    return EventType(f"mail.{name}", topics.EMAIL_ACTIVITY, struct=struct, personal=personal)


def _contact(
    name: str, topic: str, struct: type[msgspec.Struct], personal: tuple[str, ...] = ()
) -> EventType:
    return EventType(
        f"contact.{name}",
        topics.CONTACT_IDENTITY,
        topic,
        struct=struct,
        personal=personal,
        subjects=(identity.CONTACT,),
    )


def _session(name: str, topic: str, struct: type[msgspec.Struct]) -> EventType:
    return EventType(
        f"session.{name}", topics.CONTACT_IDENTITY, topic, struct=struct, subjects=(identity.SESSION,)
    )


def _own(name: str, struct: type[msgspec.Struct]) -> EventType:
    return EventType(name, None, topics.REGISTRY, struct=struct)


def _later(door: str | None, topic: str, *names: str) -> tuple[EventType, ...]:
    return tuple(EventType(name, door, topic) for name in names)


_KNOWN: Final = (
    "attributes", "custom_ids", "emails", "first_name", "last_name", "name", "phones", "primary_email",
)  # fmt: skip

_TYPES: Final = (
    _mail("sent", mail.Sent),
    _mail("delivered", mail.Delivered),
    _mail("bounced", mail.Bounced, personal=("email",)),
    _mail("opened", mail.Opened),
    _mail("clicked", mail.Clicked, personal=("url",)),
    _mail("unsubscribed", mail.Unsubscribed),
    _mail("complained", mail.Complained),
    EventType(
        "page.viewed",
        topics.CUSTOM_EVENTS,
        struct=custom_events.PageViewed,
        personal=("referrer", "title", "url"),
    ),
    EventType("custom.received", topics.CUSTOM_EVENTS, undefined=True),
    _contact("deleted", topics.FACTS, identity.Deleted),
    _contact("restored", topics.FACTS, identity.Restored),
    _contact("consent_changed", topics.FACTS, consent.ConsentChanged),
    _contact("hold_changed", topics.FACTS, hold.HoldChanged, personal=("email",)),
    _contact("merged", topics.REGISTRY, links.Merged),
    _contact("unmerged", topics.REGISTRY, links.Unmerged),
    _session("created", topics.FACTS, sessions.Created),
    _session("started", topics.FACTS, sessions.Started),
    _session("linked", topics.REGISTRY, links.SessionLinked),
    _session("unlinked", topics.REGISTRY, links.SessionUnlinked),
    *_later(
        topics.CUSTOM_EVENTS,
        topics.FACTS,
        "product.viewed",
        "basket.changed",
        "favourite.changed",
        "order.placed",
        "order.returned",
        "gift.received",
    ),
    _contact("identified", topics.FACTS, identified.Identified, personal=_KNOWN),
    EventType(
        "identifier.unlinked",
        topics.CONTACT_IDENTITY,
        topics.REGISTRY,
        struct=identified.IdentifierUnlinked,
        subjects=identity.IDENTIFIERS,
    ),
    *_later(
        SNOOZE_CHANGES,
        topics.FACTS,
        "snooze.set",
        "snooze.observed",
        "snooze.reminded_later",
    ),
    _own("identifier.linked", identified.IdentifierLinked),
    _own("setting.changed", registry.SettingChanged),
    _own("key.created", registry.KeyCreated),
    _own("key.revoked", registry.KeyRevoked),
    _own("parked.discarded", registry.ParkedDiscarded),
    _own("contact.erased", registry.ContactErased),
    *_later(None, topics.REGISTRY, "event.defined"),
    *_later(None, topics.FACTS, "snooze.ended", "snooze.pushed", "snooze.push_failed"),
    *_later(None, topics.FACTS, "segment.entered", "segment.left"),
    *_later(None, topics.COMMANDS, "engagement.expire", "snooze.end", "snooze.resnooze"),
)

EVENTS: Final[dict[str, EventType]] = {event.name: event for event in _TYPES}

# Every name under it is Heed's own: the tree of a campaign is decided, never told.
OWN_PREFIX: Final = "campaign."


def built() -> tuple[EventType, ...]:
    """The types that this version takes, in the order of the table."""
    return tuple(event for event in EVENTS.values() if event.built)


def registered() -> tuple[EventType, ...]:
    """The types of the registry that this version knows, in the order of the table."""
    return tuple(event for event in EVENTS.values() if event.registered)


def is_own(name: str) -> bool:
    """Whether only Heed writes events of this name."""
    event = EVENTS.get(name)
    return name.startswith(OWN_PREFIX) if event is None else event.door is None


def fingerprint() -> str:
    """What this table of types is told apart by: types and versions that can be read, as 16 hex digits."""
    known = sorted(event.dataschema for event in EVENTS.values() if event.struct is not None)
    return hashlib.blake2b(" ".join(known).encode(), digest_size=8).hexdigest()
