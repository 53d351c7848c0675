"""The soak's short form: two minutes, every part of it on real servers; `make soak` is the long one."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deploy.processes import LOOPBACK, free_ports
from tests import stack
from tests.soak import proxy

SEED = 11
KINDS = ("freeze-before-commit", "kafka-kill", "postgres-kill", "cut-kafka", "kill-in-transaction",
         "disk-full-postgres", "clock-api", "kill-api", "reset-postgres")  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.capability("LAW-1", "LAW-2", "LAW-4")
def test_two_minutes_of_faults_leave_no_violation(tmp_path: Path) -> None:
    """In a process of its own, since it takes its mounts into a namespace of its own."""
    told = subprocess.run(
        [sys.executable, "-m", "tests.soak", "--minutes", "2", "--seed", str(SEED), "--most", "1000",
         "--out", str(tmp_path), "--only", ",".join(KINDS)],
        cwd=stack.ROOT, capture_output=True, text=True, check=False,
        env=stack.clean_env({}) | {"PYTHONPATH": str(stack.ROOT)},
    )  # fmt: skip
    assert told.returncode == 0, told.stderr[-3000:] + told.stdout
    found = json.loads((tmp_path / str(SEED) / "report.json").read_text())
    assert not any(found["violations"].values())
    inflicted = {name for name, kind in found["faults"].items() if kind["inflicted"]}
    assert len(inflicted) >= 5, "too little was broken to show anything"
    assert found["reads"]["rows"] > 1_000
    assert found["reads"]["asks"] > 100
    assert found["facts"] > 10_000


def test_a_wire_passes_holds_back_and_is_reset() -> None:
    with _echo() as port:
        [listen] = free_ports(1)
        wires = proxy.Wires({"a": (listen, port)})
        try:
            with socket.create_connection((LOOPBACK, listen), timeout=5) as client:
                client.sendall(b"one")
                assert client.recv(9) == b"one"
                wires.set("a", proxy.HOLE)
                client.sendall(b"two")
                client.settimeout(0.3)
                with pytest.raises(TimeoutError):
                    client.recv(9)
                wires.set("a", proxy.PASS)
                client.settimeout(5)
                assert client.recv(9) == b"two", "what was sent into the hole arrives when it is mended"
                wires.set("a", proxy.RESET)
                with pytest.raises(ConnectionResetError):
                    client.recv(9)
            with socket.create_connection((LOOPBACK, listen), timeout=5) as client:
                client.sendall(b"three")
                assert client.recv(9) == b"three"
        finally:
            wires.close()


@contextmanager
def _echo() -> Iterator[int]:
    """A server that answers what it is told; gives its port."""
    with socket.create_server((LOOPBACK, 0)) as server:

        def serve() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=answer, args=(client,), daemon=True).start()

        def answer(client: socket.socket) -> None:
            with client:
                try:
                    while told := client.recv(99):
                        client.sendall(told)
                except OSError:
                    return

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
    thread.join(5)


@pytest.mark.slow
def test_a_run_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    """Its servers end and its disks go, though it is killed in the middle."""
    command = [sys.executable, "-m", "tests.soak", "--minutes", "1", "--seed", "5", "--out", str(tmp_path)]
    env = stack.clean_env({}) | {"PYTHONPATH": str(stack.ROOT), "TMPDIR": str(tmp_path)}
    soak = subprocess.Popen(command, cwd=stack.ROOT, env=env, stderr=subprocess.DEVNULL)
    try:
        stack.eventually(
            lambda: bool(list(tmp_path.glob("heed-soak-*/log/worker-1.log"))), "its workers have started", 60
        )
    finally:
        soak.kill()
        soak.wait()
    stack.eventually(lambda: not _running(tmp_path), "its processes have ended", 30, 0.2)
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()
    stack.eventually(lambda: not _disks(tmp_path), "its disks have gone", 30, 0.2)


def _disks(folder: Path) -> list[str]:
    """Files in this folder that a loop device still holds."""
    found = []
    for path in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            found.append(path.read_text())
        except OSError:  # it went just now
            continue
    return [name for name in found if str(folder) in name]


def _running(folder: Path) -> list[str]:
    """Command lines of processes that were started in this folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        if f"{folder}/heed-soak-" in line and "defunct" not in line:
            found.append(line)
    return found
