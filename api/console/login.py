"""Logging in with a key of the API, and out.

Promises: who has logged in is led to the page that he wanted, and only to one of the console; a key stands
in no page and no address.
Routes of `api.console.routes`.
"""

from __future__ import annotations

import re
from typing import Final

from litestar import Response
from litestar.response import Redirect

from api import auth, problems, routing
from api.console import forms, pages, sessions

_PAGE: Final = re.compile(r"/console(?:/[A-Za-z0-9_.~-]+)*\Z")
_TOLD: Final = {
    problems.NO_KEY: "This key is not taken: it is not one of Heed's, or it was revoked.",
    problems.WRONG_SCOPE: "This key only sends events. The console takes keys with access or administer.",
}


async def show(request: routing.Request) -> Response[str]:
    """The page to log in on."""
    return _form(request, request.query_params.get("next", ""))


async def log_in(request: routing.Request) -> Response[str] | Redirect:
    """Takes the key; a wrong one is told on the same page."""
    found = sessions.of(request)
    await found.check_login(request)
    form = await forms.read(request)
    found.log_out(request.cookies)
    keys: auth.Keys = routing.parts(request).keys
    if keys.asked_for and not form.one("key"):
        return _form(request, form.one("next"), "Give the key.", 400)
    try:
        id_ = found.log_in(form.one("key"), request.scope.get("client"))
    except problems.Problem as problem:
        if problem.kind not in _TOLD:
            raise
        return _form(request, form.one("next"), _TOLD[problem.kind], problem.kind.status)
    return pages.to(_safe(form.one("next")), cookies=[found.cookie(id_)])


async def log_out(request: routing.Request) -> Redirect:
    """Ends the session."""
    found = sessions.of(request)
    found.log_out(request.cookies)
    return pages.to("/console/login", cookies=[found.no_cookie()])


def _form(request: routing.Request, wanted: str, wrong: str = "", status: int = 200) -> Response[str]:
    token, cookie = sessions.of(request).login_form(request.cookies)
    mistakes = [pages.Mistake("key", wrong)] if wrong else []
    return pages.page(
        request, "login.html", "Log in", status=status, cookies=[cookie], mistakes=mistakes, token=token,
        wanted=_safe(wanted), asked_for=routing.parts(request).keys.asked_for,
    )  # fmt: skip


def _safe(wanted: str) -> str:
    return wanted if _PAGE.match(wanted) else "/console"
