"""Who asks, and whether he may: keys and scopes (CEE-14), and how much one key may ask.

Promises: each route has one scope; a request without a key that is taken is 401, with a key of other scopes
403, over its rate 429, and the answer says only that. A key's facts are read from the registry every
`LOOK_SECONDS`; while the database is away, what was last read holds. A registry that stands further back than
this process has seen it, or than the log said at its start, is not believed as long as the log reaches that
far: a restored backup does not revive a revoked key, and nothing is told from it before it is known again who
is erased (`check_standing`). With `HEED_KEYS=optional`, on loopback only, nobody is
asked for a key as long as none was ever created; who changes something then is told by his account on this
machine (`api.callers`). Until the database has said whether there is one, such a process takes events alone.
Limits: rates are counted in this process. `ingest:public` keys can be made; the routes that take them come
with sites.
Called by: `api.app` (before every route), `api.keys`, `api.console` (by the hash of a session's key).
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import time
from collections.abc import Callable
from typing import Any, Final

import sqlalchemy as sa
import structlog
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from api import callers, problems, servers
from projections import keys
from schemas import errors, registry

LOOK_SECONDS: Final = 1.0
FIRST_SECONDS: Final = 1.0  # what a start waits for the database to say whether there is a key
PREFIX: Final = "heed_"
OPEN: Final = "open"
INGEST: Final = "ingest"
PUBLIC: Final = "ingest:public"
ACCESS: Final = "access"
ADMINISTER: Final = "administer"
NOBODY: Final = "nobody"  # of routes that change nothing
SESSION: Final = "session"  # marks, in a route's `opt`, what is asked for by a session instead of a key
SCOPES: Final = (INGEST, PUBLIC, ACCESS, ADMINISTER)

# Every route's scope; one that is forgotten here is for administrators, and a test fails.
ROUTES: Final = {
    ("POST", "/v1/events"): INGEST,
    ("POST", "/v1/track"): INGEST,
    ("POST", "/v1/identify"): INGEST,
    ("POST", "/v1/alias"): INGEST,
    ("POST", "/v1/page"): INGEST,
    ("POST", "/v1/batch"): INGEST,
    ("GET", "/v1/events/{id}/trace"): ACCESS,
    ("GET", "/v1/contacts/{id}/engagement"): ACCESS,
    ("POST", "/v1/contacts/{id}/engagement/calculate"): ACCESS,
    ("GET", "/v1/contacts/{id}/engagement/explain"): ACCESS,
    ("GET", "/v1/engagement"): ACCESS,
    ("GET", "/v1/contacts/{id}/activity"): ACCESS,
    ("GET", "/v1/activity"): ACCESS,
    ("POST", "/v1/engagement/refresh-expired"): ADMINISTER,
    ("POST", "/v1/engagement/run-queue"): ADMINISTER,
    ("GET", "/v1/contacts/{id}"): ACCESS,
    ("DELETE", "/v1/contacts/{id}"): ACCESS,
    ("POST", "/v1/contacts/{id}/restore"): ACCESS,
    ("POST", "/v1/contacts/{id}/consent"): ACCESS,
    ("POST", "/v1/contacts/{id}/erase"): ADMINISTER,
    ("GET", "/v1/contacts/{id}/hold"): ACCESS,
    ("POST", "/v1/contacts/{id}/hold"): ACCESS,
    ("POST", "/v1/contacts/{id}/merge"): ACCESS,
    ("POST", "/v1/contacts/{id}/unmerge"): ACCESS,
    ("POST", "/v1/sessions"): ACCESS,
    ("GET", "/v1/sessions/{id}"): ACCESS,
    ("POST", "/v1/sessions/{id}/start"): ACCESS,
    ("POST", "/v1/sessions/{id}/link"): ACCESS,
    ("POST", "/v1/sessions/{id}/unlink"): ACCESS,
    ("GET", "/v1/contacts/{id}/export"): ADMINISTER,
    ("GET", "/v1/settings/{name}"): ADMINISTER,
    ("PUT", "/v1/settings/{name}"): ADMINISTER,
    ("GET", "/v1/schedules"): ADMINISTER,
    ("GET", "/v1/keys"): ADMINISTER,
    ("POST", "/v1/keys"): ADMINISTER,
    ("POST", "/v1/keys/{id}/revoke"): ADMINISTER,
    ("POST", "/v1/keys/{id}/rotate"): ADMINISTER,
    ("GET", "/v1/audit"): ADMINISTER,
    ("GET", "/v1/parked"): ADMINISTER,
    ("GET", "/v1/parked/overview"): ADMINISTER,
    ("GET", "/v1/parked/{id}"): ADMINISTER,
    ("POST", "/v1/parked/redrive"): ADMINISTER,
    ("POST", "/v1/parked/discard"): ADMINISTER,
    ("GET", "/health/live"): OPEN,
    ("GET", "/health/ready"): OPEN,
    ("GET", "/metrics"): OPEN,
    ("GET", "/openapi.json"): OPEN,
    ("GET", "/asyncapi.json"): OPEN,
    ("GET", problems.PAGE): OPEN,
}

# Of those for access the ones that change something: who asks for that without a key is looked up, too.
CHANGING: Final = frozenset({
    ("DELETE", "/v1/contacts/{id}"),
    ("POST", "/v1/contacts/{id}/restore"),
    ("POST", "/v1/contacts/{id}/consent"),
    ("POST", "/v1/contacts/{id}/hold"),
    ("POST", "/v1/contacts/{id}/merge"),
    ("POST", "/v1/contacts/{id}/unmerge"),
    ("POST", "/v1/sessions"),
    ("POST", "/v1/sessions/{id}/start"),
    ("POST", "/v1/sessions/{id}/link"),
    ("POST", "/v1/sessions/{id}/unlink"),
})  # fmt: skip

# Where a key may also come as the user name of HTTP Basic, as Segment's clients send it.
BASIC: Final = frozenset(("POST", f"/v1/{one}") for one in ("track", "identify", "alias", "page", "batch"))

# What a key of a scope may also do.
INCLUDED: Final = {ADMINISTER: frozenset({ADMINISTER, ACCESS})}

_READ: Final = sa.text(keys.READ)
_BEHIND: Final = "The registry is read first: nothing is told before it is known who was erased since."
_log = structlog.get_logger("api")


class Bucket:
    """So many requests a second, and as many at once."""

    def __init__(self, rate: float, clock: Callable[[], float]) -> None:
        self._rate, self._clock = rate, clock
        self._left, self._at = rate, clock()

    def take(self) -> float:
        """0 when a request may go on; else the seconds until one may."""
        now = self._clock()
        self._left = min(self._rate, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < 1:
            return (1 - self._left) / self._rate
        self._left -= 1
        return 0.0


class Keys:
    """The keys that are taken, as this process knows them; kept fresh while it is entered."""

    def __init__(
        self,
        database: servers.Database,
        log: servers.Log,
        *,
        required: bool,
        rate: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database, self._log, self._required = database, log, required
        self._rate, self._clock = rate, clock
        self._seen: int | None = None
        self._behind = False
        self._known: dict[str, keys.Key] | None = None
        self._any = False
        self._told = asyncio.Event()  # the database has said whether there is a key
        self._buckets: dict[str, Bucket] = {}
        self._looking: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Keys:
        self._looking = asyncio.create_task(self._look())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_SECONDS):
                await self._told.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._looking is not None
        self._looking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._looking

    async def refresh(self) -> None:
        """Read them now; what stands further back than was seen is not believed. Raises `errors.Away`."""
        try:
            stands, found = keys.read(await self._database.rows(_READ))
        except errors.Away:
            self._behind = self._seen is not None  # what comes back may be a backup
            raise
        self._any = self._any or bool(found)
        self._told.set()
        if self._seen is None:
            self._seen = await self._log.end_of_registry()
        if stands < self._seen:
            # A log that was written anew (`heed topics refill`) may never come to where the lost one ended.
            self._seen = min(self._seen, await self._log.end_of_registry())
        self._behind = 0 <= stands < self._seen
        if stands < self._seen:
            return
        self._seen = stands
        self._known = {one.hash: one for one in found if one.taken}
        self._buckets = {id: one for id, one in self._buckets.items() if id in {k.id for k in found}}

    def judge(self, header: str | None, scope: str, client: tuple[str, int] | None = None) -> str:
        """Who asks, as it is recorded. Raises `Problem`: 401, 403, 429, 503 while it is not known."""
        return self.judge_hash(hash_of(_bearer(header)), scope, client)

    def judge_hash(self, hashed: str, scope: str, client: tuple[str, int] | None = None) -> str:
        """As `judge`, of a key that is known by its hash."""
        if scope == OPEN:
            return NOBODY
        if not self._any and not self._required:
            if not self._told.is_set() and scope != INGEST:
                raise problems.Problem(problems.DATABASE_AWAY, f"{problems.DATABASE_AWAY.title}.")
            return callers.account(client) if scope == ADMINISTER else NOBODY
        if self._known is None:
            raise problems.Problem(problems.KEYS_UNKNOWN, f"{problems.KEYS_UNKNOWN.title}.")
        key = self._known.get(hashed)
        if key is None:
            raise problems.Problem(
                problems.NO_KEY, f"{problems.NO_KEY.title}.", headers={"WWW-Authenticate": "Bearer"}
            )
        if not any(scope in INCLUDED.get(one, frozenset({one})) for one in key.scopes):
            raise problems.Problem(problems.WRONG_SCOPE, f"{problems.WRONG_SCOPE.title}.")
        self._count(key)
        return f"key:{key.id}"

    def check_standing(self, scope: str) -> None:
        """Raises `Problem` (503) for whoever would read tables that stand further back than they did."""
        if self._behind and scope not in (OPEN, INGEST):
            raise problems.Problem(problems.WORKERS_BEHIND, _BEHIND)

    def named(self, hashed: str) -> keys.Key | None:
        """The key of this hash, if it is taken."""
        return (self._known or {}).get(hashed)

    @property
    def asked_for(self) -> bool:
        """Whether a key is asked for, as far as is known."""
        return self._any or self._required or not self._told.is_set()

    def _count(self, key: keys.Key) -> None:
        if not self._rate:
            return
        bucket = self._buckets.get(key.id)
        if bucket is None:
            bucket = self._buckets[key.id] = Bucket(self._rate, self._clock)
        seconds = bucket.take()
        if seconds:
            again = {"Retry-After": str(max(1, round(seconds)))}
            raise problems.Problem(problems.TOO_FAST, f"{problems.TOO_FAST.title}.", headers=again)

    async def _look(self) -> None:
        while True:
            try:
                await self.refresh()
            except errors.Away:
                pass  # said by who noticed; what was read last holds
            except Exception as error:
                _log.error("keys", error=type(error).__name__)
            await asyncio.sleep(LOOK_SECONDS)


def of_key(request: ASGIConnection[Any, Any, Any, Any]) -> str | None:
    """The key that asks, as an actor; None where it is not known who does."""
    actor: str = getattr(request.state, "actor", NOBODY)
    return actor if actor.startswith(registry.KEY) else None


def hash_of(token: str) -> str:
    """What is kept of a key: the SHA-256 of a secret of 256 bits, in hex."""
    return hashlib.sha256(token.encode()).hexdigest()


def _bearer(header: str | None) -> str:
    kind, _, token = (header or "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else ""


def from_basic(header: str | None) -> str | None:
    """The header `Authorization` with the user name of HTTP Basic as a bearer's key; another as it is."""
    kind, _, told = (header or "").partition(" ")
    if kind.lower() != "basic":
        return header
    try:
        user, _, _ = base64.b64decode(told.strip(), validate=True).decode().partition(":")
    except ValueError:
        return None
    return f"Bearer {user}"


async def knows_who_asks(connection: ASGIConnection[Any, Any, Any, Any], route: BaseRouteHandler) -> None:
    """A guard of every route: who asks may, and stands in the request's state as `actor`."""
    if SESSION in route.opt:
        return  # a page of the console, whose own guard asks for a session (`api.console.sessions`)
    known: Keys = connection.app.state.parts.keys
    name = (str(connection.scope.get("method")), connection.scope["path_template"])
    scope = ROUTES.get(name, ADMINISTER)
    client = connection.scope.get("client")
    header = connection.headers.get("authorization")
    actor = known.judge(from_basic(header) if name in BASIC else header, scope, client)
    known.check_standing(scope)
    if actor == NOBODY and name in CHANGING:
        actor = callers.account(client)
    connection.state.actor = actor
