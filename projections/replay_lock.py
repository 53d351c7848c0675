"""The lock of replays: one at a time in a database, whichever way it was asked for.

Promises: it ends with the session that holds it, whatever ends that; who is refused is told who has it.
Called by: `projections.shadow`, `projections.following`, `heed replay`.
"""

from __future__ import annotations

import time
from typing import Final

import psycopg

from schemas import errors

KEY: Final = 0x4EED_0002

HOLDER: Final = """
select a.pid, extract(epoch from clock_timestamp() - a.backend_start)::float8
from pg_locks l join pg_stat_activity a using (pid)
where l.locktype = 'advisory' and l.granted and l.classid = 0 and l.objid = %(key)s::oid
    and l.database = (select oid from pg_database where datname = current_database())
"""


def take(connection: psycopg.Connection) -> None:
    """Be the only replay of this database; raises errors.Usage when another one runs."""
    held = connection.execute("select pg_try_advisory_lock(%s)", (KEY,)).fetchone()
    if not held or not held[0]:
        found = connection.execute(HOLDER, {"key": KEY}).fetchone()
        told = "" if found is None else f" (backend {found[0]}, since {found[1]:.0f} s)"
        raise errors.Usage(f"Another replay is running on this database{told}: wait for it, or stop it.")


def end_holder(connection: psycopg.Connection, patience: float = 10.0) -> None:
    """End a replay that runs elsewhere, and wait until it is gone."""
    until = time.monotonic() + patience
    while found := connection.execute(HOLDER, {"key": KEY}).fetchall():
        for pid, _ in found:
            connection.execute("select pg_terminate_backend(%s)", (pid,))
        if time.monotonic() > until:
            return
        time.sleep(0.1)
