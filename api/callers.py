"""Who asks without a key, on loopback: the account of this machine whose process holds the other end.

Promises: `local:<account>` as the kernel tells it, which no caller can feign; `local` where it does not tell
(no Linux, another network namespace, a connection that is closing). Never raises.
Limits: a proxy is told as the account that the proxy runs as. Reads the kernel's table of connections, some
milliseconds for thousands: for routes that change something.
Called by: `api.auth`.
"""

from __future__ import annotations

import pwd
import socket
import sys
from pathlib import Path
from typing import Final

LOCAL: Final = "local"

_TABLES: Final = {socket.AF_INET: Path("/proc/net/tcp"), socket.AF_INET6: Path("/proc/net/tcp6")}
# ESTABLISHED and CLOSE_WAIT: a socket that nobody holds any more is shown as root's.
_HELD: Final = ("01", "08")


def account(client: tuple[str, int] | None) -> str:
    """Whose process has a connection from this address and port, as an actor."""
    uid = None if client is None else _uid(*client)
    if uid is None:
        return LOCAL
    try:
        return f"{LOCAL}:{pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"{LOCAL}:{uid}"


def _uid(host: str, port: int) -> int | None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        place = _written(family, host, port)
        lines = _TABLES[family].read_text().splitlines()[1:]
    except OSError:
        return None
    for line in lines:
        _, near, _, state, _, _, _, uid, *_ = line.split()
        if near == place and state in _HELD:
            return int(uid)
    return None


def _written(family: socket.AddressFamily, host: str, port: int) -> str:
    """An address as the kernel writes it: words of four bytes as numbers of this machine."""
    packed = socket.inet_pton(family, host)
    words = [int.from_bytes(packed[at : at + 4], sys.byteorder) for at in range(0, len(packed), 4)]
    return "".join(f"{word:08X}" for word in words) + f":{port:04X}"
