"""Every route names its scope and refuses every other; rates; what is believed of keys."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
from litestar import Litestar
from litestar.testing import TestClient

from api import app, auth, openapi, problems
from projections import keys
from schemas import errors, settings
from tests import keyring

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TOKENS = {scope: f"heed_{scope}" for scope in auth.SCOPES}
ROWS = [
    {
        "subject": f"key:{scope}", "hash": auth.hash_of(token), "name": scope, "scopes": scope,
        "created_at": NOW, "created_by": "tests", "revoked_at": None, "revoked_by": None, "next_offset": 7,
    }
    for scope, token in TOKENS.items()
]  # fmt: skip


class Servers:
    """A database with these rows, and a log that ends there; either may be away."""

    def __init__(self, rows: list[dict[str, Any]], end: int = 7) -> None:
        self.found: list[dict[str, Any]] | None = rows
        self.end: int | None = end

    async def rows(self, _: object) -> list[dict[str, Any]]:
        if self.found is None:
            raise errors.Away
        return self.found

    async def end_of_registry(self) -> int:
        if self.end is None:
            raise errors.Away
        return self.end


def known(servers: Servers, *, required: bool = True, rate: int = 0, **more: Any) -> auth.Keys:
    made: Any = servers
    found = auth.Keys(made, made, required=required, rate=rate, **more)
    with contextlib.suppress(errors.Away):
        asyncio.run(found.refresh())
    return found


def routes() -> list[tuple[str, str]]:
    paths = cast("dict[str, Any]", openapi.document()["paths"])
    return [(method.upper(), path) for path, one in paths.items() for method in one]


def refused(found: auth.Keys, token: str | None, scope: str) -> problems.Kind | None:
    try:
        found.judge(None if token is None else f"Bearer {token}", scope)
    except problems.Problem as problem:
        return problem.kind
    return None


@pytest.mark.capability("CEE-14")
def test_every_route_names_its_scope() -> None:
    assert set(auth.ROUTES) == set(routes())
    assert set(auth.ROUTES.values()) <= {*auth.SCOPES, auth.OPEN}


@pytest.mark.capability("CEE-14")
@pytest.mark.parametrize(("method", "path"), routes())
def test_every_route_refuses_every_other_scope(method: str, path: str) -> None:
    chosen = settings.Settings(kafka="127.0.0.1:1", postgres="postgresql://x@y/z")
    application: Litestar = app.create_app(chosen, keys=keyring.held())
    parts = application.state.parts
    object.__setattr__(parts, "keys", known(Servers(ROWS)))
    scope = auth.ROUTES[(method, path)]
    client = TestClient(application)
    where = path.replace("{id}", "ada").replace("{name}", "zone")
    if scope == auth.OPEN:
        return
    answer = client.request(method, where)
    assert answer.status_code == 401
    assert answer.json()["detail"] == "A key is needed."
    assert answer.headers["www-authenticate"] == "Bearer"
    for other in auth.SCOPES:
        if other == scope or (other == auth.ADMINISTER and scope == auth.ACCESS):
            continue
        answer = client.request(method, where, headers={"Authorization": f"Bearer {TOKENS[other]}"})
        assert answer.status_code == 403, (other, answer.text)
        assert answer.json()["detail"] == "This key may not do this."


@pytest.mark.capability("CEE-14")
def test_who_asks_is_told_apart() -> None:
    found = known(Servers(ROWS))
    assert found.judge("Bearer heed_ingest", auth.INGEST) == "key:ingest"
    assert found.judge("bearer  heed_administer ", auth.ACCESS) == "key:administer"
    for header in (None, "", "heed_ingest", "Basic heed_ingest", "Bearer", "Bearer heed_ingest2", "Bearer é"):
        with pytest.raises(problems.Problem) as raised:
            found.judge(header, auth.INGEST)
        assert raised.value.kind is problems.NO_KEY
    assert found.judge(None, auth.OPEN) == "nobody"


@pytest.mark.capability("CEE-14")
def test_a_revoked_key_is_not_taken_and_a_restored_database_does_not_revive_it() -> None:
    servers = Servers(ROWS)
    found = known(servers)
    revoked = [{**one, "revoked_at": NOW, "next_offset": 8} for one in ROWS]
    servers.found, servers.end = revoked, 8
    asyncio.run(found.refresh())
    assert refused(found, TOKENS["access"], auth.ACCESS) is problems.NO_KEY
    servers.found = ROWS  # yesterday's
    asyncio.run(found.refresh())
    assert refused(found, TOKENS["access"], auth.ACCESS) is problems.NO_KEY
    # and one that starts now knows from the log that there is more to come
    fresh = known(Servers(ROWS, end=8))
    assert refused(fresh, TOKENS["access"], auth.ACCESS) is problems.KEYS_UNKNOWN


@pytest.mark.capability("LAW-6")
def test_a_restored_database_tells_nothing_before_it_is_known_who_is_erased() -> None:
    servers = Servers(ROWS)
    found = known(servers)
    servers.found = [{**one, "next_offset": 9} for one in ROWS]
    asyncio.run(found.refresh())
    for scope in (auth.ACCESS, auth.ADMINISTER):
        found.check_standing(scope)
    servers.found, servers.end = ROWS, 9
    asyncio.run(found.refresh())
    for scope in (auth.ACCESS, auth.ADMINISTER):
        with pytest.raises(problems.Problem) as raised:
            found.check_standing(scope)
        assert raised.value.kind is problems.WORKERS_BEHIND
    found.check_standing(auth.INGEST)
    found.check_standing(auth.OPEN)


@pytest.mark.capability("LAW-6")
def test_a_database_that_was_away_tells_nothing_before_it_is_known_how_far_it_stands() -> None:
    """It may be a backup that comes back, and the next look is a second away."""
    servers = Servers(ROWS)
    found = known(servers)
    servers.found = None
    with pytest.raises(errors.Away):
        asyncio.run(found.refresh())
    with pytest.raises(problems.Problem) as raised:
        found.check_standing(auth.ACCESS)
    assert raised.value.kind is problems.WORKERS_BEHIND
    servers.found = ROWS
    asyncio.run(found.refresh())
    found.check_standing(auth.ACCESS)
    never = Servers(ROWS)
    never.found = None
    known(never).check_standing(auth.ACCESS)  # whose registry was never seen: nothing is known of a backup


@pytest.mark.capability("CEE-14")
def test_a_key_is_revoked_though_the_log_was_written_anew_and_is_shorter() -> None:
    """`heed topics refill` writes each fact once: its registry may never come to where the lost one ended."""
    servers = Servers(ROWS)
    found = known(servers)
    servers.end, servers.found = 3, [{**one, "next_offset": 0} for one in ROWS]  # nobody has read it yet
    asyncio.run(found.refresh())
    assert refused(found, TOKENS["access"], auth.ACCESS) is None
    servers.end, servers.found = 4, [{**one, "revoked_at": NOW, "next_offset": 4} for one in ROWS]
    asyncio.run(found.refresh())
    assert refused(found, TOKENS["access"], auth.ACCESS) is problems.NO_KEY


def test_servers_that_are_away() -> None:
    servers = Servers(ROWS)
    found = known(servers)
    servers.found = None
    with pytest.raises(errors.Away):
        asyncio.run(found.refresh())
    assert refused(found, TOKENS["access"], auth.ACCESS) is None
    away = Servers(ROWS)
    away.end = None
    assert refused(known(away, required=False), None, auth.ACCESS) is problems.KEYS_UNKNOWN
    away.found = None
    assert refused(known(away), None, auth.ACCESS) is problems.KEYS_UNKNOWN


def test_before_the_first_key_nobody_is_asked_on_loopback() -> None:
    empty = [{**dict.fromkeys(ROWS[0]), "next_offset": 7}]
    open_ = known(Servers(empty), required=False)
    assert (open_.judge(None, auth.ADMINISTER), open_.judge(None, auth.INGEST)) == ("local", "nobody")
    assert refused(known(Servers(empty)), None, auth.INGEST) is problems.NO_KEY
    assert refused(known(Servers(ROWS), required=False), None, auth.INGEST) is problems.NO_KEY


@pytest.mark.capability("CEE-14")
def test_until_it_is_known_whether_there_is_a_key_nobody_changes_or_reads_without_one() -> None:
    """A start while the database is away, or slow: it may hold keys."""
    servers = Servers(ROWS)
    servers.found = None
    starting = known(servers, required=False)
    for scope in (auth.ACCESS, auth.ADMINISTER):
        assert refused(starting, None, scope) is problems.DATABASE_AWAY
    assert refused(starting, None, auth.INGEST) is None, "the log alone is asked for these"
    servers.found = ROWS
    asyncio.run(starting.refresh())
    assert refused(starting, None, auth.INGEST) is problems.NO_KEY


@pytest.mark.parametrize("there", [True, False])
def test_a_start_waits_a_moment_to_know_it(there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "FIRST_SECONDS", 0.2)
    servers = Servers([{**dict.fromkeys(ROWS[0]), "next_offset": 7}])
    if not there:
        servers.found = None

    async def start() -> problems.Kind | None:
        made: Any = servers
        async with auth.Keys(made, made, required=False, rate=0) as keys:
            return refused(keys, None, auth.ADMINISTER)

    assert asyncio.run(start()) is (None if there else problems.DATABASE_AWAY)


def test_a_key_that_asks_too_often() -> None:
    now = [0.0]
    found = known(Servers(ROWS), rate=2, clock=lambda: now[0])
    assert [refused(found, TOKENS["access"], auth.ACCESS) for _ in range(3)] == [
        None,
        None,
        problems.TOO_FAST,
    ]
    assert refused(found, TOKENS["administer"], auth.ACCESS) is None
    now[0] = 0.5
    assert refused(found, TOKENS["access"], auth.ACCESS) is None
    with pytest.raises(problems.Problem) as raised:
        found.judge(f"Bearer {TOKENS['access']}", auth.ACCESS)
    assert raised.value.headers["Retry-After"] == "1"


def test_the_order_of_facts_decides_nothing() -> None:
    assert keys.read([]) == (-1, [])
    stands, found = keys.read([{**ROWS[0], "revoked_at": NOW}])
    assert (stands, found[0].taken) == (7, False)


@pytest.mark.capability("CEE-14")
@pytest.mark.parametrize(
    ("host", "asked", "required"),
    [
        ("127.0.0.1", "optional", False),
        ("::1", "optional", False),
        ("localhost", "optional", False),
        ("127.0.0.1", "required", True),
        ("0.0.0.0", "optional", True),
        ("192.0.2.7", "optional", True),
        ("heed.example.org", "optional", True),
    ],
)
def test_where_keys_are_asked_for(host: str, asked: str, required: bool) -> None:
    chosen = settings.Settings(kafka="127.0.0.1:1", postgres="postgresql://x@y/z", api_host=host, keys=asked)
    known: auth.Keys = app.create_app(chosen, keys=keyring.held()).state.parts.keys
    assert (refused(known, None, auth.INGEST) is problems.KEYS_UNKNOWN) == required


def test_files_that_are_no_certificate(tmp_path: Path) -> None:
    here = settings.Settings(
        kafka="127.0.0.1:1", postgres="postgresql://x@y/z", api_port=0, master_key=keyring.MASTER_TEXT,
        tls_certificate=tmp_path / "absent", tls_key=tmp_path,
    )  # fmt: skip
    with pytest.raises(errors.Usage, match="HEED_TLS_CERTIFICATE and HEED_TLS_KEY"):
        app.serve(here)
