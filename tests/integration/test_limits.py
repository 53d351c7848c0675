"""docs/limits.md is this table: each limit is gone up to, which is taken, and past by one, which is not.

To add one: a `Limit` in LIMITS, with the constant of the code in its words, and its row on the page (the test
that compares the two prints what the page has to say). How each is tried is told by `tests.limits`.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator

import pytest
from litestar.testing import TestClient

from api import (
    app,
    bodies,
    engagement_list,
    explain,
    ingest,
    pages,
    parked,
    problems,
    protocol,
    recalculation,
)
from deploy.processes import free_ports
from schemas import admission, errors, identity, settings, topics
from streams import wire
from tests import keyring, limits, stack
from tests.unit import samples, test_api_events

PAGE = stack.ROOT / "docs" / "limits.md"
SLOW = {"dashboard-seconds"}  # they wait for the bound to come


@pytest.fixture(scope="module")
def ways(servers: stack.Servers, module_database: str) -> Iterator[limits.Ways]:
    stack.recreate_topics(servers.bootstrap, topics.all_topics(stack.HOMES))
    chosen = settings.Settings(kafka="127.0.0.1:1", postgres=module_database)
    port = free_ports(1)[0]
    with (
        stack.Launcher() as launch,
        TestClient(app.create_app(chosen, test_api_events.Kept(), keyring.held())) as client,
    ):
        launch.api("127.0.0.1:1", module_database, port).wait_for("listening")
        yield limits.Ways(client, port, servers.bootstrap, module_database)


LIMITS = {
    "event-bytes": limits.Limit(
        "an event", f"{admission.MAX_BYTES:,} bytes", "invalid", lambda _, n: limits.told(limits.sized(n))
    ),
    "event-nesting": limits.Limit(
        "nesting of an event",
        f"{admission.MAX_DEPTH} levels",
        "undecodable",
        lambda _, n: limits.told(limits.nested(n)),
    ),
    "id": limits.member("id"),
    "source": limits.member("source"),
    "contact-id": limits.Limit(
        "a contact id",
        "64 of `A-Z a-z 0-9 _ . ~ -`",
        "invalid",
        lambda _, n: limits.told(samples.event(subject=identity.CONTACT + "x" * (64 + n))),
    ),
    "mailing-id": limits.field("mail.sent", "mailing_id"),
    "message-id": limits.field("mail.sent", "message_id"),
    "url": limits.field("mail.clicked", "url"),
    "email": limits.field("mail.bounced", "email"),
    "version": limits.Limit(
        "the version in `dataschema`",
        "the newest in [events.md](events.md)",
        "newer_version",
        lambda _, n: limits.told(samples.event(dataschema=f"urn:heed:mail.clicked:{1 + n}")),
    ),
    "time-first": limits.time(
        "the earliest `time`",
        "the first instant of year 1, UTC",
        "0001-01-01T00:00:00Z",
        "0001-01-01T00:00:00+00:01",
        limits.TAKEN,
        "unstorable",
    ),
    "time-last": limits.time(
        "the latest `time`",
        "the last millisecond of year 9999, UTC",
        "9999-12-31T23:59:59.999Z",
        "9999-12-31T23:59:59.999-00:01",
        "future",
        "unstorable",
    ),
    "time-ahead": limits.Limit(
        "`time` ahead of the acceptance",
        f"`HEED_AHEAD_SECONDS`, {settings.Settings().ahead_seconds} unless set",
        "future",
        limits.ahead,
    ),
    "request-bytes": limits.Limit(
        "the body of a request",
        f"{bodies.MAX_BYTES:,} bytes",
        "413 too-large",
        lambda w, n: limits.post(w, limits.body(n)),
    ),
    "request-inflated": limits.Limit(
        "a gzipped body, inflated",
        f"{bodies.MAX_BYTES:,} bytes",
        "413 too-large",
        lambda w, n: limits.post(w, gzip.compress(limits.body(n)), **{"content-encoding": "gzip"}),
    ),
    "request-head": limits.Limit(
        "address and headers of a request",
        f"{protocol.MAX_HEAD_BYTES:,} bytes",
        "431 head-too-large",
        limits.head,
    ),
    "idempotency-key": limits.Limit(
        "`Idempotency-Key`",
        f"{ingest.MAX_KEY_CHARACTERS} visible ASCII characters",
        "400 wrong-parameter",
        lambda w, n: limits.post(
            w,
            samples.encode(samples.event()),
            **{"idempotency-key": "k" * (ingest.MAX_KEY_CHARACTERS + n)},
        ),
    ),
    "waiting-bytes": limits.Limit(
        "bodies that wait for Kafka, of one API process",
        f"{ingest.MAX_WAITING_BYTES >> 20} MiB",
        "429 too-many-requests",
        limits.waiting,
    ),
    "key-requests": limits.Limit(
        "requests a second of one key, to one API process",
        "`HEED_KEY_REQUESTS_PER_SECOND`; no bound unless set",
        "429 too-fast",
        limits.asks,
    ),
    "key-name": limits.Limit(
        "the name of a key", "64 printable ASCII characters", "400 wrong-value", limits.name_of_a_key
    ),
    "page": limits.Limit(
        "contacts on a page of `GET /v1/engagement`",
        f"{engagement_list.LARGEST_PAGE:,}",
        "400 wrong-parameter",
        limits.page("/v1/engagement", engagement_list.LARGEST_PAGE),
    ),
    "page-activity": limits.Limit(
        "lines on a page of `GET /v1/activity` and `GET /v1/audit`",
        f"{pages.LARGEST_PAGE:,}",
        "400 wrong-parameter",
        limits.page("/v1/activity", pages.LARGEST_PAGE),
    ),
    "page-parked": limits.Limit(
        "records on a page of `GET /v1/parked`",
        f"{parked.LARGEST_PAGE:,}",
        "400 wrong-parameter",
        limits.page("/v1/parked", parked.LARGEST_PAGE),
    ),
    "groups-parked": limits.Limit(
        "groups of `GET /v1/parked/overview`",
        f"{parked.LARGEST_PAGE:,}",
        "400 wrong-parameter",
        limits.page("/v1/parked/overview", parked.LARGEST_PAGE),
    ),
    "explained": limits.Limit(
        "facts of a field, explained",
        f"{explain.LARGEST:,}",
        "400 wrong-parameter",
        limits.page("/v1/contacts/ada/engagement/explain", explain.LARGEST),
    ),
    "walk-ids": limits.Limit(
        "`ids` of parked records to be driven again or discarded",
        f"{parked.MOST_IDS:,}",
        "400 wrong-value",
        lambda w, n: limits.walk(w, ids=list(range(parked.MOST_IDS + n))),
    ),
    "walk-seconds": limits.Limit(
        "`max_seconds` of such a request",
        f"{parked.MOST_SECONDS} s",
        "400 wrong-value",
        lambda w, n: limits.walk(w, ids=[1], max_seconds=parked.MOST_SECONDS + n),
    ),
    "queue-seconds": limits.Limit(
        "`max_seconds` of `POST /v1/engagement/run-queue`",
        f"{recalculation.LONGEST_SECONDS:,} s",
        "400 wrong-value",
        lambda w, n: w.answered(
            w.client.post("/v1/engagement/run-queue", json={"max_seconds": recalculation.LONGEST_SECONDS + n})
        ),
    ),
    "batch-bytes": limits.Limit(
        "a batch of records sent to a door (`max.message.bytes`)",
        f"{topics.MAX_MESSAGE_BYTES:,} bytes",
        "refused by Kafka",
        limits.batch,
    ),
    "batch-inflated": limits.Limit(
        "a compressed batch of records, inflated", f"{wire.MOST >> 20} MiB", "undecodable", limits.inflated
    ),
    "command-contacts": limits.Limit("contacts in a command", "1,000", "undecodable", limits.command),
    "homes": limits.Limit("homes (`HEED_HOMES`)", "1,024", "exit 2", limits.homes),
    "dashboard-seconds": limits.Limit(
        "a statement of a dashboard, where the session sets no other `statement_timeout`",
        f"{limits.DASHBOARD_SECONDS} s",
        "ended by PostgreSQL (57014)",
        limits.dashboard,
    ),
}


each = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in LIMITS]
)


@each
def test_up_to_the_limit_is_taken(name: str, ways: limits.Ways) -> None:
    assert LIMITS[name].try_(ways, 0) == LIMITS[name].up_to


@each
def test_one_past_the_limit_is_not_and_the_reason_is_named(name: str, ways: limits.Ways) -> None:
    assert LIMITS[name].try_(ways, 1) == LIMITS[name].past


def test_the_page_is_this_table() -> None:
    rows = ["| limit | what | at most | past it |", "|---|---|---|---|"]
    rows += [f"| {name} | {one.what} | {one.most} | {shown(one.past)} |" for name, one in LIMITS.items()]
    wanted = "\n".join(rows) + "\n\n"
    assert wanted in PAGE.read_text(), f"docs/limits.md has to say:\n\n{wanted}"


def shown(past: str) -> str:
    """The consequence, as a link to where it is explained."""
    status, _, kind = past.partition(" ")
    if kind in {one.name for one in problems.KINDS}:
        return f"{status} [{kind}](errors.md#{kind})"
    return f"`{past}`" if past in set(errors.Reason) else past


@pytest.mark.parametrize(
    "raw",
    [
        b"rubbish\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\0 HTTP/1.1\r\n\r\n",
        b"\0" * 99,
    ],
)
def test_bytes_that_are_no_http_are_answered_in_the_one_shape(raw: bytes, ways: limits.Ways) -> None:
    assert limits.by_hand(ways.port, raw) == "400 bad-request"


def test_a_head_that_never_ends_is_cut_off(ways: limits.Ways) -> None:
    """Just so much is sent that all of it is read: an answer to a client that goes on sending may be lost."""
    most = protocol.MAX_HEAD_BYTES
    for start, size in (
        (b"GET /", most),
        (b"GET / HTTP/1.1\r\nx", 2 * most),
        (b"GET / HTTP/1.1\r\nx: ", 2 * most),
    ):
        assert limits.by_hand(ways.port, start + b"a" * size) == "431 head-too-large"
