"""A small JSON object as a request's body, read strictly.

Promises: what does not fit is a `Problem` that says what is taken, never what was sent; a misspelt member is
refused, so that it never goes unnoticed.
Called by: routes of `api.routes` that take such a body.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from api import problems

T = TypeVar("T", bound=msgspec.Struct)


def read(body: bytes, shape: type[T]) -> T:
    """The body as this shape; without a body, the shape's defaults. Raises `Problem` (400)."""
    try:
        return msgspec.json.decode(body.strip() or b"{}", type=shape)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        names = ", ".join(field.name for field in msgspec.structs.fields(shape))
        raise problems.Problem(
            problems.WRONG_VALUE,
            f"The body is a JSON object with no other members than {names}; /openapi.json has their values.",
        ) from None
