"""The minute after a checkpoint: what an event costs PostgreSQL, and how long its row takes, before and
after.

Promises: a steady load by a door through one worker; in the middle a CHECKPOINT, after which each page that
is touched for the first time is written to the WAL whole. WAL and CPU an event are read from the servers,
delays from the worker's clock.
Limits: a thousand contacts; those that come once a day pay for a page image each, checkpoint or not.
Called by `tests.bench.__main__`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from typing import Any

import psycopg

from tests.bench import delay, meter, runs, servers

RATE = 1500
HOT = 1000  # contacts, far apart: all their pages are touched before the first half begins
BEFORE, AFTER = "before", "after"


def run(up: servers.Servers, repeat: int, seconds: int) -> list[runs.Figure]:
    """`seconds` of load, a checkpoint, and `seconds` of load again."""
    up.empty_topics()
    up.reset("engagement")
    spent: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="heed-bench-") as folder:
        worker = runs.spawn(up, runs.Contender("checkpoint", "ours", "ours", "delay"), "distinct", 0, folder)
        try:
            assert worker.stdout is not None
            worker.stdout.readline()  # it has claimed
            delay.send(_asked(up, max(1, seconds // 3)))
            spent.append(_half(up, seconds, checkpointed=False))
            spent.append(_half(up, seconds, checkpointed=True))
            delays = _told(worker, [RATE * max(1, seconds // 3), *(one["events"] for one in spent)])
        finally:
            worker.kill()
            worker.wait()
    found = [
        runs.Figure("checkpoint", name, "distinct", repeat, one | some)
        for name, one, some in zip((BEFORE, AFTER), spent, delays[1:], strict=True)
    ]
    for one in found:
        sys.stderr.write(f"  {repeat} checkpoint {one.name}: {one.figures}\n")
    return found


def _asked(up: servers.Servers, seconds: int) -> dict[str, Any]:
    return {"way": "door", "bootstrap": up.bootstrap, "load": RATE, "each": 1, "seconds": seconds,
            "contacts": HOT, "apart": up.contacts // HOT}  # fmt: skip


def _half(up: servers.Servers, seconds: int, *, checkpointed: bool) -> dict[str, Any]:
    with psycopg.connect(up.postgres.dsn("postgres"), autocommit=True) as connection:
        if checkpointed:
            connection.execute("checkpoint")
        began, cpu = _wal(connection), meter.spent(up.pids()[1])
        events = delay.send(_asked(up, seconds))["accepted"]
        time.sleep(1)  # the last rows
        written, busy = _wal(connection) - began, meter.spent(up.pids()[1]) - cpu
    return {"events": events, "wal_bytes": round(written / events), "postgres_us": round(1e6 * busy / events)}


def _wal(connection: psycopg.Connection) -> int:
    found = connection.execute("select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')").fetchone()
    return int(found[0]) if found else 0


def _told(worker: subprocess.Popen[str], parts: list[int]) -> list[dict[str, Any]]:
    """The delays of so many events, part by part, as the worker saw them."""
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write(" ".join(str(part) for part in parts) + "\n")
    worker.stdin.close()
    last = worker.stdout.readlines()[-1:]
    if worker.wait(60) != 0 or not last:
        raise RuntimeError(f"the worker of the checkpoint run ended with {worker.returncode}")
    found: list[dict[str, Any]] = json.loads(last[0])["parts"]
    return found
