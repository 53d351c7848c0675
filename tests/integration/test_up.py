"""`heed up` and `heed down` as people and scripts use them, with a small demo."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from schemas import topics
from tests import stack, traffic

SMALL = ("--contacts", "80", "--mailings", "6")
ROLES = ["api", "kafka", "postgres", "supervisor", "worker", "worker", "worker"]


class Local:
    """One HEED_HOME and the commands on it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.seen: dict[int, psutil.Process] = {}

    def heed(self, *arguments: str, timeout: float = 150) -> subprocess.CompletedProcess[str]:
        env = stack.clean_env({"HEED_HOME": str(self.home)})
        return subprocess.run(
            [stack.HEED, *arguments], env=env, capture_output=True, text=True, timeout=timeout, check=False
        )

    def up(self, *arguments: str) -> str:
        done = self.heed("up", "--detach", *SMALL, *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        self.told()
        return done.stdout

    def told(self) -> dict[str, Any]:
        """`stack.json`; remembers every process it names."""
        told = dict(json.loads((self.home / "stack.json").read_bytes()))
        for row in told["processes"]:
            if row["pid"] not in self.seen and psutil.pid_exists(row["pid"]):
                self.seen[row["pid"]] = psutil.Process(row["pid"])
        return told

    def pids(self, role: str) -> set[int]:
        return {row["pid"] for row in self.told()["processes"] if row["role"] == role}

    def left(self) -> list[psutil.Process]:
        return [process for process in self.seen.values() if _runs(process)]

    def targets(self) -> list[tuple[str, str, str]]:
        """What Prometheus shall scrape: role, name, address."""
        read = json.loads((self.home / "prometheus" / "targets.json").read_bytes())
        return sorted((one["labels"]["role"], one["labels"]["name"], one["targets"][0]) for one in read)

    def status(self, path: str, key: str | None = None, body: bytes | None = None) -> int:
        """What the API answers."""
        head = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        return httpx.request(
            "GET" if body is None else "POST", self.told()["url"] + path, content=body, headers=head
        ).status_code

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.told()['url']}/health/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Local]:
    made = Local(tmp_path / "home")
    yield made
    made.heed("down")
    for process in made.left():
        process.kill()


def test_up_detached_restarts_what_dies_survives_its_own_death_and_goes_down(local: Local) -> None:
    shown = local.up()
    assert "The ten most engaged contacts" in shown
    story = shown.partition("What happened to c-")[2].splitlines()
    assert any("Session linked to contact: c-" in line and "session v-" in line for line in story), shown
    assert any("heed contact activity c-" in line for line in story), shown
    _has_the_shape_of_the_docs(local.told())
    _asks_for_its_key(local, shown)
    targets = local.targets()
    assert [name for _, name, _ in targets] == ["api", "worker-1", "worker-2", "worker-3"]
    assert {f"http://{address}/metrics" for _, _, address in targets} == set(local.told()["metrics"])
    assert f"HEED_HOME={local.home} make watch" in shown
    assert local.is_ready()

    second = local.heed("up", "--detach")
    assert second.returncode == 2
    assert "already: `heed down` stops it, another HEED_HOME starts one beside it." in second.stdout

    worker = local.pids("worker").pop()
    os.kill(worker, signal.SIGKILL)
    stack.eventually(lambda: len(local.pids("worker") - {worker}) == 3, "the worker is back")
    assert "was ended by SIGKILL, starting it again" in (local.home / "up.log").read_text()

    assert local.targets() == targets, "also while one was away"

    _hold_kafka(local)

    before = local.told()
    os.kill(local.pids("supervisor").pop(), signal.SIGKILL)
    stack.eventually(lambda: not local.left(), "the children ended with their supervisor", timeout=40)
    again = local.up()
    assert "The ten most engaged contacts" in again
    assert {name: local.told()[name] for name in before if name != "processes"} == {
        name: before[name] for name in before if name != "processes"
    }
    assert local.is_ready()

    down = local.heed("down")
    assert (down.returncode, down.stdout) == (0, f"The stack of {local.home} is stopped.\n")
    assert not local.left()
    assert not (local.home / "stack.json").exists()
    assert local.targets() == []
    assert local.heed("down").stdout == f"No stack was running on {local.home}.\n"


