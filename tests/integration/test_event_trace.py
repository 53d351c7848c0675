"""`heed trace`, `GET /v1/events/{id}/trace`, `heed contact` beside real workers: every fate of an event."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from deploy.processes import free_ports
from schemas import topics
from tests import cluster as clusters
from tests import stack, traffic

SECRET = "https://example.org/secret-" + "q" * 8
DOOR = topics.EMAIL_ACTIVITY


def heed(cluster: clusters.Cluster, *arguments: str) -> tuple[int, dict[str, Any]]:
    done = subprocess.run(
        [stack.HEED, *arguments, "--json"],
        env=stack.clean_env(stack.servers_env(cluster.bootstrap, cluster.dsn) | cluster.env),
        capture_output=True, text=True, timeout=clusters.patience(60), check=False,
    )  # fmt: skip
    assert SECRET not in done.stdout + done.stderr
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)


def click(contact: str, id: str, **more: Any) -> bytes:
    return traffic.click(contact, id, data={"mailing_id": "m", "url": SECRET}, **more)


def test_every_fate_of_an_event_is_told(cluster: clusters.Cluster, launch: stack.Launcher) -> None:
    contact, mark = f"traced-{uuid.uuid4().hex[:6]}", uuid.uuid4().hex[:8]
    now = datetime.now(UTC)
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    told = json.loads(click(contact, f"told-{mark}", time=now)) | {"traceparent": traceparent}
    other = click(contact, f"told-{mark}", time=now + timedelta(seconds=1))
    ahead = click(contact, f"ahead-{mark}", time=now + timedelta(hours=1))
    sent = [json.dumps(told).encode(), other, json.dumps(told).encode(), ahead]
    traffic.send_all(cluster.bootstrap, [(DOOR, one) for one in sent])
    cluster.wait_row(contact)
    cluster.settle()

    code, found = heed(cluster, "trace", f"told-{mark}")
    assert (code, found["found"]) == (0, True)
    fates = [one["station"] for one in found["stations"]]
    assert sorted(fates) == sorted(["door"] * 3 + ["log"] * 3 + ["folded", "duplicate", "conflict"]), found
    (folded,) = [one for one in found["stations"] if one["station"] == "folded"]
    (row,) = cluster.sql("select part, off from heed_data.fact where id = %s", f"told-{mark}")
    assert (folded["partition"], folded["offset"]) == (row["part"], row["off"])
    assert (folded["subject"], folded["traceparent"]) == (f"contact:{contact}", traceparent)
    moments = [one["at"] for one in found["stations"]]
    assert moments == sorted(moments)

    code, found = heed(cluster, "trace", f"ahead-{mark}")
    assert [one["station"] for one in found["stations"]] == ["door", "parked"]
    assert found["stations"][1]["reason"] == "future"
    code, found = heed(cluster, "trace", f"never-{mark}")
    assert (code, found["stations"]) == (1, [])
    assert len(found["searched"]) == 3
    _by_http(cluster, launch, contact, mark)
    _of_the_contact(cluster, contact, mark)


def _by_http(cluster: clusters.Cluster, launch: stack.Launcher, contact: str, mark: str) -> None:
    (port,) = free_ports(1)
    api = launch.api(cluster.bootstrap, cluster.dsn, port, HEED_HOME=str(cluster.home))
    api.wait_for("listening", clusters.patience(30))
    url = f"http://127.0.0.1:{port}/v1/events"
    id = f"by http/ {mark}//"
    body = click(contact, id)
    asked = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    stack.eventually(lambda: _status(asked) == 202, "the API takes the event", clusters.patience(30))
    cluster.settle()
    where = f"{url}/{urllib.parse.quote(id, safe='')}/trace"

    def ask(query: str = "") -> dict[str, Any]:
        with urllib.request.urlopen(where + query, timeout=30) as answer:
            text = answer.read().decode()
        assert SECRET not in text
        found: dict[str, Any] = json.loads(text)
        return found

    found = ask()
    assert [one["station"] for one in found["stations"]] == ["http", "log", "folded"], found
    assert ask("?source=urn:nobody")["stations"] == []
    assert ask(f"?at={found['stations'][0]['at']}")["stations"] == found["stations"]
    with pytest.raises(urllib.error.HTTPError) as refused:
        ask("?at=yesterday")
    assert refused.value.code == 400
    refused.value.close()


def _status(asked: urllib.request.Request) -> int:
    try:
        with urllib.request.urlopen(asked, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def _of_the_contact(cluster: clusters.Cluster, contact: str, mark: str) -> None:
    code, found = heed(cluster, "contact", contact)
    assert code == 0
    home = topics.home(f"contact:{contact}", stack.HOMES)
    assert (found["home"], found["row"]["frequency"]) == (home, 1)
    assert found["owner"]["live"]
    assert found["owner"]["owner"] in clusters.THREE
    ids = [one["id"] for one in found["facts"]["items"]]
    assert sorted(ids) == sorted([f"told-{mark}", f"by http/ {mark}//"])
    assert [one["event_id"] for one in found["parked"]] == [f"ahead-{mark}"]
    code, first = heed(cluster, "contact", contact, "--limit", "1")
    code, second = heed(cluster, "contact", contact, "--limit", "1", "--after", first["facts"]["next"])
    assert [one["id"] for page in (first, second) for one in page["facts"]["items"]] == ids
    assert second["facts"]["next"] is None


def test_what_waits_at_a_door_is_seen_there(cluster: clusters.Cluster) -> None:
    """The workers stand still: what is sent meanwhile waits at its door, and says so."""
    mark = uuid.uuid4().hex[:8]
    for worker in cluster.workers.values():
        worker.freeze()
    try:
        traffic.send_all(cluster.bootstrap, [(DOOR, click("waits", f"waits-{mark}"))])
        began = time.monotonic()
        _, found = heed(cluster, "trace", f"waits-{mark}")
        took = time.monotonic() - began
    finally:
        for worker in cluster.workers.values():
            worker.thaw()
    assert [one["station"] for one in found["stations"]] == ["door", "waiting"]
    assert took < clusters.patience(8)  # well within a session: no worker has lost its homes
    cluster.wait_row("waits")
