"""Every error the API answers with, in one shape (RFC 9457), and the page that explains them.

Promises: each answer has `type`, `title`, `status` and `detail`, as `application/problem+json`, from whatever
layer the error came. `type` opens at the API itself and in `docs/errors.md`, which is this module's table.
Neither a value the caller sent nor anything of an exception's text is ever in it.

Used by every module of `api`, and by `api.protocol` for what never reaches a route; `python -m api.problems`
prints the page for `docs/errors.md`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, InternalServerException, ValidationException

from schemas import errors
from streams import tracing

MEDIA_TYPE = "application/problem+json"
PAGE = "/docs/errors.md"
RETRY_AFTER_SECONDS = 2

_log = structlog.get_logger("api")


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of error: what it is called, its status, and what the caller may do about it."""

    name: str
    status: int
    title: str
    advice: str

    @property
    def uri(self) -> str:
        return f"{PAGE}#{self.name}"


NOTHING_TAKEN = Kind(
    "nothing-taken", 400, "No event was taken",
    "`outcomes` says for each event, in the order sent, why it was refused. Mend them and send them again. "
    "A body that cannot be read at all has one outcome, `undecodable`.",
)  # fmt: skip
UNREADABLE_BODY = Kind(
    "unreadable-body", 400, "The body cannot be read",
    "The body says it is compressed with gzip and does not inflate, or it ends early. Compress it again, or "
    "send it as it is, without `Content-Encoding`.",
)  # fmt: skip
WRONG_PARAMETER = Kind(
    "wrong-parameter", 400, "A parameter or header is not what the route takes",
    "`detail` names the parameter or header, or says which ones the route takes. `/openapi.json` has their "
    "types.",
)  # fmt: skip
BAD_REQUEST = Kind(
    "bad-request", 400, "The request is not well-formed",
    "The request breaks a rule of HTTP, such as a missing or ill-formed `Host`. Look at the client, or at a "
    "proxy between.",
)  # fmt: skip
NO_ROUTE = Kind(
    "no-route", 404, "There is nothing at this address",
    "`/openapi.json` lists every address.",
)  # fmt: skip
NO_CONTACT_ID = Kind(
    "no-contact-id", 404, "This is not a contact id",
    "A contact id has 1 to 64 of the characters `A-Z a-z 0-9 _ . ~ -`. So it is never an address. A "
    "well-formed id is always answered, also when nothing is known of it.",
)  # fmt: skip
ERASED = Kind(
    "erased", 410, "It is erased",
    "The contact, or the session, was erased for ever, with all that was known of it.",
)  # fmt: skip
MERGED = Kind(
    "merged", 409, "It belongs to another contact",
    "`merged_into` names it. All of that contact would be erased: ask for that one, or say `whole`.",
)  # fmt: skip
NO_SESSION_ID = Kind(
    "no-session-id", 404, "This is not a session id",
    "A session id has 1 to 64 of the characters `A-Z a-z 0-9 _ . ~ -`.",
)  # fmt: skip
NO_SESSION = Kind(
    "no-session", 404, "Nothing was ever told of this session",
    "Create it (`POST /v1/sessions`), or tell of it: an event about `session:<id>` is enough.",
)  # fmt: skip
NO_KEY = Kind(
    "no-key", 401, "A key is needed",
    "`Authorization: Bearer` with a key that Heed made and nobody has revoked: `heed keys create`. The "
    "routes of Segment take it as the user name of HTTP Basic, too.",
)  # fmt: skip
WRONG_SCOPE = Kind(
    "wrong-scope", 403, "This key may not do this",
    "Every route has a scope (docs/operations.md); a key does what its scopes say. Make one with the right "
    "scope.",
)  # fmt: skip
NO_SUCH_KEY = Kind(
    "no-such-key", 404, "There is no such key",
    "`GET /v1/keys` lists every key by its id, revoked ones too.",
)  # fmt: skip
TOO_FAST = Kind(
    "too-fast", 429, "This key asks too often",
    "`HEED_KEY_REQUESTS_PER_SECOND` says how often one key may ask. Nothing of this request was taken. Wait "
    "as long as the header `Retry-After` says and send it again.",
)  # fmt: skip
KEYS_UNKNOWN = Kind(
    "keys-unknown", 503, "The keys are not known yet",
    "They are read from the registry, which a worker folds; after a database was restored they are believed "
    "only once it has caught up. Ask again after `Retry-After` seconds.",
)  # fmt: skip
NO_SETTING = Kind(
    "no-setting", 404, "There is no such setting to read or change here",
    "Those that are changed while Heed runs are `engagement_period_months`, `keep_row_without_clicks` and "
    "`zone`. All others are variables of the environment (docs/operations.md).",
)  # fmt: skip
WRONG_VALUE = Kind(
    "wrong-value", 400, "The body does not hold a value that is taken here",
    "`detail` says what is taken. The body is a JSON object as `/openapi.json` has it, with nothing else in "
    "it. Nothing was changed.",
)  # fmt: skip
NO_PARKED = Kind(
    "no-parked", 404, "No record with this number is parked",
    "It was driven again, discarded, or has expired since; or it never was. `GET /v1/parked` lists what is.",
)  # fmt: skip
METHOD = Kind(
    "method-not-allowed", 405, "This address does not take this method",
    "The header `Allow` of the answer lists the methods it takes.",
)  # fmt: skip
TOO_LARGE = Kind(
    "too-large", 413, "The body is too large",
    "A request may have 512,000 bytes, as sent and also inflated. Send fewer events at a time. One event "
    "may have 32 KB: a larger one is refused by itself, as `invalid`.",
)  # fmt: skip
MEDIA = Kind(
    "media-type", 415, "This kind of body is not taken",
    "`Content-Type` is one of `application/cloudevents+json`, `application/cloudevents-batch+json`, "
    "`application/json`, in UTF-8; with `ce-` headers any JSON type. `Content-Encoding` is absent, "
    "`identity` or `gzip`.",
)  # fmt: skip
HEAD_TOO_LARGE = Kind(
    "head-too-large", 431, "The address and headers are too large",
    "Together they may have 65,536 bytes. Send less in headers or in the address, and data in the body.",
)  # fmt: skip
TOO_SLOW = Kind(
    "too-slow", 422, "The answer would take too long",
    "The question was given up after 3 seconds, so that it holds up no other; asking again does not help. Of "
    "a list: take one of the pairs of filter and sort that `docs/operations.md` names as fast, narrow the "
    "filter, or read all pages in the order of `contact_id`. Of an explanation: the contact has too many "
    "facts to be explained at once.",
)  # fmt: skip
TOO_MANY = Kind(
    "too-many-requests", 429, "Too many requests are under way",
    "Nothing of this request was taken. Wait as long as the header `Retry-After` says and send it again.",
)  # fmt: skip
INTERNAL = Kind(
    "internal", 500, "Heed made a mistake",
    "Nothing of this request can be relied on. Sending the same event ids again counts once. The log of the "
    "API has the reason; please report it.",
)  # fmt: skip
NOT_OPENED = Kind(
    "not-opened", 500, "What is sealed cannot be opened",
    "A key is missing, or wrapped by a master key that the API does not have, or a sealed part was changed; "
    "`detail` says which. Nothing of it counts as erased, and nothing of the contact was told.",
)  # fmt: skip
LOG_AWAY = Kind(
    "log-away", 503, "The log cannot be reached",
    "Kafka has not acknowledged in time, so the events may or may not be in the log. Send them again after "
    "`Retry-After` seconds, with the same ids or the same `Idempotency-Key`: then they count once.",
)  # fmt: skip
DATABASE_AWAY = Kind(
    "database-away", 503, "The database cannot be reached",
    "PostgreSQL does not answer, or its tables are not there yet. Events are still taken. Ask again after "
    "`Retry-After` seconds.",
)  # fmt: skip
WORKERS_BEHIND = Kind(
    "workers-behind", 503, "The workers have not done it in time",
    "What was asked for stays queued and is done when workers run. Look at `/health/ready`, then ask again.",
)  # fmt: skip
TOO_MUCH_DUE = Kind(
    "too-much-due", 503, "Too many rows are past their time",
    "More rows than a list can bring to this instant wait for their timers: workers are behind, or run with "
    "`HEED_TIMERS=off`. `POST /v1/engagement/refresh-expired` brings them; single contacts are answered "
    "meanwhile.",
)  # fmt: skip
NOT_READY = Kind(
    "not-ready",
    503,
    "Not everything that Heed needs is there",
    "`detail` names what is missing: Kafka, PostgreSQL, or workers for all homes. Requests that do not need "
    "it are answered.",
)