def _has_the_shape_of_the_docs(told: Mapping[str, Any]) -> None:
    assert list(told) == [
        *("url", "key", "dsn", "dashboard_dsn", "bootstrap", "group", "metrics", "processes"),
    ]
    assert sorted(row["role"] for row in told["processes"]) == ROLES
    assert all(list(row) == ["role", "pid", "port"] for row in told["processes"])
    assert told["group"] == "heed"
    for url in told["metrics"]:
        with urllib.request.urlopen(url, timeout=5) as answer:
            assert b"heed_build_info" in answer.read()


def _asks_for_its_key(local: Local, shown: str) -> None:
    """It is printed, needed, and does what the docs say; no file that holds it is for others to read."""
    key = local.told()["key"]
    assert f"key        {key}\n" in shown
    assert f"console    {local.told()['url']}/console\n" in shown
    for path in ("/v1/settings/zone", "/v1/contacts/ada/engagement"):
        stack.eventually(lambda path=path: local.status(path) == 401, f"{path} asks for a key")  # type: ignore[misc]
        assert local.status(path, key) == 200
    assert local.status("/v1/events", key, traffic.click("ada")) == 202
    holding = {path.name for path in local.home.rglob("*") if path.is_file() and key.encode() in _read(path)}
    assert holding == {"key.json", "stack.json", "up.log"}, "and neither Kafka's nor PostgreSQL's files"
    assert {(local.home / name).stat().st_mode & 0o777 for name in holding} == {0o600}


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # a server's file that has gone since
        return b""


def _hold_kafka(local: Local) -> None:
    """Kafka stays away as long as the test wants, and the stack goes on when it comes back."""
    hold = local.home / "hold" / "kafka"
    hold.parent.mkdir()
    hold.touch()
    os.kill(local.pids("kafka").pop(), signal.SIGKILL)
    stack.eventually(lambda: not local.pids("kafka"), "Kafka is gone")
    stack.eventually(lambda: "kafka is held back" in (local.home / "up.log").read_text(), "it is told")
    stack.eventually(lambda: not local.is_ready(), "the API says that it is not ready")
    hold.unlink()
    stack.eventually(lambda: bool(local.pids("kafka")), "Kafka is started")
    stack.eventually(local.is_ready, "the API is ready again", timeout=60)


@pytest.mark.slow
def test_an_interrupted_demo_goes_on_and_leaves_nothing(local: Local, launch: stack.Launcher) -> None:
    env = {"HEED_HOME": str(local.home)}
    arguments = ("up", "--exit-after-demo", "--contacts", "2000", "--mailings", "80")
    first = launch.heed(*arguments, env=env, name="first up")
    first.wait_for("are ready after", timeout=120)
    stack.eventually((local.home / "demo.json").exists, "the demo began")
    local.told()
    first.kill()
    second = launch.heed(*arguments, env=env, name="second up")
    second.wait_for("are ready after", timeout=120)
    local.told()
    assert second.exit(timeout=200) == 0
    assert any("The ten most engaged contacts" in line for line in second.lines)
    assert any("conflicts" in line for line in second.lines)
    assert not local.left()


@pytest.mark.slow
def test_two_stacks_run_side_by_side_and_each_goes_down_alone(local: Local, tmp_path: Path) -> None:
    other = Local(tmp_path / "other")
    try:
        local.up("--no-demo")
        other.up("--no-demo")
        assert local.told()["bootstrap"] != other.told()["bootstrap"]
        assert local.is_ready() and other.is_ready()
        other.heed("down")
        assert not other.left()
        assert local.is_ready()
    finally:
        other.heed("down")


def test_servers_of_yours_are_used_and_left_alone(
    servers: stack.Servers, local: Local, launch: stack.Launcher
) -> None:
    dsn = servers.make_empty_database()
    stack.recreate_topics(servers.bootstrap, topics.all_topics(stack.HOMES))
    env = {"HEED_HOME": str(local.home), **stack.servers_env(servers.bootstrap, dsn)}
    up = launch.heed("up", "--no-demo", env=env)
    up.wait_for("Ctrl-C or `heed down` stops it", timeout=120)
    told = local.told()
    assert (told["bootstrap"], told["dsn"], told["key"]) == (servers.bootstrap, dsn, None)
    assert local.status("/v1/contacts/ada/engagement") == 200, "no key was made behind anybody's back"
    assert not (local.home / "key.json").exists()
    assert {row["role"] for row in told["processes"]} == {"worker", "api", "supervisor"}
    assert up.terminate() == 0
    assert not local.left()
    assert servers.kafka.answers()


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
