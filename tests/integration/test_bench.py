"""The bench runs: every rung tiny, on servers of its own, so that it is there when a figure is wanted."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from deploy import jars
from tests import stack
from tests.bench import __main__ as bench
from tests.bench import report, runs, sizes
from tests.bench.peers import build

HOME_SECONDS = 240


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A folder that keeps the prefilled tables; not one of pytest's, which the database cannot enter."""
    with bench.home(None) as folder:
        yield folder


def _run(home: Path, rungs: str, *more: str) -> tuple[list[dict[str, Any]], str]:
    kept = home / "figures.json"
    kept.unlink(missing_ok=True)
    command = [sys.executable, "-m", "tests.bench", "--size", "tiny", "--traffic", "distinct"]
    done = subprocess.run(
        [*command, "--rungs", rungs, "--home", str(home), "--json", str(kept), *more],
        cwd=stack.ROOT, env=stack.clean_env({}), capture_output=True, text=True, timeout=HOME_SECONDS,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in kept.read_text().splitlines()], done.stdout


GROUPS = (bench.FOLDS, bench.DOORS, bench.OTHERS)


@pytest.mark.slow
@pytest.mark.timeout(HOME_SECONDS + 60)
@pytest.mark.parametrize("rungs", GROUPS, ids=",".join)
def test_every_rung_runs(home: Path, rungs: tuple[str, ...]) -> None:
    figures, tables = _run(home, ",".join(rungs))
    assert tables.startswith("| ")
    for rung in rungs:
        mine = {one["name"] for one in figures if one["rung"] == rung}
        wanted = {
            one.name
            for one in runs.CONTENDERS
            if one.rung == rung and (one.kind not in build.KINDS or not build.ready(one.kind))
        }
        assert mine and mine >= wanted, rung
    for one in figures:
        assert all(value >= 0 for value in one["figures"].values() if isinstance(value, int | float)), one


def test_no_rung_is_left_out_of_these_tests() -> None:
    assert sorted(bench.RUNGS) == sorted(rung for group in GROUPS for rung in group)


@pytest.mark.slow
@pytest.mark.timeout(HOME_SECONDS + 60)
def test_a_peer_that_is_left_out_is_named(home: Path) -> None:
    figures, told = _run(home, "warm", "--no-peers")
    assert {one["name"] for one in figures} == {"ours", "by hand"}
    assert "Left out: streams: not asked for." in told


def test_kafka_streams_is_of_the_brokers_version() -> None:
    pom = ElementTree.parse(build.HERE / "kafka_streams" / "pom.xml")
    versions = {
        one.findtext("artifactId"): one.findtext("version") for one in pom.iterfind("dependencies/dependency")
    }
    assert versions["kafka-streams"] == jars.VERSION


def test_every_pin_of_quix_has_a_hash() -> None:
    lines = (build.HERE / "quix.txt").read_text().replace("\\\n", " ").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert any(line.startswith("quixstreams==") for line in pins)
    assert all(re.match(r"[\w.-]+==\S+ .*--hash=sha256:", line) for line in pins)


def test_a_peer_that_cannot_be_built_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HEED_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    build.ready.cache_clear()
    try:
        assert build.ready("streams") == "there is no Maven (mvn) on this machine"
    finally:
        build.ready.cache_clear()
    assert not list(tmp_path.glob("peers/*/.whole"))


def test_neighbours_that_count_otherwise_end_the_bench(monkeypatch: pytest.MonkeyPatch) -> None:
    class Up:
        answers = iter(("1 2 3", "1 2 4"))

        def reset(self, _: str) -> None:
            return

        def counted(self) -> str:
            return next(self.answers)

    monkeypatch.setattr(runs, "run", lambda *_: {"rate": 1, "worker_us": 1, "postgres_us": 1})
    some = [runs.Contender("counter", name, "ours", table="counter") for name in ("ours", "by hand")]
    with pytest.raises(RuntimeError, match="do not agree"):
        runs.repeat(Up(), some, "distinct", 1000, 0, 1)  # type: ignore[arg-type]


def test_goals_name_rungs_and_neighbours_that_there_are() -> None:
    names = {(one.rung, one.name) for one in runs.CONTENDERS}
    for goal in report.GOALS:
        assert goal.rung in bench.RUNGS
        assert goal.rung == "replay" or (goal.against_rung or goal.rung, goal.against) in names, goal.text


def test_sizes_grow() -> None:
    for small, large in ((sizes.TINY, sizes.SMALL), (sizes.SMALL, sizes.FULL)):
        assert small.facts < large.facts
        assert max(small.waiting) < max(large.waiting)
        assert 2 * large.events <= max(large.facts, 1), (
            "warm runs take twice the events, each another contact's"
        )
