"""The console over a made-up Heed: real routes, sessions and templates, with what the API would answer.

Called by the unit tests of the console.
"""

from __future__ import annotations

import asyncio
import base64
import math
import re
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from litestar import Litestar
from litestar.testing import TestClient

from api import (
    activity,
    app,
    audit,
    auth,
    contact_links,
    contacts,
    engagement,
    engagement_list,
    explain,
    holds,
    keys,
    parked,
    settings,
)
from api.console import flow, sessions
from schemas import activity as kinds
from schemas import settings as declared
from tests import keyring
from tests.unit.test_auth import ROWS, TOKENS, Servers

NOW = datetime.now(UTC).replace(microsecond=0)
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>\u202e{{7*7}}"


class Silent:
    """A producer that nothing is written with."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    async def append(self, records: object, timeout: float = 0) -> None: ...


class Database:
    """Answers what the first page asks of PostgreSQL itself; raises `error` instead, if there is one."""

    def __init__(self) -> None:
        self.error: Exception | None = None

    async def rows(self, statement: Any, **_: object) -> list[dict[str, Any]]:
        if self.error is not None:
            raise self.error
        if "server_version" in str(statement):
            return [{"version": "18.1 (Debian)"}]
        if "freshness" in str(statement):
            return [
                fresh("engagement", "facts", 8),
                fresh("engagement", "commands", 8),
                fresh("intake", "email-activity", 8, live=6),
                fresh("registry", "registry", 1),
            ]
        raise AssertionError(f"nobody asks this here: {statement}")

    bounded = rows


class Walks:
    """Remembers the walks it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, bytes]] = []
        self.next: str | None = None

    async def stop(self) -> None: ...

    async def redrive(self, body: bytes) -> dict[str, Any]:
        parked.wanted(body)
        self.asked.append(("redrive", body))
        stays = {"id": 8, "status": "parked", "reason": "no_subject", "detail": HOSTILE}
        outcomes = [{"id": 7, "status": "driven", "reason": None, "detail": None}, stays]
        return {"driven": 1, "parked": 1, "gone": 0, "next": self.next, "outcomes": outcomes}

    async def discard(self, body: bytes, actor: str) -> dict[str, Any]:
        parked.wanted(body)
        self.asked.append((f"discard by {actor}", body))
        outcomes = [{"id": 7, "status": "discarded", "reason": None, "detail": None}]
        return {"discarded": 1, "parked": 0, "gone": 0, "next": self.next, "outcomes": outcomes}


class Ready:
    """What is missing."""

    def __init__(self) -> None:
        self.told: list[str] = []

    async def missing(self) -> list[str]:
        return self.told

    async def watch(self) -> None: ...


class World:
    """The application, a browser, and what stands behind them."""

    def __init__(self, *, keyless: bool = False, **chosen: Any) -> None:
        self.servers = Servers([{**dict.fromkeys(ROWS[0]), "next_offset": 7}] if keyless else list(ROWS))
        made = declared.Settings(kafka="127.0.0.1:1", postgres="postgresql://x@127.0.0.1:1/z", **chosen)
        self.app: Litestar = app.create_app(made, Silent(), keyring.held())
        self.database, self.walks, self.ready = Database(), Walks(), Ready()
        servers: Any = self.servers
        self.now = [1_000.0]
        self.keys = auth.Keys(servers, servers, required=False, rate=0, clock=lambda: self.now[0])
        parts = {
            "database": self.database,
            "walks": self.walks,
            "readiness": self.ready,
            "keys": self.keys,
        }
        for name, part in parts.items():
            object.__setattr__(self.app.state.parts, name, part)
        secure = self.app.state.sessions._secure
        self.app.state.sessions = sessions.Sessions(self.keys, secure=secure, clock=lambda: self.now[0])
        self.client = TestClient(self.app, base_url="http://127.0.0.1:8080", raise_server_exceptions=False)

    def log_in(self, scope: str = "administer") -> World:
        """With the key of this scope."""
        sent = self.post("/console/login", csrf=self.token("/console/login"), key=TOKENS[scope])
        assert sent.status_code == 303, sent.text
        return self

    def token(self, path: str = "/console") -> str:
        """The token of a page's forms."""
        found = re.search(r'name="csrf" value="([^"]+)"', self.get(path).text)
        assert found, path
        return found[1]

    def get(self, path: str, **headers: str) -> Any:
        return self.client.get(path, follow_redirects=False, headers=headers)

    def post(self, path: str, site: str | None = None, **form: Any) -> Any:
        headers = {} if site is None else {"sec-fetch-site": site}
        return self.client.post(path, data=form, follow_redirects=False, headers=headers)

    def send(self, path: str, page: str = "/console", **form: Any) -> Any:
        """A form of this session's own."""
        return self.post(path, csrf=self.token(page), **form)


