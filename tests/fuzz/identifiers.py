"""What is an email address, a phone number, an id of a sender's own, an attribute: apart from Heed's rules.

Called by `tests.fuzz.verdict`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

import idna

LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")


def is_one(subject: str) -> bool:
    """Whether a subject names an identifier that can be."""
    kind, _, value = subject.partition(":")
    return {"email": is_email, "phone": is_phone, "custom": is_custom}[kind](value)


def are_all(data: Mapping[str, Any]) -> bool:
    """Whether all identifiers in an identification are."""
    emails = [*(data.get("emails") or ()), *filter(None, [data.get("primary_email")])]
    return (
        all(map(is_email, emails))
        and all(map(is_phone, data.get("phones") or ()))
        and all(map(is_custom, data.get("custom_ids") or ()))
        and all(_is_attribute(*one) for one in (data.get("attributes") or {}).items())
    )


def _is_attribute(name: str, value: Any) -> bool:
    if not re.fullmatch(r"[A-Za-z0-9_ .-]{1,64}", name, re.ASCII):
        return False
    if isinstance(value, str):
        return len(value) <= 1024
    return isinstance(value, bool) or (isinstance(value, int) and abs(value) < 2**53)


def is_email(text: str) -> bool:
    local, at, domain = unicodedata.normalize("NFC", text).strip().lower().rpartition("@")
    if not at or not local or re.search(r"[\s@\0-\x1f\x7f\ud800-\udfff]", local):
        return False
    try:
        ascii_ = domain if domain.isascii() else idna.encode(domain, uts46=True).decode().lower()
    except (idna.IDNAError, UnicodeError):
        return False
    return len(f"{local}@{ascii_}") <= 254 and all(LABEL.fullmatch(one) for one in ascii_.split("."))


def is_phone(text: str) -> bool:
    plain = re.sub(r"[\s().\-/]", "", unicodedata.normalize("NFKC", text))
    return len(text) <= 64 and re.fullmatch(r"\+[0-9]{5,15}", plain, re.ASCII) is not None


def is_custom(text: str) -> bool:
    return 0 < len(text) <= 256 and not re.search(r"[\0\ud800-\udfff]", text)
