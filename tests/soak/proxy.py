"""Wires that can be cut: a TCP proxy in a process of its own, `python -m tests.soak.proxy`.

Promises: each link listens on a port and leads to another; told on stdin `{"link", "mode", "seconds"}`, a
link *passes*, is a *hole* (nothing gets through, nothing is closed; what was sent is held, as TCP sends
again), *delays* each piece by `seconds`, or *resets* all that is open and then passes. Ends with its stdin.
Limits: a connection that is dialled while its link is a hole is accepted and leads nowhere until the hole is
mended; keepalives are answered by this machine's kernel, so a hole is noticed by silence alone.
Called by: `tests.soak.rig`.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping
from typing import IO, cast

from tests import stack

PASS, HOLE, DELAY, RESET = "pass", "hole", "delay", "reset"
LOOPBACK = "127.0.0.1"
PIECE = 1 << 16


class Link:
    """One wire: what comes to a port goes to another, as the mode allows."""

    def __init__(self, listen: int, target: int) -> None:
        self.listen, self.target = listen, target
        self.seconds = 0.0
        self._open = asyncio.Event()
        self._open.set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def serve(self) -> asyncio.Server:
        return await asyncio.start_server(self._join, LOOPBACK, self.listen)

    def set(self, mode: str, seconds: float) -> None:
        """Change how this link carries, from now on."""
        self.seconds = seconds if mode == DELAY else 0.0
        if mode == HOLE:
            self._open.clear()
            return
        if mode == RESET:
            for writer in list(self._writers):
                _reset(writer)
        self._open.set()

    async def _join(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        self._writers.add(back)
        on = None
        try:
            await self._open.wait()
            far, on = await asyncio.open_connection(LOOPBACK, self.target)
            self._writers.add(on)
            await asyncio.gather(self._carry(near, on), self._carry(far, back))
        except (OSError, asyncio.CancelledError):
            _reset(back)
        finally:
            for writer in (back, on):
                if writer is not None:
                    self._writers.discard(writer)
                    writer.close()

    async def _carry(self, from_: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
        """All of one direction; its end is passed on like its bytes."""
        try:
            while True:
                piece = await from_.read(PIECE)
                await self._open.wait()
                if self.seconds:
                    await asyncio.sleep(self.seconds)
                if not piece:
                    break
                to.write(piece)
                await to.drain()
        finally:
            to.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST instead of FIN."""
    found = cast("socket.socket | None", writer.get_extra_info("socket"))
    if found is not None and found.fileno() >= 0:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Wires:
    """The proxy's process, as the rig holds it: links by name, each from a port to a port."""

    def __init__(self, links: Mapping[str, tuple[int, int]]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.soak.proxy", json.dumps(dict(links))],
            cwd=stack.ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=stack.clean_env({}) | {"PYTHONPATH": str(stack.ROOT)}, start_new_session=True,
        )  # fmt: skip
        assert _pipe(self.process.stdout).readline() == "up\n", "the proxy does not start"

    def set(self, link: str, mode: str, seconds: float = 0.0) -> None:
        """Change a link; returns once it is so."""
        pipe = _pipe(self.process.stdin)
        pipe.write(json.dumps({"link": link, "mode": mode, "seconds": seconds}) + "\n")
        pipe.flush()
        assert _pipe(self.process.stdout).readline() == "done\n", "the proxy has ended"

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            _pipe(pipe).close()


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


async def main(links: Mapping[str, tuple[int, int]]) -> None:
    """Serve all links until stdin ends."""
    made = {name: Link(*ports) for name, ports in links.items()}
    servers = [await link.serve() for link in made.values()]
    sys.stdout.write("up\n")
    sys.stdout.flush()
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        told = json.loads(line)
        made[told["link"]].set(told["mode"], told["seconds"])
        sys.stdout.write("done\n")
        sys.stdout.flush()
    for server in servers:
        server.close()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
