"""An answer to a POST with nothing behind it, served as Heed's API is: `python -m tests.bench.bare PORT`.

Promises: reads the body whole, as any service must, and answers 202 with a body of the size of Heed's.
Called by `tests.bench.ingest`.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import uvicorn

Message = MutableMapping[str, Any]
ANSWER = b'{"accepted":1}'
HEADERS = [(b"content-type", b"application/json"), (b"content-length", str(len(ANSWER)).encode())]


async def app(
    scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    """The whole service."""
    assert scope["type"] == "http"
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 202, "headers": HEADERS})
    await send({"type": "http.response.body", "body": ANSWER})


if __name__ == "__main__":
    sys.stdout.write("listening\n")
    sys.stdout.flush()
    uvicorn.run(
        app, host="127.0.0.1", port=int(sys.argv[1]), access_log=False, log_config=None, lifespan="off",
        proxy_headers=False, server_header=False, loop="uvloop", http="httptools",
    )  # fmt: skip
