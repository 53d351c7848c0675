"""The shapes of mail events: what is required, what is bounded, what an error says."""

from __future__ import annotations

from typing import Any

import pytest

from schemas import errors
from tests.unit import samples

MAIL = [name for name in samples.DATA if name.startswith("mail.")]
NEED_MAILING = ["mail.sent", "mail.delivered", "mail.bounced", "mail.unsubscribed", "mail.complained"]


def detail(name: str, data: dict[str, Any]) -> str:
    found = samples.rejected(samples.event(name, data=data))
    assert found.reason == errors.Reason.INVALID
    return found.detail


def kept(name: str, data: dict[str, Any]) -> Any:
    return samples.data(samples.admitted(samples.event(name, data=data)))


@pytest.mark.parametrize("name", NEED_MAILING)
def test_a_mailing_is_required(name: str) -> None:
    data = {field: value for field, value in samples.DATA[name].items() if field != "mailing_id"}
    assert detail(name, data) == "data.mailing_id must be a string of 1 to 128 characters."


@pytest.mark.parametrize("name", ["mail.opened", "mail.clicked"])
@pytest.mark.parametrize("none", [{}, {"mailing_id": None}])
def test_a_mailing_may_be_absent_where_a_link_may_be_anywhere(name: str, none: dict[str, Any]) -> None:
    rest = {"url": "https://example.org"} if name == "mail.clicked" else {}
    assert kept(name, {**rest, **none}) == rest


@pytest.mark.parametrize("name", MAIL)
@pytest.mark.parametrize(
    ("field", "longest"), [("mailing_id", 128), ("message_id", 256), ("url", 2048), ("email", 254)]
)
def test_strings_are_bounded_in_characters(name: str, field: str, longest: int) -> None:
    whole = samples.DATA[name]
    if field in ("url", "email") and field not in whole:
        return
    longest_text = "é" * (longest - 2) + "@e"
    assert kept(name, {**whole, field: longest_text})[field] == longest_text
    assert field in detail(name, {**whole, field: longest_text + "e"})
    assert field in detail(name, {**whole, field: ""})
    assert field in detail(name, {**whole, field: 7})
    assert field in detail(name, {**whole, field: ["a"]})


@pytest.mark.parametrize("name", MAIL)
def test_the_test_mark_is_true_or_false(name: str) -> None:
    whole = {**samples.DATA[name]}
    for mark in (True, False):
        assert kept(name, {**whole, "test": mark})["test"] is mark
    assert "test" not in kept(name, {**whole, "test": None})
    for wrong in ("true", 1, 0, "yes"):
        assert detail(name, {**whole, "test": wrong}) == "data.test must be true or false, or be left out."


def test_a_click_needs_its_link() -> None:
    assert "data.url" in detail("mail.clicked", {"mailing_id": "m1"})


def test_a_bounce_is_hard_or_soft() -> None:
    for kind in ("hard", "soft"):
        assert kept("mail.bounced", {"mailing_id": "m1", "kind": kind})["kind"] == kind
    for wrong in ("Hard", "", None, "blocked", 5, ...):
        data = {
            name: value for name, value in {"mailing_id": "m1", "kind": wrong}.items() if value is not ...
        }
        assert detail("mail.bounced", data) == 'data.kind must be "hard" or "soft".'


@pytest.mark.parametrize("wrong", ["ada", "a@b@c", "a b@c", "a@b\n", "@", "a@", "a@ b"])
def test_the_address_of_a_bounce_looks_like_one(wrong: str) -> None:
    found = detail("mail.bounced", {"mailing_id": "m1", "kind": "hard", "email": wrong})
    assert found.startswith("data.email must be")
    assert wrong == "@" or wrong not in found
