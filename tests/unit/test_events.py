"""The table of types is the one of names.md, built or not, and every built type can be kept and digested."""

from __future__ import annotations

import msgspec
import pytest

from schemas import events, topics

EMAIL = "mail.sent mail.delivered mail.bounced mail.opened mail.clicked mail.unsubscribed mail.complained"
CUSTOM = (
    "custom.received page.viewed product.viewed basket.changed favourite.changed order.placed order.returned"
    " gift.received"
)
IDENTITY = (
    "contact.identified contact.merged contact.unmerged session.linked session.unlinked identifier.unlinked"
    " contact.deleted contact.restored contact.consent_changed contact.hold_changed session.created"
    " session.started"
)
SNOOZE = "snooze.set snooze.observed snooze.reminded_later"
OWN = (
    "identifier.linked setting.changed event.defined key.created key.revoked parked.discarded contact.erased"
    " snooze.ended snooze.pushed snooze.push_failed segment.entered segment.left engagement.expire snooze.end"
    " snooze.resnooze"
)
DOORS = {
    "email-activity": EMAIL,
    "custom-events": CUSTOM,
    "contact-identity": IDENTITY,
    "snooze-changes": SNOOZE,
    None: OWN,
}
LINKS = {"contact.merged", "contact.unmerged", "session.linked", "session.unlinked", "identifier.unlinked"}
BUILT = {*EMAIL.split(), "contact.deleted", "contact.restored", "contact.consent_changed", *LINKS}
BUILT |= {"contact.hold_changed", "session.created", "session.started", "page.viewed"}
BUILT |= {"contact.identified"}
BUILT |= {"session.created", "session.started", "page.viewed"}


def test_each_type_has_its_door() -> None:
    wanted = {name: door for door, names in DOORS.items() for name in names.split()}
    assert {event.name: event.door for event in events.EVENTS.values()} == wanted


def test_what_is_built_has_a_door_that_exists() -> None:
    assert {event.name for event in events.built()} == BUILT
    assert {event.door for event in events.built()} == set(topics.DOORS)
    assert {event.name for event in events.built() if event.topic == topics.REGISTRY} == LINKS
    assert {event.topic for event in events.built()} == {topics.FACTS, topics.REGISTRY}


@pytest.mark.parametrize("name", [*OWN.split(), "campaign.started", "campaign.step", "campaign."])
def test_what_heed_alone_writes(name: str) -> None:
    assert events.is_own(name)


@pytest.mark.parametrize(
    "name", ["mail.clicked", "order.placed", "mail.dreamt", "campaign", "", "Campaign.a"]
)
def test_what_others_write_or_nobody(name: str) -> None:
    assert not events.is_own(name)


@pytest.mark.parametrize("event", events.built(), ids=lambda event: event.name)
def test_every_built_type_keeps_to_the_canonical_form(event: events.EventType) -> None:
    """Strings, booleans, choices; ASCII names in order; what is optional is absent, never null."""
    assert event.struct is not None
    info = msgspec.inspect.type_info(event.struct)
    assert isinstance(info, msgspec.inspect.StructType)
    assert event.struct.__struct_config__.omit_defaults
    assert set(event.personal) <= {field.encode_name for field in info.fields}
    keeps_to_it(info)


def keeps_to_it(info: msgspec.inspect.StructType) -> None:
    names = [field.encode_name for field in info.fields]
    assert names == sorted(names)
    assert all(name.isascii() for name in names)
    for field in info.fields:
        if isinstance(field.type, msgspec.inspect.StructType):
            assert field.required, field.name
            keeps_to_it(field.type)
            continue
        kinds = kinds_of(field.type)
        assert kinds <= {"StrType", "BoolType", "LiteralType", "NoneType", "IntType"}, field.name
        assert field.required != ("NoneType" in kinds), field.name
        assert field.required or field.default is None


def kinds_of(kind: msgspec.inspect.Type) -> set[str]:
    if isinstance(kind, msgspec.inspect.UnionType):
        return {name for one in kind.types for name in kinds_of(one)}
    if isinstance(kind, msgspec.inspect.Metadata):
        return kinds_of(kind.type)
    if isinstance(kind, msgspec.inspect.ListType):
        assert kind.max_length, "a list without a bound"
        return kinds_of(kind.item_type)
    if isinstance(kind, msgspec.inspect.DictType):
        assert kind.max_length, "an object without a bound"
        assert kinds_of(kind.key_type) == {"StrType"}
        return kinds_of(kind.value_type)
    if isinstance(kind, msgspec.inspect.IntType):
        assert kind.le == -kind.ge == 2**53 - 1, "a number that JSON may not keep"  # type: ignore[operator]
    if isinstance(kind, msgspec.inspect.StrType):
        assert kind.max_length, "a string without a bound"
    return {type(kind).__name__}


@pytest.mark.parametrize("event", events.built(), ids=lambda event: event.name)
def test_every_built_type_says_what_it_is(event: events.EventType) -> None:
    assert event.struct is not None
    assert event.struct.__doc__
    assert event.dataschema == f"urn:heed:{event.name}:{event.version}"
