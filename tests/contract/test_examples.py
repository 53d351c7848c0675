"""The examples for producers run as they stand, and what they send is admitted.

HTTP goes to a stand-in that keeps what it is sent; Kafka to a real broker (tests/integration).
"""

from __future__ import annotations

import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import ClassVar

import pytest

from schemas import admission, completion
from tests import keyring

EXAMPLES = Path(__file__).parent.parent.parent / "examples"


class Kept(http.server.BaseHTTPRequestHandler):
    """Answers 202 to everything and keeps it."""

    requests: ClassVar[list[tuple[str, str, str, bytes]]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        asks = self.headers["Authorization"]
        self.requests.append((self.path, asks, self.headers["Content-Type"], body))
        answer = b'{"outcomes": [{"id": "1", "status": "accepted"}]}'
        self.send_response(202)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    Kept.requests.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Kept) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("command", [[sys.executable, "produce_http.py"], ["sh", "produce_curl.sh", "k1"]])
def test_the_examples_for_http(url: str, command: list[str]) -> None:
    done = subprocess.run(
        command,
        cwd=EXAMPLES,
        env={"PATH": os.environ["PATH"], "HEED_URL": url, "HEED_KEY": "heed_mine"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert '"status": "accepted"' in done.stdout
    ((path, asks, kind, body),) = Kept.requests
    assert (path, asks, kind) == ("/v1/events", "Bearer heed_mine", "application/cloudevents+json")
    outcome = admission.admit(
        body,
        at=datetime.now(UTC),
        door=None,
        homes=8,
        ahead=timedelta(0),
        secret=keyring.SECRET,
        fill=completion.Fill("k1", 0),
    )
    assert isinstance(outcome, admission.Admitted), outcome
    assert outcome.subject == "contact:ada"