def fresh(projection: str, topic: str, partitions: int, live: int | None = None) -> dict[str, Any]:
    lag = 0 if live is None else None
    live = partitions if live is None else live
    return {
        "projection": projection, "topic": topic, "partitions": partitions, "live": live,
        "as_of": NOW - timedelta(seconds=1), "lag_records": lag, "lag_seconds": lag,
    }  # fmt: skip


def row(contact: str, **more: Any) -> dict[str, Any]:
    return {
        "contact_id": contact, "date_first_click": NOW - timedelta(days=330),
        "date_last_click": NOW - timedelta(days=12), "recency": 12, "frequency": 54, "volume": 75,
        "volume_last_30": 5, "period_months": 12, "date_calculated": NOW, **more,
    }  # fmt: skip


def fact(number: int, id: str | None = None) -> dict[str, Any]:
    time = NOW - timedelta(days=5 * number)
    return {
        "source": "urn:example:mailer",
        "id": id or f"m-{4711 - number}",
        "type": "mail.clicked",
        "time": time,
    }


def link(subject: str, target: str, number: int, **more: Any) -> dict[str, Any]:
    kind = "session.linked" if subject.startswith("session:") else "contact.merged"
    return {
        "type": kind, "subject": subject, "target": target, "time": NOW - timedelta(days=number),
        "actor": "key:0197f2", "source": "urn:heed", "id": f"l-{number}", "undone_at": None,
        "undone_by": None, **more,
    }  # fmt: skip


def record(id: int, **more: Any) -> dict[str, Any]:
    return {
        "id": id, "reason": "invalid", "detail": "data.mailing_id is missing: give the mailing.",
        "type": "mail.clicked", "source": "urn:example:mailer", "event_id": f"e-{id}",
        "door": "email-activity", "topic": "email-activity", "partition": 3, "offset": 1042 + id,
        "event_time": NOW - timedelta(hours=id), "parked_at": NOW - timedelta(minutes=7 * id), **more,
    }  # fmt: skip


def group(reason: str, type: str | None, count: int) -> dict[str, Any]:
    return {
        "reason": reason, "type": type, "door": "email-activity", "topic": "email-activity", "count": count,
        "oldest": NOW - timedelta(days=3), "newest": NOW - timedelta(minutes=4),
    }  # fmt: skip


GROUPS = [
    group("undecodable", None, 204), group("wrong_door", "contact.merged", 73),
    group("future", "mail.clicked", 51), group("no_subject", "mail.sent", 51), group("invalid", HOSTILE, 3),
]  # fmt: skip
RECORDS = [record(7), record(8, reason="no_subject", detail=HOSTILE, type=None), record(9, type=HOSTILE)]
MADE = {
    "id": "0197f2aa-0000-7000-8000-000000000001", "name": "shop", "scopes": ["ingest"], "created_at": NOW,
    "created_by": "key:administer", "revoked_at": None, "revoked_by": None,
}  # fmt: skip


def answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the modules of the API answer here, in place of PostgreSQL."""

    async def read(_: Any, contact: str, as_of: datetime | None = None) -> dict[str, Any]:
        if contact == "nobody":
            return engagement.answer(contact, {}, 12, NOW)
        if contact == "old-ada":
            return row("ada", merged_into="ada")
        return row(contacts.well_formed(contact), date_calculated=as_of or NOW)

    async def links(_: Any, contact: str) -> dict[str, Any]:
        if contact == "nobody":
            return {"members": [], "links": [], "more": False}
        told = [
            link("contact:old-ada", f"contact:{contact}", 1),
            link("session:9f3a51", f"contact:{contact}", 3, actor=None, source=HOSTILE),
            link("contact:eve", f"contact:{contact}", 9, undone_at=NOW, undone_by="key:0197f2"),
        ]
        return {"members": ["contact:old-ada", "session:9f3a51"], "links": told, "more": False}

    async def behind(*_: Any) -> dict[str, Any]:
        fields: dict[str, Any] = {field: [fact(n) for n in range(1, 5)] for field in explain.FIELDS}
        together = {"frequency": [[fact(8), fact(9, HOSTILE)]]}
        return {**fields, "together": together, "truncated": True}

    async def listed(*_: Any) -> dict[str, Any]:
        items = [row(f"c-{3302 - 17 * n:05}", frequency=58 - n, recency=n % 9) for n in range(12)]
        return {"items": [row("ada"), *items], "next": "bmV4dA"}

    async def overview(_: Any, which: Any, *, limit: int) -> dict[str, Any]:
        found = [one for one in GROUPS if which.reason in (None, one["reason"])]
        return {"total": sum(one["count"] for one in found), "groups": len(found), "items": found[:limit]}

    async def page(_: Any, which: Any, *, after: int | None, limit: int) -> dict[str, Any]:
        return {"items": [] if after else RECORDS, "next": None if after else "6"}

    async def setting(_: Any, name: str) -> dict[str, Any]:
        settings._known(name)
        progress = {"done": False, "waiting": 1234, "failed": 2, "filling": True}
        held = {"zone": "Europe/Amsterdam", "engagement_period_months": 24, "keep_row_without_clicks": False}
        return {
            "name": name, "value": held[name], "since": NOW - timedelta(hours=2), "actor": HOSTILE,
            "progress": None if name == "zone" else progress,
        }  # fmt: skip

    monkeypatch.setattr(contacts, "root_of", root)
    monkeypatch.setattr(holds, "read", held)
    monkeypatch.setattr(activity.Timeline, "rows", happened)
    monkeypatch.setattr(audit.Changes, "rows", changed)
    monkeypatch.setattr(keys, "read", kept_keys)
    monkeypatch.setattr(keys, "one", one_key)
    monkeypatch.setattr(engagement, "read", read)
    monkeypatch.setattr(contact_links, "read", links)
    monkeypatch.setattr(contacts, "read", known)
    monkeypatch.setattr(explain, "explain", behind)
    monkeypatch.setattr(engagement_list, "find", listed)
    monkeypatch.setattr(parked, "overview", overview)
    monkeypatch.setattr(parked, "page", page)
    monkeypatch.setattr(parked, "one", one_parked)
    monkeypatch.setattr(settings, "read", setting)


async def known(_: Any, contact: str) -> dict[str, Any]:
    fact = {"subject": f"contact:{contact}", "source": HOSTILE, "id": "i", "time": NOW, "actor": None}
    return {
        "contact_id": contact, "known": contact != "nobody", "links": [], "truncated": False,
        "deleted": fact if contact == "gone" else None,
        "consent": None if contact == "nobody" else {**fact, "level": "aggregate", "subject": HOSTILE},
    }  # fmt: skip


async def root(_: Any, contact: str, as_of: datetime | None = None) -> str:
    return "ada" if contact == "old-ada" else contacts.well_formed(contact)


async def held(*_: Any) -> dict[str, Any]:
    """An address and a contact on hold, another opted out."""
    by = {"since": NOW, "source": "urn:example:mailer", "id": "h", "actor": None}
    bounced = {"email": "ada@example.org", "because": "soft_bounces", "subject": "contact:ada", **by}
    told = {"email": None, "because": "told", "subject": "contact:ada", **by, "actor": HOSTILE}
    return {
        "contact_id": "ada", "hold": [bounced, told], "do_not_email": [],
        "opt_out": [{**told, "subject": "contact:old-ada"}],
    }  # fmt: skip


def activities() -> list[dict[str, Any]]:
    """Thirty of the contact ada, of its own facts, a session's, a merged contact's and an address's."""
    told = (
        ("contact:ada", "mail.clicked", "Link clicked: m-7", HOSTILE),
        ("session:9f3a51", "page.viewed", "Page viewed", "urn:example:shop"),
        ("contact:old-ada", "mail.bounced", f"Mail bounced: {HOSTILE}", "urn:example:mailer"),
        ("email:0a1b", "mail.sent", "Mail sent: m-7", "urn:example:mailer"),
    )
    made = []
    for number in range(30):
        subject, event, text, source = told[number % 4]
        kind = kinds.KINDS[event]
        made.append({
            "contact_id": "ada", "time": NOW - timedelta(hours=number), "type": kind.type,
            "action": kind.action, "feature": kind.feature, "text": text, "status": str(kind.status),
            "actor": None, "event_type": event, "source": source, "event_id": f"a-{number}",
            "subject": subject, "key": uuid.UUID(int=number), "registered": 0,
        })  # fmt: skip
    return made


