"""Identifiers: which two are one, what is none, and that none of them reaches the log (IDN-1, IDN-3)."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from schemas import admission, identifiers, identity, registry
from schemas.errors import Reason
from tests.unit import samples


def about(subject: Any, **data: Any) -> str:
    event = samples.event(subject=subject, data={**samples.DATA["mail.clicked"], **data})
    return samples.admitted(event).subject


def members(**told: Any) -> list[str]:
    event = samples.event(subject=..., data={**samples.DATA["mail.clicked"], "identifiers": told})
    found: str = json.loads(samples.admitted(event).value)["members"]
    return found.split(",")


@pytest.mark.capability("IDN-1")
@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Ada@Example.ORG", "ada@example.org"),
        (" ada@example.org\n", "ada@example.org"),
        ("ade\u0301le@example.org", "ad\u00e9le@example.org"),
        ("ADE\u0301LE@example.org", "ad\u00e9le@example.org"),
        ("ada@EX\u00c4MPLE.org", "ada@xn--exmple-cua.org"),
        ("ada@exa\u0308mple.org", "ada@ex\u00e4mple.org"),
    ],
)
def test_two_ways_of_writing_an_email_are_one(one: str, other: str) -> None:
    assert about(f"email:{one}") == about(f"email:{other}")
    assert members(email=one, phone="+491234567") == members(email=other, phone="+491234567")


@pytest.mark.capability("IDN-1")
@pytest.mark.parametrize("other", ["a.da@example.org", "ada+x@example.org", "ada@example.com"])
def test_dots_and_plus_and_domains_tell_emails_apart(other: str) -> None:
    assert about("email:ada@example.org") != about(f"email:{other}")


@pytest.mark.capability("IDN-1")
def test_a_phone_is_plus_and_digits_and_a_custom_id_exact() -> None:
    assert about("phone:+49 (30) 123-45.67") == about("phone:+49301234567")
    assert about("phone:+49301234567") != about("phone:+49301234568")
    assert about("custom:A") != about("custom:a")
    assert about("custom: a") != about("custom:a")
    assert len({about("custom:+491234567"), about("phone:+491234567")}) == 2


@pytest.mark.parametrize(
    ("subject", "reason"),
    [
        ("email:", Reason.INVALID),
        ("email:nobody", Reason.INVALID),
        ("email:@example.org", Reason.INVALID),
        ("email:a b@example.org", Reason.INVALID),
        ("email:a@b@example.org", Reason.INVALID),
        ("email:ada@-example.org", Reason.INVALID),
        ("email:ada@example..org", Reason.INVALID),
        ("email:ada@\u2028.org", Reason.INVALID),
        (f"email:{'a' * 10_000}@example.org", Reason.INVALID),
        (f"email:ada@{'ä' * 3_000}.org", Reason.INVALID),
        ("email:a\0@example.org", Reason.UNSTORABLE),
        ("phone:12345678", Reason.INVALID),
        ("phone:+49x1234567", Reason.INVALID),
        (f"phone:+{'1' * 10_000}", Reason.INVALID),
        ("custom:", Reason.INVALID),
        (f"custom:{'x' * 257}", Reason.INVALID),
    ],
)
def test_what_is_no_identifier_is_refused_without_being_repeated(subject: str, reason: Reason) -> None:
    found = samples.rejected(samples.event(subject=subject))
    assert found.reason is reason
    assert found.detail.startswith("subject must be " if reason is Reason.INVALID else "subject holds ")
    assert found.subject is None


@pytest.mark.parametrize(
    ("told", "start"),
    [
        ({"email": "nobody"}, "data.identifiers.email must be"),
        ({"phone": "1"}, "data.identifiers.phone must be"),
        ({"custom_id": ""}, "data.identifiers.custom_id must be"),
        ({"session_id": "a@b"}, "data.identifiers.session_id must be"),
        ({"email": 7}, "data.identifiers must be"),
        ("ada@example.org", "data.identifiers must be"),
    ],
)
def test_ill_formed_identifiers_are_named(told: Any, start: str) -> None:
    event = samples.event(subject=..., data={**samples.DATA["mail.clicked"], "identifiers": told})
    found = samples.rejected(event)
    assert (found.reason, found.detail.startswith(start)) == (Reason.INVALID, True), found.detail


@pytest.mark.parametrize("told", [{}, None, {"email": None}, {"colour": "red"}])
def test_no_identifiers_are_nobody(told: Any) -> None:
    event = samples.event(subject=..., data={**samples.DATA["mail.clicked"], "identifiers": told})
    assert samples.rejected(event).reason is Reason.NO_SUBJECT


@pytest.mark.capability("IDN-3")
def test_a_set_names_its_members_in_the_order_in_which_they_are_asked() -> None:
    found = members(session_id="s1", custom_id="k", email="a@example.org", phone="+491234567")
    assert [one.partition(":")[0] for one in found] == ["email", "phone", "custom", "session"]
    subject = about(..., identifiers={"email": "A@example.org", "session_id": "s1"})
    assert identifiers.members_of(subject, f"{about('email:a@example.org')},session:s1")
    assert identity.is_logged(subject)
    assert about(..., identifiers={"email": "a@example.org"}) == about("email:a@example.org")
    assert about(..., identifiers={"session_id": "s1"}) == "session:s1"
    for wrong in ("", "session:s1", f"{about('email:b@example.org')},session:s1", "session:s1,contact:a"):
        with pytest.raises(ValueError):
            identifiers.members_of(subject, wrong)


@pytest.mark.capability("IDN-1", "LAW-6")
def test_an_identification_links_each_identifier_once_and_tells_no_address() -> None:
    found = samples.admitted(samples.event("contact.identified"), "contact-identity")
    links = {link.subject: json.loads(link.value) for link in found.links}
    assert len(links) == 4  # two emails, one phone, one custom id: the primary one is among the emails
    primary = about("email:ada@example.org")
    assert {subject for subject, one in links.items() if one["data"].get("primary")} == {primary}
    told = {"id": "e1", "source": "urn:test"}
    assert all(one["data"]["contact_id"] == "ada" and one["data"]["told"] == told for one in links.values())
    assert len({one["id"] for one in links.values()}) == 1
    whole = found.value + b"".join(link.value for link in found.links)
    for text in (b"ada@", b"Ada", b"example", b"+44", b"crm-1", b'London"', b"Lovelace"):
        assert text not in whole.replace(b"Europe/London", b""), text


NAMES = [
    "Ада Лавлейс",
    "愛達·勒芙蕾絲",
    "آدا لوفليس",
    "עדה",
    "एडा",
    "Ꭰda",
    "𐐀da",
    "👩🏽‍💻",
    "e\u0301",
    "O’Neil",
]


@pytest.mark.parametrize("name", NAMES)
def test_names_in_every_script_are_kept_as_they_are(name: str) -> None:
    found = samples.admitted(samples.event("contact.identified", data={"name": name}), "contact-identity")
    assert samples.data(found) == {"name": name}


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({"emails": ["nobody"]}, "data.emails"),
        ({"emails": ["a@example.org", "x" * 10_000]}, "data.emails"),
        ({"primary_email": "nobody"}, "data.primary_email"),
        ({"phones": ["12"]}, "data.phones"),
        ({"attributes": {str(n): n for n in range(101)}}, "data.attributes"),
        ({"attributes": {"a": 1.5}}, "data.attributes"),
        ({"attributes": {"a" * 65: 1}}, "data.attributes"),
        ({"attributes": {"a": {}}}, "data.attributes"),
        ({"zone": "Europe Berlin"}, "data.zone"),
    ],
)
def test_what_cannot_be_known_of_a_contact_is_named(data: Any, field: str) -> None:
    found = samples.rejected(samples.event("contact.identified", data=data), "contact-identity")
    assert found.reason is Reason.INVALID
    assert field in found.detail


def test_a_million_attributes_are_too_many_at_once() -> None:
    event = samples.event("contact.identified", data={"attributes": {str(n): n for n in range(1_000_000)}})
    found = samples.rejected(event, "contact-identity")
    assert (found.reason, found.detail) == (Reason.INVALID, admission._TOO_LARGE)


@pytest.mark.parametrize("subject", ["email:ada@example.org", "session:s1", ...])
def test_an_identification_names_a_contact(subject: Any) -> None:
    event = samples.event("contact.identified", subject=subject, data={"identifiers": {"email": "a@b.c"}})
    assert samples.rejected(event, "contact-identity").reason is Reason.INVALID


@pytest.mark.capability("LAW-6")
def test_an_erasure_can_cover_identifiers_and_sets() -> None:
    both = about(..., identifiers={"email": "a@example.org", "phone": "+491234567"})
    covers = ["contact:ada", "session:s1", about("email:a@example.org"), about("custom:k"), both]
    assert msgspec.convert({"covers": covers}, registry.ContactErased).covers == covers
    for wrong in ("email:a@example.org", f"{both}0", "custom:k"):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert({"covers": [wrong]}, registry.ContactErased)
