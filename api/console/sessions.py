"""Who has logged in: sessions of the console, each bound to a key of the API, and the guard of every page.

Promises: the cookie is an opaque random id; the key itself is never kept, only its hash, as the registry has
it. A session ends with its log-out, after `IDLE_SECONDS` without a page, after `LONGEST_SECONDS`, and with
its key, as soon as this process knows that it is revoked. Every page asks anew whether the key may. A form
counts only with the token of its session, and never when the browser says that another site has sent it.
Wrong keys beyond `WRONG_A_SECOND` are answered 429; a right one is never held up by them.
Limits: sessions are kept in this process: they end with it, and several processes behind one address need a
proxy that keeps a browser at one of them. At most `MOST` at a time; then the one unused longest ends.
Called by: `api.app`, which makes it, and the pages.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import litestar
from litestar.connection import ASGIConnection
from litestar.datastructures import Cookie
from litestar.handlers import BaseRouteHandler

from api import auth, callers, problems
from api.console import forms

PATH: Final = "/console"
COOKIE: Final = "heed_console"
LOGIN_COOKIE: Final = "heed_login"
IDLE_SECONDS: Final = 3_600
LONGEST_SECONDS: Final = 12 * 3_600
MOST: Final = 1_000
WRONG_A_SECOND: Final = 5
SCOPE: Final = "scope"  # in a page's `opt`

Request = litestar.Request[Any, Any, Any]


class LogIn(Exception):
    """There is no session, or it has ended: the page to log in on is shown instead."""


@dataclass(slots=True)
class Note:
    """What the next page says of what was just done."""

    text: str
    kind: Literal["done", "wrong"] = "done"


@dataclass(slots=True)
class Session:
    """One browser that has logged in; `key` is the hash of its key, empty where none is asked for."""

    key: str
    began: float
    seen: float
    csrf: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    notes: list[Note] = field(default_factory=list)
    made: dict[str, Any] | None = field(default=None, repr=False)  # a new key, until it was shown, once


class Sessions:
    """The sessions of this process; `secure`: cookies are for TLS alone."""

    def __init__(self, keys: auth.Keys, *, secure: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._keys, self._secure, self._clock = keys, secure, clock
        self._open: dict[str, Session] = {}
        self._wrong = auth.Bucket(WRONG_A_SECOND, clock)
        self._secret = secrets.token_bytes(32)

    def __len__(self) -> int:
        return len(self._open)

    def log_in(self, token: str, client: tuple[str, int] | None) -> str:
        """A new session's id. Raises `Problem`: 401 for no key that is taken, 403, 429, 503."""
        hashed = auth.hash_of(token) if token and self._keys.asked_for else ""
        try:
            self._keys.judge_hash(hashed, auth.ACCESS, client)
        except problems.Problem as problem:
            if problem.kind is problems.NO_KEY and (seconds := self._wrong.take()):
                again = {"Retry-After": str(max(1, round(seconds)))}
                raise problems.Problem(problems.TOO_MANY, "Too many wrong keys.", headers=again) from None
            raise
        now = self._clock()
        self._tidy(now)
        id_ = secrets.token_urlsafe(32)
        self._open[id_] = Session(hashed, now, now)
        return id_

    def find(self, cookies: dict[str, str]) -> Session | None:
        """The session of a browser, if it has one that lasts."""
        session = self._open.get(cookies.get(COOKIE, ""))
        if session is None:
            return None
        now = self._clock()
        if not _lasts(session, now):
            self.log_out(cookies)
            return None
        session.seen = now
        return session

    def log_out(self, cookies: dict[str, str]) -> None:
        """Ends a browser's session, if it has one."""
        self._open.pop(cookies.get(COOKIE, ""), None)

    def cookie(self, id_: str) -> Cookie:
        """What the browser keeps of a session."""
        return self._cookie(COOKIE, id_, LONGEST_SECONDS)

    def no_cookie(self) -> Cookie:
        """The end of that."""
        return self._cookie(COOKIE, "", 0)

    def login_form(self, cookies: dict[str, str]) -> tuple[str, Cookie]:
        """The token of a form to log in with, and the cookie that it goes with."""
        nonce = cookies.get(LOGIN_COOKIE) or secrets.token_urlsafe(32)
        return self._token(nonce), self._cookie(LOGIN_COOKIE, nonce, LONGEST_SECONDS)

    async def check_login(self, request: Request) -> None:
        """Raises `forms.Forged` for a form to log in with that this process did not give to this browser."""
        await forms.check(request, self._token(request.cookies.get(LOGIN_COOKIE, "")))

    def _token(self, nonce: str) -> str:
        return hmac.new(self._secret, nonce.encode(), hashlib.sha256).hexdigest()

    def _cookie(self, name: str, value: str, seconds: int) -> Cookie:
        return Cookie(
            name, path=PATH, value=value, max_age=seconds, httponly=True, samesite="strict",
            secure=self._secure,
        )  # fmt: skip

    def _tidy(self, now: float) -> None:
        self._open = {id_: one for id_, one in self._open.items() if _lasts(one, now)}
        while len(self._open) >= MOST:
            del self._open[min(self._open, key=lambda id_: self._open[id_].seen)]


def _lasts(session: Session, now: float) -> bool:
    return now - session.seen < IDLE_SECONDS and now - session.began < LONGEST_SECONDS


def of(request: ASGIConnection[Any, Any, Any, Any]) -> Sessions:
    """The sessions of the application that is asked."""
    found: Sessions = request.app.state.sessions
    return found


def current(request: ASGIConnection[Any, Any, Any, Any]) -> Session | None:
    """The session that the guard has found."""
    found: Session | None = getattr(request.state, "session", None)
    return found


async def knows_who_asks(connection: ASGIConnection[Any, Any, Any, Any], route: BaseRouteHandler) -> None:
    """The guard of every page: a session whose key may, and a form of its own; `actor` as in the API.

    Raises `LogIn`, `Problem` (403, 429, 503), `forms.Forged`.
    """
    scope = route.opt.get(SCOPE, auth.ADMINISTER)
    if scope == auth.OPEN:
        return
    sessions = of(connection)
    session = sessions.find(connection.cookies)
    if session is None:
        raise LogIn
    keys: auth.Keys = connection.app.state.parts.keys
    client = connection.scope.get("client")
    connection.state.session = session
    try:
        actor = keys.judge_hash(session.key, scope, client)
    except problems.Problem as problem:
        if problem.kind is problems.NO_KEY:
            sessions.log_out(connection.cookies)
            connection.state.session = None
            raise LogIn from None
        raise
    keys.check_standing(scope)
    if connection.scope.get("method") == "POST":
        assert isinstance(connection, litestar.Request)
        await forms.check(connection, session.csrf)
        if actor == auth.NOBODY:
            actor = callers.account(client)
    connection.state.actor = actor


def may(request: ASGIConnection[Any, Any, Any, Any], scope: str) -> bool:
    """Whether whoever asks may see what is for this scope; counts as no request."""
    session = current(request)
    if session is None:
        return False
    keys: auth.Keys = request.app.state.parts.keys
    key = keys.named(session.key)
    if key is None:
        return not session.key and not keys.asked_for
    return any(scope in auth.INCLUDED.get(one, frozenset({one})) for one in key.scopes)
