"""The traits of Segment's identify, as what `contact.identified` tells of a contact.

Promises: nothing that was sent is left out: what is neither address, phone, name nor zone is an attribute of
its name; what is no text, whole number, true or false (a fraction, a list, an object) is one as its JSON.
Limits: a trait that is null or an empty text says nothing. Bounds are judged by `schemas.admission`.
Called by `schemas.segment`.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

_NAMED: Final = {
    "name": "name",
    "firstName": "first_name",
    "lastName": "last_name",
    "timezone": "zone",
}
_encode: Final = msgspec.json.Encoder(order="deterministic").encode


def identified(traits: dict[str, Any]) -> dict[str, Any]:
    """The data of `contact.identified`; empty where the traits say nothing."""
    told: dict[str, Any] = {}
    attributes: dict[str, Any] = {}
    for name, value in traits.items():
        if value is None or value == "":
            continue
        if name == "email":
            told["primary_email"] = value
        elif name == "phone":
            told["phones"] = [value]
        elif name in _NAMED:
            told[_NAMED[name]] = value
        else:
            attributes[name] = value if isinstance(value, bool | int | str) else _encode(value).decode()
    return told | ({"attributes": attributes} if attributes else {})
