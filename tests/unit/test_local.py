"""The local stack's parts: marks and ports, the home's keeper, the supervisor with small children."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from deploy import processes, stack
from deploy.home import Home
from deploy.supervisor import DOUBTS, Child, Stopped, Supervisor
from schemas import errors

SLEEP = "import time; time.sleep(60)"
FAITHFUL = "import sys, time; print('ready', flush=True); time.sleep(60)"


def python(code: str) -> subprocess.Popen[bytes]:
    return processes.spawn(
        [sys.executable, "-c", code],
        env=os.environ,
        cwd=Path.cwd(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def test_a_mark_finds_its_process_and_no_other() -> None:
    child = python(SLEEP)
    mark = processes.Mark.of(child.pid)
    assert processes.Mark.read(json.loads(json.dumps(mark.write()))) == mark
    found = mark.find()
    assert found is not None and found.pid == child.pid
    assert processes.Mark(mark.pid, mark.created - 60, mark.command).find() is None
    assert processes.Mark(mark.pid, mark.created, "another program").find() is None
    child.kill()
    _eventually(lambda: mark.find() is None)  # a zombie is no process of ours any more
    child.wait()
    assert mark.find() is None


def test_leftovers_are_ended_and_strangers_are_not() -> None:
    ours, frozen, stranger = python(SLEEP), python(SLEEP), python(SLEEP)
    frozen.send_signal(signal.SIGSTOP)
    marks = [processes.Mark.of(child.pid) for child in (ours, frozen)]
    reused = processes.Mark(stranger.pid, psutil.Process(stranger.pid).create_time() - 60, "heed worker")
    ended = processes.end_leftovers([(mark, signal.SIGTERM) for mark in (*marks, reused)], 5)
    assert sorted(ended) == sorted([ours.pid, frozen.pid])
    assert all(mark.find() is None for mark in marks)
    assert stranger.poll() is None
    for child in (ours, frozen, stranger):
        child.kill()
        child.wait()


def test_children_die_with_a_keeper_that_is_killed(tmp_path: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("the death signal is Linux's")
    code = (
        "import os, subprocess, sys, time; from pathlib import Path; from deploy import processes\n"
        "child = processes.spawn([sys.executable, '-c', 'import time; time.sleep(60)'], env=os.environ,"
        " cwd=Path.cwd(), stdout=None, stderr=None)\n"
        "print(child.pid, flush=True); time.sleep(60)"
    )
    keeper = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert keeper.stdout is not None
    with keeper.stdout as output:
        grandchild = psutil.Process(int(output.readline()))
    keeper.kill()
    keeper.wait()
    _eventually(lambda: not grandchild.is_running() or grandchild.status() == psutil.STATUS_ZOMBIE)


def test_free_ports_are_free_wanted_where_possible_and_never_ephemeral() -> None:
    first = processes.free_ports(5)
    assert len(set(first)) == 5
    assert processes.free_ports(3, first[:3]) == first[:3]
    with socket.create_server(("127.0.0.1", first[0])):
        second = processes.free_ports(2, first[:2])
        assert second[0] != first[0] and second[1] == first[1]
        with pytest.raises(errors.Away, match=f"^the API cannot have port {first[0]}"):
            processes.need_port(first[0], "the API", timeout=0)
    assert all(port < 32_768 for port in first)


def test_a_home_has_one_keeper(tmp_path: Path) -> None:
    home, second = Home(tmp_path / "home"), Home(tmp_path / "home")
    assert home.keeper() is None
    home.take()
    keeper = second.keeper()
    assert keeper is not None and keeper.pid == os.getpid()
    with pytest.raises(errors.Usage, match=r"^A stack runs on .* already: `heed down` stops it"):
        second.take()
    Home(tmp_path / "another").take()
    home.leave()
    second.take()


def test_files_of_a_home_are_whole_or_missing(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert home.stack() is None and home.ports() == {}
    (tmp_path / "ports.json").write_text('{"kafka": 1')
    (tmp_path / "running.json").write_text("")
    assert home.ports() == {} and home.end_leftovers() == []
    home.write_ports({"kafka": 18_001})
    assert Home(tmp_path).ports() == {"kafka": 18_001}
    home.write_stack({"url": "http://127.0.0.1:1"})
    assert (tmp_path / "stack.json").stat().st_mode & 0o777 == 0o600
    home.take()
    home.leave()
    assert home.stack() is None


class Kept:
    """A supervisor over children that the test describes, with what it said."""

    def __init__(self, path: Path) -> None:
        self.home = Home(path)
        self.home.path.mkdir(exist_ok=True)
        self.said: list[str] = []
        self.supervisor = Supervisor(self.home, self.said.append)
        self.children: list[Child] = []

    def start(self, code: str, role: str = "worker", name: str = "worker-1") -> Child:
        log = self.home.path / f"{name}.log"

        def launch() -> subprocess.Popen[bytes]:
            with processes.open_log(log) as output:
                command = [sys.executable, "-c", code]
                return processes.spawn(
                    command, env=os.environ, cwd=self.home.path, stdout=output, stderr=output
                )

        child = Child(role, name, 1234, log, launch)
        self.children.append(child)
        self.supervisor.start(child)
        return child

    def watch_until(self, check: Callable[[], bool]) -> None:
        until = time.monotonic() + 20
        while not check():
            assert time.monotonic() < until, self.said
            self.supervisor.watch(0.05)


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    made = Kept(tmp_path / "home")
    yield made
    made.supervisor.stop([("worker", "api", "kafka")], timeout=5)


def test_what_dies_is_shown_with_its_last_line_and_started_again(kept: Kept) -> None:
    child = kept.start(FAITHFUL)
    kept.supervisor.tell({"url": "http://127.0.0.1:1"})
    first = _pid(child)
    kept.watch_until(lambda: processes.last_line(child.log) == "ready")
    os.kill(first, signal.SIGKILL)
    kept.watch_until(lambda: child.process is not None and child.process.pid != first)
    assert kept.said == ["worker-1 was ended by SIGKILL, starting it again. Its last line: ready"]
    told = kept.home.stack() or {}
    assert told["url"] == "http://127.0.0.1:1"
    assert told["processes"] == [
        {"role": "worker", "pid": _pid(child), "port": 1234},
        {"role": "supervisor", "pid": os.getpid(), "port": None},
    ]


def test_what_stops_on_doubt_five_times_is_left_stopped(kept: Kept) -> None:
    doubtful = kept.start("print('why: the log was replaced'); raise SystemExit(3)")
    other = kept.start(SLEEP, name="worker-2")
    doubtful.pause = 0.01
    kept.watch_until(lambda: bool(kept.supervisor.gave_up))
    assert kept.supervisor.gave_up == ["worker-1"]
    assert len(kept.said) == DOUBTS
    assert kept.said[-1].endswith("within a minute and stays stopped: why: the log was replaced")
    kept.supervisor.watch(0.5)
    assert doubtful.process is None and other.process is not None


def test_the_pause_before_a_restart_doubles(kept: Kept) -> None:
    child = kept.start("raise SystemExit(69)")
    kept.watch_until(lambda: child.pause > 0.8)
    assert all("ended with exit code 69" in line for line in kept.said)
    assert not kept.supervisor.gave_up


@pytest.mark.parametrize("by", ["kafka", "kafka-1"])
def test_a_file_holds_a_process_back(kept: Kept, by: str) -> None:
    child = kept.start(SLEEP, role="kafka", name="kafka-1")
    hold = kept.home.path / "hold" / by
    hold.parent.mkdir()
    hold.touch()
    os.kill(_pid(child), signal.SIGKILL)
    kept.supervisor.watch(1)
    assert child.process is None
    assert len(kept.said) == 2 and kept.said[1].startswith("kafka-1 is held back")
    hold.unlink()
    kept.watch_until(lambda: child.process is not None)


def test_a_child_that_cannot_be_started_is_tried_again(kept: Kept) -> None:
    child = kept.start(SLEEP)
    launch, tries = child.launch, list[int]()

    def fail_twice() -> subprocess.Popen[bytes]:
        tries.append(1)
        if len(tries) < 3:
            raise errors.Away("the disk is full")
        return launch()

    child.launch = fail_twice
    os.kill(_pid(child), signal.SIGKILL)
    kept.watch_until(lambda: child.process is not None and len(tries) == 3)
    assert kept.said[1] == "worker-1 cannot be started: the disk is full"


def test_a_signal_is_heeded_wherever_it_waits_and_a_second_one_kills(kept: Kept) -> None:
    stubborn = kept.start(
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True);"
        "time.sleep(60)"
    )
    kept.watch_until(lambda: processes.last_line(stubborn.log) == "deaf")
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    process = stubborn.process
    assert process is not None
    try:
        kept.supervisor.listen()
        os.kill(os.getpid(), signal.SIGTERM)
        for wait in (kept.supervisor.pause, kept.supervisor.watch):
            with pytest.raises(Stopped):
                wait(60)
        assert process.poll() is None
        os.kill(os.getpid(), signal.SIGINT)
        assert process.wait(5) == -signal.SIGKILL
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.mark.parametrize(
    ("dsn", "expected"),
    [
        ("postgresql://heed@127.0.0.1:5432/heed", "postgresql://heed_dashboard@127.0.0.1:5432/heed"),
        (
            "postgresql://heed:secret@db/heed?sslmode=require",
            "postgresql://heed_dashboard@db/heed?sslmode=require",
        ),
        ("postgresql:///heed", "postgresql://heed_dashboard@/heed"),
        ("host=db user=heed password=secret dbname=heed", "host=db dbname=heed user=heed_dashboard"),
    ],
)
def test_the_dashboards_way_in_carries_no_password(dsn: str, expected: str) -> None:
    assert stack.dashboard_dsn(dsn) == expected


def test_the_last_line_that_says_something(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    assert processes.last_line(log) == ""
    log.write_bytes(b"x" * 9000 + b"\nFATAL: no\nHINT: do\n\n  \n")
    assert processes.last_line(log, besides=("HINT:",)) == "FATAL: no"
    with processes.open_log(log, keep_bytes=10) as fresh:
        assert fresh.tell() == 0
    assert (tmp_path / "a.log.1").exists()


def _pid(child: Child) -> int:
    assert child.process is not None
    return child.process.pid


def _eventually(check: Callable[[], bool], timeout: float = 10) -> None:
    until = time.monotonic() + timeout
    while not check():
        assert time.monotonic() < until
        time.sleep(0.02)
