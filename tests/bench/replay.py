"""How fast rows are made anew beside the live fold: the same log, the same facts, an empty database to begin
with.

Promises: the live rate is the worker's over the whole log. `heed replay --check` is taken from its start to
its last word: facts, rows, and the comparison of every column. `heed replay` likewise: facts, indexes, rows,
statistics and the swap; `heed recompute engagement` from asking to the last row, made by one worker from the
facts in its tables. Rows that differ end the bench.
Limits: live traffic rests meanwhile.
Called by `tests.bench.__main__`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from typing import Any

from tests import stack
from tests.bench import runs, servers, traffic

DATABASE = "replay"
LIVE, CHECK, SWAPPED = "live", "heed replay --check", "heed replay"
RECOMPUTED = "heed recompute engagement"


def run(up: servers.Servers, repeat: int, facts: int) -> list[runs.Figure]:
    """The live fold of a log, then its replays."""
    dsn = up.database(DATABASE)
    up.fill_log(traffic.facts("hot", facts, 31 + repeat, servers.HOMES, facts))
    live = runs.run(up, runs.Contender("replay", LIVE, "ours", "worker"), "hot", facts, dsn=dsn)
    swapped = _heed(up, dsn, "replay")
    checked = _heed(up, dsn, "replay", "--check")
    recomputed = _recompute(up, dsn, checked["facts"])
    sys.stderr.write(
        f"  {repeat} replay live {live['rate']:,}/s, replay {swapped['rate']:,}/s {swapped['phases']}, "
        f"replay --check {checked['rate']:,}/s, recompute {recomputed['rate']:,}/s "
        f"({recomputed['contacts']} contacts in {recomputed['seconds']} s)\n"
    )
    return [
        runs.Figure("replay", LIVE, "hot", repeat, live),
        runs.Figure("replay", SWAPPED, "hot", repeat, swapped),
        runs.Figure("replay", CHECK, "hot", repeat, checked),
        runs.Figure("replay", RECOMPUTED, "hot", repeat, recomputed),
    ]


def _heed(up: servers.Servers, dsn: str, *arguments: str, facts: int = 0) -> dict[str, Any]:
    done = subprocess.run(
        [stack.HEED, *arguments, "--json"],
        env=stack.clean_env(stack.servers_env(up.bootstrap, dsn)),
        cwd=stack.ROOT, capture_output=True, text=True, timeout=1800, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise RuntimeError(f"the replay ended with {done.returncode}: {(done.stdout + done.stderr)[-2000:]}")
    found = json.loads(done.stdout)
    facts = found.setdefault("facts", facts)
    return {"rate": round(facts / found["seconds"]), **found}


def _recompute(up: servers.Servers, dsn: str, facts: int) -> dict[str, Any]:
    """Every row anew, by one worker that has nothing else to do."""
    with tempfile.TemporaryDirectory(prefix="heed-bench-") as folder, stack.Launcher() as launch:
        worker = launch.worker(up.bootstrap, dsn, HEED_HOME=folder, HEED_GROUP=f"recompute-{folder[-8:]}")
        worker.wait_for("claimed")
        return _heed(up, dsn, "recompute", "engagement", facts=facts)
