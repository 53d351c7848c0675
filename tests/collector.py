"""A collector of traces for tests: takes OTLP over HTTP, as the real ones do, and keeps what came.

Promises: `spans` are decoded by the standard's own protobuf; `raw` is every byte that was sent. A slow one
answers nothing until it is closed.
Called by the tests of spans.
"""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from opentelemetry.proto.collector.trace.v1 import trace_service_pb2


class Collector:
    """Listens on a free port of the loopback address."""

    def __init__(self) -> None:
        self.raw: list[bytes] = []
        self.slow = False
        self.asked = 0
        self._closing = threading.Event()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                collector.asked += 1
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if collector.slow:
                    collector._closing.wait(60)
                    return
                assert self.path == "/v1/traces", self.path
                collector.raw.append(body)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()

    def spans(self, name: str) -> list[Any]:
        """Every span of a name that has come."""
        requests = [trace_service_pb2.ExportTraceServiceRequest.FromString(body) for body in list(self.raw)]
        return [
            span
            for request in requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
            if span.name == name
        ]
