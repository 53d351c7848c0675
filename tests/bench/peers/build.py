"""Other stream processors beside Heed: what they need is built here, and how one is started.

Promises: `ready` builds what is missing, once, into the cache folder (HEED_CACHE): an environment of Python
packages for Quix, as its pins are not ours, and the classes of the Kafka Streams application; a peer that
cannot be built on this machine is left out with its reason, never silently. What a peer is built from names
its folder, so a changed source is built anew.
Limits: the first build fetches from a package index and a Maven repository, with the settings of pip and mvn.
Called by `tests.bench.runs`, `tests.bench.__main__` and the tests of the bench.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

from deploy import kafka
from schemas import topics
from tests.bench import sinks

HERE = Path(__file__).parent
SECONDS = 600
HEAP = "-Xmx1g"


class Missing(Exception):
    """A peer cannot be built here; says why."""


@cache
def ready(kind: str) -> str:
    """An empty text when this kind of contender can run, else why it cannot."""
    try:
        _BUILDS[kind]()
    except Missing as missing:
        return str(missing)
    return ""


def command(spec: dict[str, Any]) -> tuple[list[str], dict[str, str]]:
    """How a peer is started, and what is added to its environment."""
    if spec["kind"] == "quix":
        return [str(_quix()), "-m", "tests.bench.peers.quix", json.dumps(spec)], {}
    classes = _streams()
    path = os.pathsep.join((str(classes / "classes"), str(classes / "dependency" / "*")))
    java = [str(kafka.find_java()), HEAP, "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", path]
    return [*java, "heed.bench.Peer"], {f"BENCH_{name}": value for name, value in _told(spec).items()}


def _told(spec: dict[str, Any]) -> dict[str, str]:
    return {
        "COUNT": str(spec["count"]),
        "FOLDER": spec["folder"],
        "JDBC": _jdbc(spec["dsn"]),
        "KAFKA": spec["kafka"],
        "KAFKA_PID": str(spec["pids"][0]),
        "POSTGRES_PID": str(spec["pids"][1]),
        "STAGE": sinks.COUNTER_STAGE,
        "TOPIC": topics.FACTS,
        "UPSERT": sinks.COUNTER_UPSERT,
        "WARM": str(spec["warm"]),
    }


def _jdbc(dsn: str) -> str:
    user, place = dsn.removeprefix("postgresql://").split("@")
    options = "-c%20timezone=UTC%20-c%20plan_cache_mode=force_custom_plan"
    return f"jdbc:postgresql://{place}?user={user}&options={options}"


def _quix() -> Path:
    """The Python of Quix's environment."""
    pinned = HERE / "quix.txt"

    def build(folder: Path) -> None:
        _run([sys.executable, "-m", "venv", folder], "Python's venv")
        pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--require-hashes", "--no-deps"]
        _run([*pip, "-r", pinned], "pip")

    return _built("quix", [pinned], build) / "bin" / "python"


def _streams() -> Path:
    """The folder with the classes of the Kafka Streams application and its jars."""
    source = HERE / "kafka_streams"

    def build(folder: Path) -> None:
        maven = shutil.which("mvn")
        if maven is None:
            raise Missing("there is no Maven (mvn) on this machine")
        shutil.copytree(source, folder, dirs_exist_ok=True)
        goals = ("compile", "dependency:copy-dependencies")
        _run([maven, "-q", "-B", "-f", folder / "pom.xml", *goals], "Maven")

    files = sorted(path for path in source.rglob("*") if path.suffix in (".java", ".xml"))
    return _built("kafka-streams", files, build) / "target"


def _built(name: str, sources: Iterable[Path], build: Callable[[Path], None]) -> Path:
    """The folder that `build` has filled; what breaks off leaves nothing that could be taken for it."""
    digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in sources))
    digest.update(sys.version.encode())
    folder = kafka.default_cache() / "peers" / f"{name}-{digest.hexdigest()[:12]}"
    whole = folder / ".whole"
    if not whole.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        build(folder)
        whole.touch()
    return folder


def _run(words: list[Any], who: str) -> None:
    with tempfile.TemporaryDirectory(prefix="heed-bench-") as folder:
        try:
            done = subprocess.run(
                [str(word) for word in words], cwd=folder, capture_output=True, text=True, timeout=SECONDS,
                check=False,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Missing(f"{who} did not come to its end ({type(error).__name__})") from error
    if done.returncode != 0:
        told = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise Missing(
            f"{who} failed: {next((one for one in told if 'ERROR' in one), told[-1] if told else '')}"
        )


_BUILDS: dict[str, Callable[[], Path]] = {"quix": _quix, "streams": _streams}
KINDS = frozenset(_BUILDS)
