"""Every error of every route has the one shape, opens in the docs, and repeats nothing that was sent."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from litestar import Litestar
from litestar.testing import TestClient

from api import app, bodies, engagement, openapi, problems, routing
from api.console import pages
from schemas import errors, settings
from tests import keyring

WORD = "tattle-9f3"  # whatever is sent carries it; nothing that is answered may
DOCS = Path(__file__).parents[2] / "docs" / "errors.md"
JSON = {"content-type": "application/json"}


class Raising:
    """Stands for each part behind the routes; whatever is asked of it raises."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def take(self, _: object) -> None:
        raise self.error

    async def put(self, *_: object) -> None:
        raise self.error

    async def rows(self, _: object, **__: object) -> None:
        raise self.error

    async def work(self, _: object, __: object) -> None:
        raise self.error

    async def bounded(self, _: object, **__: object) -> None:
        raise self.error

    async def append(self, _: object) -> None:
        raise self.error

    def judge(self, *_: object) -> str:
        return "nobody"

    def check_standing(self, _: str) -> None: ...

    async def missing(self) -> list[str]:
        raise self.error

    async def find(self, *_: object) -> None:
        raise self.error

    async def redrive(self, _: bytes) -> None:
        raise self.error

    async def discard(self, _: bytes, __: str) -> None:
        raise self.error


class Silent:
    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    async def append(self, records: object, timeout: float = 0) -> None: ...


class Open:
    """Keys that let everybody in: no database says here whether there are any."""

    def judge(self, *_: object) -> str:
        return "nobody"

    def check_standing(self, _: str) -> None: ...


@pytest.fixture(scope="module")
def application() -> Litestar:
    chosen = settings.Settings(kafka="127.0.0.1:1", postgres="postgresql://nobody@127.0.0.1:1/none")
    made = app.create_app(chosen, Silent(), keyring.held())
    object.__setattr__(made.state.parts, "keys", Open())
    return made


@pytest.fixture(scope="module")
def client(application: Litestar) -> Iterator[TestClient[Litestar]]:
    with TestClient(application, raise_server_exceptions=False) as client:
        yield client


def check(response: Any, kind: problems.Kind) -> dict[str, Any]:
    assert response.status_code == kind.status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    answer: dict[str, Any] = response.json()
    assert list(answer)[:4] == ["type", "title", "status", "detail"]
    assert set(answer) <= {"type", "title", "status", "detail", "outcomes", "refreshed"}
    assert answer["type"] == kind.uri
    assert (answer["title"], answer["status"]) == (kind.title, kind.status)
    assert isinstance(answer["detail"], str)
    assert answer["detail"].endswith(".")
    assert WORD not in response.text
    assert "Traceback" not in response.text
    assert ("retry-after" in response.headers) == (kind.status in (429, 503))
    return answer


def address(path: str) -> str:
    return path.replace("/parked/{id}", "/parked/1").replace("{id}", WORD).replace("{name}", "zone")


def everywhere() -> list[tuple[str, str]]:
    return [
        (method.upper(), path)
        for path, operations in openapi.document()["paths"].items()
        for method in operations
    ]


@pytest.mark.parametrize(("method", "path"), everywhere())
def test_a_wrong_method(client: TestClient[Litestar], method: str, path: str) -> None:
    taken = {one for one, where in everywhere() if where == path}
    assert method in taken
    for wrong in {"GET", "POST", "PUT", "DELETE", "PATCH"} - taken:
        response = client.request(wrong, address(path), content=WORD, headers={"x": WORD})
        check(response, problems.METHOD)
        assert method in response.headers["allow"]


