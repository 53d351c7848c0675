"""A contact's id is opaque and never an address."""

from __future__ import annotations

import pytest

from schemas import identity


@pytest.mark.parametrize("id", ["a", "Z9_.~-", "x" * 64, "018f9a3e-7b1c-7e55-9d2f-3b1c5a7e9d2f"])
def test_well_formed_ids(id: str) -> None:
    assert identity.is_contact_id(id)
    assert identity.is_subject(f"contact:{id}")
    assert identity.contact_id(f"contact:{id}") == id


@pytest.mark.parametrize("id", ["", "x" * 65, "ada@example.org", "a b", "a\n", "é", "a:b", "a/b", "a\0", "٣"])
def test_ill_formed_ids(id: str) -> None:
    assert not identity.is_contact_id(id)
    assert not identity.is_subject(f"contact:{id}")


def test_a_session_is_a_subject_of_its_own() -> None:
    assert identity.is_subject("session:a")
    assert identity.contact_id("session:a") is None


@pytest.mark.parametrize(
    "subject", ["session:", "session:a@b", "email:ada@example.org", "Contact:a", "home:1", ""]
)
def test_other_subjects_name_no_contact(subject: str) -> None:
    assert identity.contact_id(subject) is None
    assert not identity.is_subject(subject)
