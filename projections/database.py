"""Connections to PostgreSQL, and which of its errors mean "away" (wait, claim anew) and which mean "this
data".

Promises: every connection works in UTC, bounds what it may hold up (statement, lock and idle times), and
notices a dead server by keepalives.
Limits: synchronous psycopg; lanes and the relay have threads of their own.
Called by: `streams`, `projections.shadow`, tests.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterable, Iterator
from typing import Final

import psycopg

from schemas import errors

LIVE_PATH: Final = "heed_data, heed_ops"
OPS_PATH: Final = "heed_ops"

# Classes of SQLSTATE that say something of the server, not of what it was asked to keep. 25006: after a
# failover the name may still lead to a server that only reads.
_AWAY: Final = ("08", "25006", "25P03", "53", "55P03", "57P", "57014", "58", "40001", "40P01")


def connect(
    dsn: str, path: str, name: str, *, statement_seconds: int = 15, idle_seconds: int = 10
) -> psycopg.Connection:
    """An autocommit connection with `path` as search path; 0 seconds mean no limit; raises `errors.Away`."""
    try:
        return psycopg.connect(
            dsn,
            autocommit=True,
            application_name=name,
            connect_timeout=5,
            keepalives=1,
            keepalives_idle=5,
            keepalives_interval=2,
            keepalives_count=3,
            tcp_user_timeout=10_000,
            options=(
                f"-c search_path={path.replace(' ', '')} -c timezone=UTC"
                f" -c statement_timeout={statement_seconds}s -c lock_timeout=5s"
                f" -c idle_in_transaction_session_timeout={idle_seconds}s"
            ),
        )
    except psycopg.OperationalError as error:
        raise errors.Away(f"PostgreSQL cannot be reached: {str(error).strip().splitlines()[0]}") from error


@contextlib.contextmanager
def hung_up_after(connection: psycopg.Connection, seconds: float) -> Iterator[None]:
    """Within the `with`, an answer that does not come within so many seconds is an `OperationalError`.

    For whom a way that drops everything in silence must not hold up: the server's own limits do not help.
    """
    with socket.socket(fileno=os.dup(connection.fileno())) as line:
        timer = threading.Timer(seconds, _hang_up, (line,))
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()


def _hang_up(line: socket.socket) -> None:
    with contextlib.suppress(OSError):  # its other end was quicker
        line.shutdown(socket.SHUT_RDWR)


def array(items: Iterable[object]) -> str:
    """Texts or numbers as PostgreSQL reads an array; twenty times as fast as psycopg adapts a list."""
    inside = '","'.join(texts := [str(item) for item in items])
    if "\\" in inside or inside.count('"') != 2 * max(0, len(texts) - 1):
        inside = '","'.join(text.replace("\\", "\\\\").replace('"', '\\"') for text in texts)
    return f'{{"{inside}"}}' if texts else "{}"


def is_away(error: psycopg.Error) -> bool:
    """Whether to roll back, wait and claim anew, rather than blame what was folded."""
    if error.sqlstate is None:
        return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    return error.sqlstate.startswith(_AWAY)
