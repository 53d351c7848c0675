"""Room on PostgreSQL's disk: how much a replay needs, and how much there is.

Promises: what is needed is said in bytes before anything is built. What is free is looked up where
PostgreSQL's data lies, when that is this machine and may be seen; else `HEED_REPLAY_FREE_GB` says it.
Limits: the disk of the data directory; tablespaces and the write-ahead log may lie elsewhere.
Called by: `heed replay`.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

import psycopg

from projections import pairs
from schemas import errors, settings

FACT_BYTES: Final = 700  # of one fact with its indexes, its row and the write-ahead log meanwhile
SPARE: Final = 256 << 20
HERE: Final = ("127.0.0.1", "localhost", "::1")


def check(connection: psycopg.Connection, chosen: settings.Settings, records: int) -> None:
    """Raises errors.Usage, with both figures, when a replay of so many records does not fit."""
    live, begun = pairs.find(connection, pairs.LIVE), pairs.find(connection, pairs.NEXT)
    whole = max(2 * (live.size if live else 0), records * FACT_BYTES) + SPARE
    needed = max(SPARE, whole - (begun.size if begun else 0))
    free = _free(connection, chosen)
    if free is None:
        raise errors.Usage(
            f"The replay needs {needed / 1e9:.1f} GB on PostgreSQL's disk, which cannot be seen from here: "
            "say how much is free there with HEED_REPLAY_FREE_GB."
        )
    if free < needed:
        raise errors.Usage(
            f"The replay needs {needed / 1e9:.1f} GB on PostgreSQL's disk, and {free / 1e9:.1f} GB are free: "
            "make room there."
        )


def _free(connection: psycopg.Connection, chosen: settings.Settings) -> int | None:
    if chosen.replay_free_gb is not None:
        return chosen.replay_free_gb * 1_000_000_000
    place = _data(connection)
    return None if place is None else shutil.disk_usage(place).free


def _data(connection: psycopg.Connection) -> Path | None:
    """Where the server that we talk to keeps its data, if that can be seen: its backends work in there."""
    info = connection.info
    if info.host not in HERE and not info.host.startswith("/"):
        return None
    try:
        place = Path(f"/proc/{info.backend_pid}/cwd").resolve(strict=True)
        port = (place / "postmaster.pid").read_text().splitlines()[3]
    except (OSError, IndexError):
        return None
    return place if port == str(info.port) else None