@pytest.mark.parametrize(("method", "path"), [one for one in everywhere() if one[1].startswith("/v1/")])
def test_a_parameter_that_the_route_does_not_take(
    client: TestClient[Litestar], method: str, path: str
) -> None:
    queries = (f"{WORD}=1", f"as_of={WORD}", f"reason={WORD}&reason=x", f"limit={WORD}", f"after={WORD}")
    for query in (*queries, "reason=null", "after=NULL", "limit=null"):
        check(client.request(method, f"{address(path)}?{query}"), problems.WRONG_PARAMETER)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RuntimeError(WORD), problems.INTERNAL),
        (KeyError(WORD), problems.INTERNAL),
        (errors.Doubt(WORD), problems.INTERNAL),
        (errors.Away(WORD), problems.DATABASE_AWAY),
    ],
)
@pytest.mark.parametrize(("method", "path"), [one for one in everywhere() if one[1].startswith("/v1/")])
def test_a_mistake_or_a_server_away_behind_the_route(
    client: TestClient[Litestar],
    application: Litestar,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    path: str,
    error: Exception,
    kind: problems.Kind,
) -> None:
    part: Any = Raising(error)
    parts = routing.Parts(part, part, part, part, part, 8, part, part, keyring.held())
    monkeypatch.setattr(application.state, "parts", parts, raising=False)
    bodies: dict[str, Any] = {
        "/v1/track": {"userId": "ada", "event": "it"},
        "/v1/page": {"userId": "ada", "properties": {"url": "it"}},
        "/v1/identify": {"userId": "ada", "anonymousId": "s1"},
        "/v1/alias": {"userId": "ada", "previousId": "s1"},
        "/v1/batch": {"batch": []},
        "/v1/settings/{name}": {"value": "UTC"},
        "/v1/keys": {"name": "it", "scopes": ["access"]},
        "/v1/contacts/{id}/consent": {"level": "refused"},
        "/v1/contacts/{id}/erase": {"why": "asked"},
        "/v1/contacts/{id}/hold": {"kind": "opt_out", "on": True},
        "/v1/contacts/{id}/merge": {"into": "ada"},
        "/v1/contacts/{id}/unmerge": {"into": "ada"},
        "/v1/sessions/{id}/link": {"contact_id": "ada"},
        "/v1/sessions/{id}/unlink": {"contact_id": "ada"},
    }
    body = bodies.get(path) if method != "GET" else None
    check(client.request(method, address(path), json=body), kind)


@pytest.mark.parametrize(
    "path", ["/", f"/{WORD}", f"/v1/{WORD}", f"/v1//{WORD}", "/v1//events", f"/docs/{WORD}"]
)
def test_an_unknown_address(client: TestClient[Litestar], path: str) -> None:
    check(client.get(path), problems.NO_ROUTE)
    check(client.post(path, content=WORD), problems.NO_ROUTE)


def test_an_id_that_was_left_out_is_not_the_next_word(client: TestClient[Litestar]) -> None:
    check(client.get("/v1/contacts//engagement"), problems.NO_CONTACT_ID)
    check(client.delete("/v1/contacts//engagement"), problems.METHOD)
    check(client.delete("/v1/contacts//"), problems.NO_CONTACT_ID)
    check(client.post("/v1/sessions//start"), problems.NO_SESSION_ID)


@pytest.mark.capability("CEE-6")
@pytest.mark.parametrize(
    "id", [f"{WORD}@example.org", "x" * 65, "a%20b", "%C3%A4", f"contact:{WORD}", "a%0A"]
)
def test_an_ill_formed_contact_id(client: TestClient[Litestar], id: str) -> None:
    check(client.get(f"/v1/contacts/{id}/engagement"), problems.NO_CONTACT_ID)
    check(client.post(f"/v1/contacts/{id}/engagement/calculate"), problems.NO_CONTACT_ID)


@pytest.mark.parametrize(
    ("body", "headers", "kind"),
    [
        (b"x" * (bodies.MAX_BYTES + 1), JSON, problems.TOO_LARGE),
        (WORD, {"content-type": WORD}, problems.MEDIA),
        (WORD, {"content-type": "text/plain"}, problems.MEDIA),
        (WORD, {}, problems.MEDIA),
        (WORD, {**JSON, "content-encoding": WORD}, problems.MEDIA),
        (WORD, {**JSON, "content-encoding": "gzip"}, problems.UNREADABLE_BODY),
        ("{}", {**JSON, "idempotency-key": WORD * 99}, problems.WRONG_PARAMETER),
        ("{}", {**JSON, "idempotency-key": ""}, problems.WRONG_PARAMETER),
        (WORD, JSON, problems.NOTHING_TAKEN),
        (f'["{WORD}"]', JSON, problems.NOTHING_TAKEN),
        (f'[{{"{WORD}":1', JSON, problems.NOTHING_TAKEN),
        (f'{{"specversion":"{WORD}"}}', JSON, problems.NOTHING_TAKEN),
        ("", JSON, problems.NOTHING_TAKEN),
        (WORD, {"host": f"{WORD}/\\"}, problems.BAD_REQUEST),
    ],
)
def test_what_can_be_wrong_with_events(
    client: TestClient[Litestar], body: Any, headers: dict[str, str], kind: problems.Kind
) -> None:
    answer = check(client.post("/v1/events", content=body, headers=headers), kind)
    assert ("outcomes" in answer) == (kind is problems.NOTHING_TAKEN)


