"""Whose process asks, as the kernel tells it."""

from __future__ import annotations

import os
import pwd
import socket
import sys

import pytest

from api import callers

MINE = f"local:{pwd.getpwuid(os.getuid()).pw_name}"


@pytest.mark.capability("CEE-14")
@pytest.mark.skipif(sys.platform != "linux", reason="the table of connections is Linux's")
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_the_account_at_the_other_end(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listening:
        client = socket.create_connection(listening.getsockname()[:2])
        accepted, address = listening.accept()
        with accepted:
            assert callers.account(address[:2]) == MINE
            client.close()
            assert callers.account(address[:2]) == "local", "a socket that nobody holds is not root's"


@pytest.mark.parametrize(
    "client", [None, ("testclient", 50000), ("127.0.0.1", 1), ("::1", 1), ("", 0), ("127.0.0.1", 70_000)]
)
def test_where_the_system_does_not_say(client: tuple[str, int] | None) -> None:
    assert callers.account(client) == "local"


def test_an_account_without_a_name_is_told_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    with listening, socket.create_connection(listening.getsockname()) as client:
        monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)
        told = callers.account(client.getsockname())
    assert told == (f"local:{os.getuid()}" if sys.platform == "linux" else "local")
