"""Segment's own Python SDK tells a real API what happens, and three workers fold it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import orjson
import pytest
import segment.analytics as sdk
from segment.analytics import request as sdk_request

from deploy.processes import free_ports
from tests import cluster as clusters
from tests import stack

HAPPENED = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)


@pytest.fixture(scope="module")
def url(cluster: clusters.Cluster) -> Iterator[str]:
    [port] = free_ports(1)
    cluster.launch.api(cluster.bootstrap, cluster.dsn, port).wait_for("listening")
    yield f"http://127.0.0.1:{port}"
    sdk_request._session.close()


def tell(url: str, calls: list[tuple[str, dict[str, Any]]], *, gzip: bool) -> list[str]:
    """Each call of the SDK by its client, sent when this returns; what the SDK said went wrong."""
    wrong: list[str] = []
    client = sdk.Client(
        "heed_any", host=url, gzip=gzip, max_retries=2, on_error=lambda error, _: wrong.append(str(error))
    )
    for name, arguments in calls:
        assert getattr(client, name)(**arguments, timestamp=HAPPENED)[0]
    client.flush()
    client.join()
    return wrong


def facts(cluster: clusters.Cluster, *subjects: str) -> list[dict[str, Any]]:
    return cluster.sql(
        "select subject, type, time from heed_data.fact where subject = any(%s) order by subject, type",
        list(subjects),
    )


@pytest.mark.capability("EVT-1", "EVT-5", "IDN-4")
def test_what_the_sdk_tells_is_folded_once(cluster: clusters.Cluster, url: str) -> None:
    mark = uuid.uuid4().hex[:8]
    ada, old, visit = f"ada-{mark}", f"old-{mark}", f"visit-{mark}"
    page = {"properties": {"url": "https://example.org/spring", "title": "Spring"}}
    traits = {"email": f"{ada}@example.org", "firstName": "Ada", "plan": "pro"}
    calls: list[tuple[str, dict[str, Any]]] = [
        ("page", {"anonymous_id": visit, **page, "message_id": f"{mark}-1"}),
        ("page", {"user_id": old, **page, "message_id": f"{mark}-2"}),
        ("page", {"user_id": ada, **page, "message_id": f"{mark}-3"}),
        ("track", {"user_id": ada, "event": "Order Completed", "message_id": f"{mark}-4"}),
        ("identify", {"user_id": ada, "anonymous_id": visit, "traits": traits, "message_id": f"{mark}-5"}),
        ("alias", {"previous_id": old, "user_id": ada, "message_id": f"{mark}-6"}),
    ]
    assert tell(url, calls, gzip=False) == []
    assert tell(url, calls, gzip=True) == [], "the same messages again, as a client that was not answered"
    subjects = [f"session:{visit}", f"contact:{old}", f"contact:{ada}"]

    def links() -> list[str]:
        found: dict[str, Any] = httpx.get(f"{url}/v1/contacts/{ada}", timeout=10).json()
        return sorted(str(one["subject"]) for one in found["links"])

    told = {f"contact:{old}", f"session:{old}", f"session:{visit}"}
    stack.eventually(lambda: told <= set(links()), "three links", clusters.patience(30))
    stack.eventually(lambda: len(facts(cluster, *subjects)) == 4, "four facts", clusters.patience(30))
    wanted = [(one, "page.viewed") for one in subjects] + [(f"contact:{ada}", "contact.identified")]
    found = facts(cluster, *subjects)
    assert [(one["subject"], one["type"]) for one in found] == sorted(wanted)
    assert {one["time"] for one in found} == {HAPPENED}
    seen = httpx.get(f"{url}/v1/contacts/{ada}/activity", timeout=10).json()["items"]
    assert len([one for one in seen if one["action"] == "Page View"]) == 3

    def waits() -> bool:
        found = cluster.sql("select reason from heed_ops.parked where event_id = %s", f"{mark}-4")
        return bool(found) and {one["reason"] for one in found} == {"undefined_event"}

    stack.eventually(waits, "the custom event is parked", clusters.patience(30))


def test_the_sdk_is_told_what_is_wrong(url: str) -> None:
    calls = [("track", {"user_id": "ada@example.org", "event": "x"})]
    [wrong] = tell(url, calls, gzip=False)
    problem = orjson.loads(wrong[wrong.index("{") : wrong.rindex("}") + 1])
    assert problem["status"] == 400
    assert "An address is none" in problem["outcomes"][0]["detail"]
    assert "ada@" not in wrong