def test_not_ready_names_what_is_missing(client: TestClient[Litestar]) -> None:
    answer = check(client.get("/health/ready"), problems.NOT_READY)
    assert "Kafka" in answer["detail"]
    assert "PostgreSQL" in answer["detail"]
    assert client.get("/health/live").json() == {"status": "live"}


@pytest.mark.parametrize("slash", ["%2F", "%2f", "%252F/", "/"])
def test_a_slash_in_a_segment_belongs_to_it_and_one_between_segments_parts_them(
    client: TestClient[Litestar], slash: str
) -> None:
    """The stand-in for a trace raises, so 503 says that the route was reached; ids of contacts hold none."""
    reached = "/" not in slash
    assert (client.get(f"/v1/events/a{slash}b/trace").status_code == 404) is not reached
    answer = client.get(f"/v1/contacts/a{slash}b/engagement")
    check(answer, problems.NO_CONTACT_ID if reached else problems.NO_ROUTE)


def test_every_kind_has_its_heading_in_the_docs() -> None:
    headings = re.findall(r"^## (.+)$", DOCS.read_text(), re.MULTILINE)
    assert headings == [kind.name for kind in problems.KINDS]
    assert {f"{problems.PAGE}#{heading}" for heading in headings} == {kind.uri for kind in problems.KINDS}


def test_the_docs_are_what_the_table_says(client: TestClient[Litestar]) -> None:
    assert DOCS.read_text() == problems.page(), "run: python -m api.problems > docs/errors.md"
    response = client.get(problems.PAGE)
    assert response.text == problems.page()
    assert response.headers["content-type"] == "text/markdown; charset=utf-8"


def test_every_route_is_described_and_every_description_is_a_route(application: Litestar) -> None:
    served = {
        (method, route.path_format)
        for route in application.routes
        for method in getattr(route, "methods", ())
        if method != "OPTIONS" and not pages.ours(route.path_format)  # tests/unit/test_console.py
    }
    assert served == set(everywhere())


def test_the_description_is_whole(client: TestClient[Litestar]) -> None:
    response = client.get("/openapi.json")
    document = response.json()
    assert response.headers["content-type"] == "application/json"
    known = document["components"]["schemas"]
    for reference in re.findall(r'"#/components/schemas/([^"]+)"', response.text):
        assert reference in known
    mapping = known["Event"]["discriminator"]["mapping"]
    assert set(mapping) == {one["$ref"].rpartition("/")[2] for one in known["Event"]["oneOf"]}
    assert known["Engagement"]["required"] == list(engagement.ROW)


def test_the_contract_of_the_topics_is_served_as_it_is_committed(client: TestClient[Litestar]) -> None:
    response = client.get("/asyncapi.json")
    assert response.headers["content-type"] == "application/json"
    assert response.json() == json.loads((DOCS.parent / "asyncapi.json").read_text())


def test_metrics_name_routes_by_their_templates(client: TestClient[Litestar]) -> None:
    client.get(f"/v1/contacts/{WORD}@x/engagement")
    client.get(f"/{WORD}")
    client.request(WORD.upper(), f"/{WORD}")
    text = client.get("/metrics").text
    assert WORD not in text
    assert WORD.upper() not in text
    assert (
        'heed_http_request_seconds_count{method="GET",route="/v1/contacts/{id}/engagement",status="404"}'
        in text
    )
    assert 'heed_http_request_seconds_count{method="other",route="none",status="404"}' in text


def test_without_servers_named_it_says_which_setting_is_missing() -> None:
    with pytest.raises(errors.Usage, match="HEED_KAFKA"):
        app.create_app(settings.Settings())


def test_answers_leave_at_once() -> None:
    """asyncio sets TCP_NODELAY only on sockets that name their protocol; without it answers wait 40 ms."""
    with app.listen("127.0.0.1", 0) as listening:
        assert listening.proto == socket.IPPROTO_TCP