async def happened(self: activity.Timeline, after: Any, limit: int) -> list[dict[str, Any]]:
    chosen = [one for one in activities() if self.filters.get("action") in (None, one["action"])]
    found = [] if self.contact == "nobody" else chosen
    return [one for one in found if after is None or one["key"].int > uuid.UUID(after[1]).int][:limit]


def changes() -> list[dict[str, Any]]:
    """Sixty of a setting, a key, a merge and a parked record."""
    told = (
        ("setting.changed", "setting:zone", "UTC", "Europe/Amsterdam"),
        ("key.created", "key:0197f2aa", None, 'shop (["ingest"])'),
        ("contact.merged", "contact:old-ada", None, "contact:ada"),
        ("parked.discarded", "parked:facts/3@1042", HOSTILE, None),
    )
    made = []
    for number in range(60):
        type_, about, before, after = told[number % 4]
        at = NOW - timedelta(hours=number)
        made.append({
            "time": at, "accepted": at, "actor": "key:0197f2" if number else HOSTILE, "type": type_,
            "about": about, "before": before, "after": after, "source": "urn:heed", "id": f"c-{number:02}",
        })  # fmt: skip
    return made


async def changed(self: audit.Changes, after: Any, limit: int) -> list[dict[str, Any]]:
    names = {name: self.filters[name] for name in ("actor", "type", "about") if name in self.filters}
    found = [one for one in changes() if all(one[name] == value for name, value in names.items())]
    return [one for one in found if after is None or one["id"] > after[1]][:limit]


async def kept_keys(_: Any) -> dict[str, Any]:
    """Those of ROWS, and one that is revoked."""
    told = [
        {**MADE, "id": one["name"], "name": one["name"], "scopes": [one["scopes"]], "created_by": "cli:root"}
        for one in ROWS
    ]
    over = {**MADE, "name": HOSTILE, "revoked_at": NOW, "revoked_by": "key:administer"}
    return {"items": [over, *told], "next": None}


async def one_key(_: Any, id: str) -> dict[str, Any]:
    found = (await kept_keys(None))["items"]
    return next(one for one in found if one["id"] == id)


async def one_parked(_: Any, id: str) -> dict[str, Any]:
    """A record whose bytes are hostile text, or none at all."""
    raw = b"\x00\xff" * 20 if id == "8" else f'{{"specversion":"1.0","type":"{HOSTILE}"}}'.encode()
    text = None if id == "8" else raw.decode()
    return record(int(id), detail=HOSTILE, batch=False, bytes=base64.b64encode(raw).decode(), text=text)


def world(monkeypatch: pytest.MonkeyPatch, **chosen: Any) -> World:
    """A world whose keys are read, as the API reads them every second."""
    answer(monkeypatch)
    made = World(**chosen)
    asyncio.run(made.keys.refresh())
    return made


def flowing(made: World) -> World:
    """With a quarter of an hour of looks at the log."""
    looks: flow.Flow = made.app.state.flow
    folded = 250_000
    for number in range(181):
        folded += int(60 * (1 + math.sin(number / 9)) + 17 * (number % 5))
        at = NOW - timedelta(seconds=5 * (180 - number))
        looks.add(flow.Look(at, folded + 12, folded))
    return made
