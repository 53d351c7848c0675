"""What a form of the console sends, read strictly, and whether it is one of ours.

Promises: a form without its session's token changes nothing, nor does one that another site has sent, as the
browser tells it; a member that stands twice where one is taken counts as not sent.
Limits: at most `MOST` members; as `application/x-www-form-urlencoded` in UTF-8, as browsers send it.
Called by: `api.console.sessions` (before every form is acted on) and the pages.
"""

from __future__ import annotations

import hmac
from typing import Any, Final
from urllib.parse import parse_qsl

import litestar

from api import problems

MEDIA_TYPE: Final = "application/x-www-form-urlencoded"
TOKEN: Final = "csrf"  # noqa: S105 (the name of a member)
MOST: Final = 1_100
# What a browser says of who has sent a form; `none` is the person, by the address bar.
_OURS: Final = (None, "same-origin", "none")

Request = litestar.Request[Any, Any, Any]


class Forged(Exception):
    """A form that this session was not given, or an old one."""


class Form:
    """The members of a form, in the order sent."""

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        self._pairs = pairs

    def all(self, name: str) -> list[str]:
        """Every value of a name."""
        return [value for one, value in self._pairs if one == name]

    def one(self, name: str) -> str:
        """The value of a name, without spaces around it; empty where it is not sent once."""
        found = self.all(name)
        return found[0].strip() if len(found) == 1 else ""


async def read(request: Request) -> Form:
    """The form of a request; raises `Problem` (400) for a body that is none."""
    kept: Form | None = getattr(request.state, "form", None)
    if kept is not None:
        return kept
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        text = (await request.body()).decode() if kind == MEDIA_TYPE else None
        pairs = (
            None
            if text is None
            else parse_qsl(text, keep_blank_values=True, max_num_fields=MOST, errors="strict")
        )
    except ValueError:  # what is no UTF-8 is one, too
        pairs = None
    if pairs is None:
        raise problems.Problem(problems.WRONG_VALUE, "The body is not a form as a browser sends it.")
    request.state.form = Form(pairs)
    return await read(request)


async def check(request: Request, token: str) -> None:
    """Raises `Forged` for a form that does not carry this token, or that another site has sent."""
    if request.headers.get("sec-fetch-site") not in _OURS:
        raise Forged
    sent = (await read(request)).one(TOKEN)
    if not hmac.compare_digest(sent.encode(), token.encode()):
        raise Forged
