"""Spans from HTTP and from a door to the fold's transaction, on a real collector; nothing personal in spans
and logs; a collector that stands still holds up nothing.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
import uuid
from pathlib import Path
from typing import Any

from deploy.processes import free_ports
from schemas import topics
from tests import cluster as clusters
from tests import collector as collectors
from tests import stack, traffic

DOOR = topics.EMAIL_ACTIVITY
MARK = "zq9-marker"


def traceparent(trace: str) -> str:
    return f"00-{trace}-b7ad6b7169203331-01"


def test_an_event_is_followed_by_its_trace_and_nothing_personal_is_told(
    servers: stack.Servers, topics: str, database: str, launch: stack.Launcher, tmp_path: Path
) -> None:
    with collectors.Collector() as collector:
        cluster = clusters.Cluster(launch, topics, database, tmp_path, HEED_OTLP_ENDPOINT=collector.url)
        cluster.start("worker-1")
        (port,) = free_ports(1)
        api = launch.api(topics, database, port, HEED_OTLP_ENDPOINT=collector.url, HEED_HOME=str(tmp_path))
        api.wait_for("listening", clusters.patience(30))
        url = f"http://127.0.0.1:{port}/v1/events"

        by_door, by_http, asked = (uuid.uuid4().hex for _ in range(3))
        told = json.loads(event("by-door")) | {"traceparent": traceparent(by_door)}
        traffic.send_all(topics, [(DOOR, json.dumps(told).encode())])
        cluster.wait_row("by-door")
        carried = json.loads(event("by-http")) | {"traceparent": traceparent(by_http)}
        stack.eventually(
            lambda: post(url, json.dumps([carried, json.loads(event("asked"))]).encode(), asked) == 202,
            "the API takes events",
            clusters.patience(30),
        )
        cluster.wait_row("asked")
        wrong(cluster, url)
        cluster.settle()

        stack.eventually(
            lambda: (
                {by_door, by_http, asked} <= linked(collector, "fold")
                and by_door in linked(collector, "intake")
            ),
            "the spans have come",
            clusters.patience(30),
        )
        requests = [one for one in collector.spans("POST /v1/events") if one.trace_id.hex() == asked]
        assert requests, "the request is a span of its caller's trace"
        ours = {one.span_id for one in requests}
        assert [one for one in collector.spans("append") if one.parent_span_id in ours]
        hidden(collector, cluster, api)

        collector.slow = True
        before = collector.asked
        for number in range(3):
            contact = f"slow-{number}"
            traffic.send_all(topics, [(DOOR, event(contact))])
            cluster.wait_row(contact, timeout=clusters.patience(5))
            stack.eventually(lambda: collector.asked > before, "spans are sent", clusters.patience(20))
        cluster.assert_alive("worker-1")
        assert cluster.workers["worker-1"].terminate(clusters.patience(20)) == 0
        cluster.close()


def event(contact: str, **more: Any) -> bytes:
    data = {"mailing_id": f"{MARK}-mailing", "url": f"https://example.org/{MARK}"}
    return traffic.click(contact, f"{MARK}-{contact}", data=data, **more)


def post(url: str, body: bytes, trace: str | None = None) -> int:
    headers = {"Content-Type": "application/json"} | ({"traceparent": traceparent(trace)} if trace else {})
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def wrong(cluster: clusters.Cluster, url: str) -> None:
    """What fails, in every way that a stranger can make it fail, with the mark in every place."""
    address = f"{MARK}@example.org"
    hostile = [
        b"{" + MARK.encode(),
        json.dumps({"specversion": MARK, "id": MARK}).encode(),
        event("x") .replace(b"contact:x", f"mail:{address}".encode()),
        event("y").replace(b"mail.clicked", MARK.encode()),
        event("z").replace(b'"url"', f'"{MARK}\\u0000": 1, "url"'.encode()),
    ]  # fmt: skip
    traffic.send_all(cluster.bootstrap, [(DOOR, one) for one in hostile])
    traffic.send_all(cluster.bootstrap, [("facts", one) for one in hostile])  # by a stranger, onto the log
    traffic.send_all(cluster.bootstrap, [("commands", one) for one in hostile])
    for body in hostile:
        post(url, body)
    for path in (f"/v1/contacts/{address}/engagement", f"/v1/{MARK}", f"/v1/events/{MARK}/trace?at={MARK}"):
        try:
            urllib.request.urlopen(url.removesuffix("/v1/events") + path, timeout=20).close()
        except urllib.error.HTTPError as error:
            error.close()


def linked(collector: collectors.Collector, name: str) -> set[str]:
    """The traces that spans of a name are linked to."""
    return {link.trace_id.hex() for span in collector.spans(name) for link in span.links}


def hidden(collector: collectors.Collector, cluster: clusters.Cluster, api: stack.Process) -> None:
    sent = b"".join(collector.raw)
    assert len(sent) > 1000
    assert MARK.encode() not in sent
    for secret in (b"by-door", b"by-http", b"contact:"):
        assert secret not in sent
    for process in (*cluster.workers.values(), api):
        assert process.lines
        assert [line for line in process.lines if MARK in line] == []
