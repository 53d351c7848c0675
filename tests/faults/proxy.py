"""A TCP proxy that can drop connections in silence, as a stuck load balancer or firewall does.

Promises: `freeze` forwards nothing more on the connections that stand (their ends go on believing in them:
keepalives are answered here); connections made afterwards work. An end or a reset is
passed on, and leaving the context ends all.
Called by the fault tests.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Self


class Proxy:
    """Listens on a free port of the loopback address and forwards to another."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._open: list[socket.socket] = []
        self._frozen: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.close()
        for one in self._open:
            one.close()

    def freeze(self) -> int:
        """Forward nothing more on connections that stand now; answers how many."""
        self._frozen = set(self._open)
        return len(self._frozen) // 2

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                near.close()
                continue
            self._open += [near, far]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._forward, args=(source, sink), daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65_536):
                if source in self._frozen:
                    return
                sink.sendall(data)
        except OSError:
            pass  # a reset is an end too, which the other side must hear of
        if source not in self._frozen:
            with contextlib.suppress(OSError):
                sink.shutdown(socket.SHUT_WR)
