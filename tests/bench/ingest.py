"""HTTP: what one process of the API takes in, beside an answer with nothing behind it.

Promises: both are sent the same bodies by the same sender, sixteen requests at a time, one event a request
and a hundred; what an event costs the serving process is read from /proc. Heed answers when Kafka has
acknowledged.
Limits: sender, Kafka and the serving process share the machine. No worker runs.
Called by `tests.bench.__main__`.
"""

from __future__ import annotations

import random
import socket
import sys

import psutil

from deploy import processes
from tests import stack
from tests.bench import delay, runs, servers

HEED, BARE = "Heed", "a bare answer"
EACH = (1, 100)


def run(up: servers.Servers, repeat: int, seconds: int) -> list[runs.Figure]:
    """Both, with one event a request and with a hundred, in an order of its own."""
    up.empty_topics()
    ways = [(name, each) for name in (HEED, BARE) for each in EACH]
    random.Random(repeat).shuffle(ways)
    return [_one(up, name, each, repeat, seconds) for name, each in ways]


def _one(up: servers.Servers, name: str, each: int, repeat: int, seconds: int) -> runs.Figure:
    with stack.Launcher() as launch:
        [port] = processes.free_ports(1)
        if name == HEED:
            process = launch.api(up.bootstrap, up.dsn, port)
            process.wait_for("listening", 60)
        else:
            process = launch.run(
                [sys.executable, "-m", "tests.bench.bare", str(port)], env=runs.env(), name="bare"
            )
            process.wait_for("listening", 60)
            stack.eventually(lambda: _listens(port), "the bare answer listens")
        asked = {"way": "http", "bootstrap": up.bootstrap, "port": port, "load": 0, "each": each,
                 "seconds": seconds, "contacts": up.contacts}  # fmt: skip
        delay.send({**asked, "seconds": 1})  # connections, first imports
        began = _spent(process.pid)
        sent = delay.send(asked)
        cost = (_spent(process.pid) - began) / sent["accepted"]
    figures = {
        "rate": sent["load"], "requests": round(sent["load"] / each), "server_us": round(1e6 * cost, 1)
    }  # fmt: skip
    sys.stderr.write(f"  {repeat} ingest {name}, {each} a request: {figures}\n")
    return runs.Figure("ingest", f"{name}, {each} a request", "distinct", repeat, figures)


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def _spent(pid: int) -> float:
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    times = [one.cpu_times() for one in family]
    return float(sum(one.user + one.system for one in times))
