"""Identifiers: addresses, numbers and ids by which others know a contact, and how they enter the log.

Promises: two ways of writing one identifier are one (IDN-1): an email after NFC, trimmed, in lower case, its
domain as an A-label, dots and plus kept; a phone as + and digits; a custom id exactly. The log has only
`<kind>:<HMAC-SHA-256 under the installation's secret>`; several together are a *set*, `set:<SHA-256 of its
members, sorted>`, whose members travel with the fact (`envelope`: `members`), in the order in which they are
asked for a contact (IDN-3). No error repeats an identifier.
Limits: pure. Numbers without their country are refused, since nobody can tell which they are.
Called by admission, the API (search) and whoever reads `members`.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import unicodedata
from collections.abc import Sequence
from typing import Annotated, Final

import idna
import msgspec

from schemas import codec, identified, identity
from schemas.errors import Reason

MOST_EMAIL: Final = 254
MOST_CUSTOM: Final = 256

EMAIL_RULE: Final = f"an email address of at most {MOST_EMAIL} characters, as name@example.org"
PHONE_RULE: Final = "a phone number with + and its country, 5 to 15 digits, as +49 30 1234567"
CUSTOM_RULE: Final = f"a string of 1 to {MOST_CUSTOM} characters"
SESSION_RULE: Final = "1 to 64 of the characters A-Z a-z 0-9 _ . ~ -"

_LABEL: Final = "[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_is_domain: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*").fullmatch
_is_local: Final = re.compile(r"[^\s@\x00-\x1f\x7f]+").fullmatch
_is_phone: Final = re.compile(r"\+[0-9]{5,15}").fullmatch
_punctuation: Final = re.compile(r"[\s().\-/]+")

_NOT_KEPT: Final = "holds a character that cannot be kept (NUL, or half of a surrogate pair)."
_NO_IDENTIFIERS: Final = (
    "data.identifiers must be an object with one or more of email, phone, custom_id and session_id, "
    "each a string."
)


class Identifiers(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """By what a contact is known to whoever tells of an event, in the order in which it is looked for."""

    email: Annotated[str, msgspec.Meta(description="An email address.")] | None = None
    phone: Annotated[str, msgspec.Meta(description="A phone number, + and digits.")] | None = None
    custom_id: Annotated[str, msgspec.Meta(description="An id of the sender's own, exact.")] | None = None
    session_id: Annotated[str, msgspec.Meta(description="The id of a session.")] | None = None


class _Addressed(msgspec.Struct, frozen=True, gc=False):
    identifiers: Identifiers | None = None


_decode: Final = msgspec.json.Decoder(_Addressed).decode


def email(text: str) -> str | None:
    """An email address in the form in which two are compared; None for what is none."""
    if len(text) > 2 * MOST_EMAIL:
        return None
    text = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).strip().lower())
    local, _, domain = text.rpartition("@")
    if _is_local(local) is None:
        return None
    if not domain.isascii():
        try:
            domain = idna.encode(domain, uts46=True).decode()
        except (idna.IDNAError, UnicodeError):
            return None
    if _is_domain(domain) is None or len(local) + 1 + len(domain) > MOST_EMAIL:
        return None
    return f"{local}@{domain}"


def phone(text: str) -> str | None:
    """A phone number as + and digits; None for what is none."""
    if len(text) > 64:
        return None
    text = _punctuation.sub("", unicodedata.normalize("NFKC", text))
    return text if _is_phone(text) else None


def custom(text: str) -> str | None:
    """An id of the sender's own, exactly as it is; None for what is too long or empty."""
    return text if 0 < len(text) <= MOST_CUSTOM else None


_FORMS: Final = {
    identity.EMAIL: (email, EMAIL_RULE),
    identity.PHONE: (phone, PHONE_RULE),
    identity.CUSTOM: (custom, CUSTOM_RULE),
}


def hashed(kind: str, text: str, secret: bytes, field: str) -> str:
    """The subject that the log has for an identifier: `<kind>:<64 hex digits>`.

    Raises codec.Unreadable, which names `field` and its rule.
    """
    form, rule = _FORMS[kind]
    if "\0" in text:
        raise codec.Unreadable(Reason.UNSTORABLE, f"{field} {_NOT_KEPT}")
    normal = form(text)
    if normal is None:
        raise codec.Unreadable(Reason.INVALID, f"{field} must be {rule}.")
    return kind + hmac.digest(secret, f"{kind}{normal}".encode(), "sha256").hex()


def set_of(members: Sequence[str]) -> str:
    """The subject of several subjects together, whatever their order."""
    return identity.SET + hashlib.sha256(",".join(sorted(members)).encode()).hexdigest()


def subject(told: str, secret: bytes) -> str | None:
    """The subject of the log for one that an event tells; None for what is no identifier.

    Raises codec.Unreadable for an identifier that is wrong.
    """
    kind = told[: told.find(":") + 1]
    return hashed(kind, told[len(kind) :], secret, "subject") if kind in _FORMS else None


def addressed(data: bytes | msgspec.Raw, secret: bytes) -> tuple[str, str]:
    """Whom `data.identifiers` tells of: subject and, of a set, its members with commas between.

    ("", "") where none are told. Raises codec.Unreadable.
    """
    found = _read(data)
    if found is None:
        return "", ""
    members = [
        hashed(kind, text, secret, f"data.identifiers.{field}")
        for kind, field, text in (
            (identity.EMAIL, "email", found.email),
            (identity.PHONE, "phone", found.phone),
            (identity.CUSTOM, "custom_id", found.custom_id),
        )
        if text is not None
    ]
    if found.session_id is not None:
        if identity.is_contact_id(found.session_id) is None:
            raise codec.Unreadable(Reason.INVALID, f"data.identifiers.session_id must be {SESSION_RULE}.")
        members.append(identity.SESSION + found.session_id)
    if len(members) < 2:
        return (members[0] if members else ""), ""
    return set_of(members), ",".join(members)


def told_of(content: identified.Identified, secret: bytes) -> dict[str, bool]:
    """The identifiers that an identification tells of, as the log names them, and which one is primary.

    Raises codec.Unreadable, which names the field.
    """
    found: dict[str, bool] = {}
    for kind, field, texts in (
        (identity.EMAIL, "emails", content.emails),
        (identity.PHONE, "phones", content.phones),
        (identity.CUSTOM, "custom_ids", content.custom_ids),
    ):
        for text in texts or ():
            found.setdefault(hashed(kind, text, secret, f"each of data.{field}"), False)
    if content.primary_email is not None:
        found[hashed(identity.EMAIL, content.primary_email, secret, "data.primary_email")] = True
    return found


def members_of(subject: str, told: str) -> list[str]:
    """The members of a set as its fact tells them; raises ValueError for what Heed did not write."""
    members = told.split(",")
    if len(members) < 2 or not all(map(identity.is_member, members)) or set_of(members) != subject:
        raise ValueError
    return members


def _read(data: bytes | msgspec.Raw) -> Identifiers | None:
    raw = bytes(data) or b"null"
    if raw == b"null":
        return None
    try:
        try:
            return _decode(raw).identifiers
        except msgspec.ValidationError:
            once = codec.once_each(raw)
            if once is None:
                raise
            return _decode(once).identifiers
    except msgspec.ValidationError:
        raise codec.Unreadable(Reason.INVALID, _NO_IDENTIFIERS) from None
    except msgspec.DecodeError:
        return _decode(codec.mended(raw)).identifiers