KINDS = (
    NOTHING_TAKEN, UNREADABLE_BODY, WRONG_PARAMETER, WRONG_VALUE, BAD_REQUEST, NO_KEY, WRONG_SCOPE,
    NO_ROUTE, NO_CONTACT_ID, NO_SESSION_ID, NO_SESSION, NO_SETTING, NO_SUCH_KEY, NO_PARKED, METHOD, MERGED,
    ERASED, TOO_LARGE, MEDIA, TOO_SLOW, HEAD_TOO_LARGE, TOO_MANY, TOO_FAST, INTERNAL, NOT_OPENED, LOG_AWAY,
    DATABASE_AWAY, KEYS_UNKNOWN, WORKERS_BEHIND, TOO_MUCH_DUE, NOT_READY,
)  # fmt: skip
_BY_STATUS = {404: NO_ROUTE, 405: METHOD, 413: TOO_LARGE, 415: MEDIA, 429: TOO_MANY}


class Problem(Exception):
    """An error with its kind, a sentence of ours, and members and headers beside the shape."""

    def __init__(
        self, kind: Kind, detail: str, *, headers: Mapping[str, str] | None = None, **members: object
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.headers = dict(headers or {})
        self.members = members
        if kind.status in (429, 503):
            self.headers.setdefault("Retry-After", str(RETRY_AFTER_SECONDS))


def answer(problem: Problem) -> Response[bytes]:
    """The one shape. Never blocks, never raises."""
    kind = problem.kind
    body = {"type": kind.uri, "title": kind.title, "status": kind.status, "detail": problem.detail}
    return Response(
        msgspec.json.encode(body | problem.members),
        status_code=kind.status,
        media_type=MEDIA_TYPE,
        headers=problem.headers,
    )


def handle(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """The API's only exception handler: whatever was raised, the one shape goes out."""
    return answer(of(request, error))


def of(request: Request[Any, Any, Any], error: Exception) -> Problem:
    """The problem that an exception is; one that is a mistake of ours is told in the log."""
    problem = _problem_of(error)
    if problem.kind is INTERNAL:
        _tell(request, error)
    return problem


def _problem_of(error: Exception) -> Problem:
    match error:
        case Problem():
            return error
        case ValidationException():
            return Problem(WRONG_PARAMETER, _parameters_of(error))
        case InternalServerException():  # Litestar's word for a client that went away while it was sending
            return Problem(UNREADABLE_BODY, "The body ended early.")
        case HTTPException(status_code=status) if status < 500:
            kind = _BY_STATUS.get(status, BAD_REQUEST)
            allow = (error.headers or {}).get("allow")
            return Problem(kind, f"{kind.title}.", headers={"Allow": allow} if allow else None)
        case errors.Away():
            return Problem(DATABASE_AWAY, f"{DATABASE_AWAY.title}.")
        case _:
            return Problem(INTERNAL, f"{INTERNAL.title}. Its log has the reason.")


def _parameters_of(error: ValidationException) -> str:
    """Names the parameters by the route's own names; what was sent for them is left out."""
    found = error.extra if isinstance(error.extra, list) else []
    names = sorted({str(item["key"]) for item in found if isinstance(item, dict) and item.get("key")})
    if not names:
        return f"{WRONG_PARAMETER.title}."
    return f"Parameter {', '.join(names)}: not what the route takes."


def _tell(request: Request[Any, Any, Any], error: Exception) -> None:
    """One log record without the address asked for, the body and the error's text: they may be personal."""
    where: list[str] = []
    trace = error.__traceback__
    while trace is not None:
        where.append(f"{trace.tb_frame.f_globals.get('__name__')}:{trace.tb_lineno}")
        trace = trace.tb_next
    route, method = request.scope.get("path_template"), request.scope.get("method")
    traced = tracing.trace_id(request.headers.get(tracing.TRACEPARENT))
    named = {"trace_id": traced} if traced else {}
    _log.error("internal", error=type(error).__name__, route=route, method=method, where=where[-8:], **named)


def page() -> str:
    """The text of `docs/errors.md`: a heading for each kind, which `type` points to."""
    head = (
        "# Errors of the API\n\nEvery error has one shape, RFC 9457's, as `application/problem+json`: "
        "`type` (an address of this page), `title`,\n`status` and `detail`. Members beside these are named "
        "below. Nothing the caller sent is repeated in it, except\nthe event ids in `outcomes`. Written by "
        "`python -m api.problems`.\n"
    )
    parts = [f"\n## {kind.name}\n\n**{kind.status} {kind.title}.** {kind.advice}\n" for kind in KINDS]
    return head + "".join(parts)


if __name__ == "__main__":
    print(page(), end="")
