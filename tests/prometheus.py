"""A real Prometheus for tests: Heed's own configuration, looked through every second.

Promises: rules and alerts are the shipped ones; only the intervals, and how long an alert waits (`for`), are
shortened in a copy. What it is asked is asked over its HTTP API. It ends with the `with` block.
Limits: one a folder; loopback.
Called by the tests of metrics, alerts and dashboards.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from deploy import processes, watch
from schemas import metrics
from tests import stack

SHIPPED = watch.SHIPPED
SECOND = "1s"
NAME = re.compile(r"\b(heed_[a-z0-9_]+|heed:[\w:]+|up(?=\{)|process_\w+)")
# What prometheus-client and Prometheus itself give besides, and what else is called so.
OTHERS = {"up", "process_start_time_seconds", "process_cpu_seconds_total", "process_resident_memory_bytes"}
NO_METRICS = {"heed_read", "heed_data", "heed_ops", "heed_dashboard"}


@cache
def programs() -> watch.Programs:
    """Prometheus and promtool; fetched once where they are not installed."""
    return watch.find(lambda _: None)


def promtool(*arguments: str | Path, cwd: Path = SHIPPED) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [programs().promtool, *arguments], cwd=cwd, capture_output=True, text=True, timeout=60, check=False
    )


def alerts() -> dict[str, dict[str, Any]]:
    """Every alert as it is shipped, by its name."""
    return {rule["alert"]: rule for rule in rules_of("alerts.yml")}


def recorded() -> set[str]:
    """The names of what the recording rules record."""
    return {rule["record"] for rule in rules_of("rules.yml")}


def rules_of(name: str) -> list[dict[str, Any]]:
    read = yaml.safe_load((SHIPPED / name).read_text())
    return [rule for group in read["groups"] for rule in group["rules"]]


def named(text: str) -> set[str]:
    """The metrics and recorded names in a text; a histogram's parts as the histogram."""
    found = set()
    for name in NAME.findall(text):
        base = re.sub(r"_(?:bucket|count|sum)$", "", name)
        kind = metrics.DECLARED.get(base)
        found.add(base if kind and kind.kind == "histogram" else name)
    return found - NO_METRICS


def unknown(text: str) -> set[str]:
    """Those of them that nothing declares or records."""
    return named(text) - set(metrics.DECLARED) - recorded() - OTHERS


class Prometheus:
    """A running one."""

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, path: str, **query: str) -> Any:
        """`data` of an answer; raises AssertionError with what Prometheus says against it."""
        asked = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        try:
            with urllib.request.urlopen(asked, timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{query}: {error.read().decode()}") from error

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """The instant vector of an expression: labels and value of each line."""
        told = self.ask("query", query=expression)
        assert told["resultType"] == "vector", told["resultType"]
        return [(one["metric"], float(one["value"][1])) for one in told["result"]]

    def value(self, expression: str) -> float:
        """The one value of an expression; 0 where it has none."""
        found = self.query(expression)
        assert len(found) <= 1, found
        return found[0][1] if found else 0.0

    def firing(self) -> dict[str, dict[str, str]]:
        """The alerts that fire now, each with the annotations of one of its cases."""
        told = self.ask("alerts")["alerts"]
        return {one["labels"]["alertname"]: one["annotations"] for one in told if one["state"] == "firing"}

    def targets_up(self) -> set[str]:
        return {labels["instance"] for labels, _ in self.query('up{job="heed"} == 1')}


@contextmanager
def running(folder: Path, targets: Path | Sequence[Mapping[str, Any]]) -> Iterator[Prometheus]:
    """Prometheus on a folder of its own, over a `targets.json` that somebody writes, or over these."""
    folder.mkdir()
    if not isinstance(targets, Path):
        (folder / "targets.json").write_text(json.dumps(targets))
        targets = folder / "targets.json"
    _hasten(folder, targets)
    (port,) = processes.free_ports(1)
    made = Prometheus(f"http://{processes.LOOPBACK}:{port}")
    with (folder / "prometheus.log").open("wb") as log:
        process = processes.spawn(
            watch.command(programs(), folder, port),
            env=stack.clean_env({}),
            cwd=folder,
            stdout=log,
            stderr=log,
        )
    try:
        stack.eventually(lambda: _ready(made), "Prometheus is ready", 30)
        yield made
    finally:
        processes.stop(process, signal.SIGTERM, 10)


def _hasten(folder: Path, targets: Path) -> None:
    """The shipped configuration with every interval a second, and no patience of alerts."""
    read = yaml.safe_load((SHIPPED / watch.CONFIGURATION).read_text())
    read["global"] = dict.fromkeys(read["global"], SECOND)
    (job,) = read["scrape_configs"]
    job["file_sd_configs"] = [{"files": [str(targets)], "refresh_interval": SECOND}]
    (folder / watch.CONFIGURATION).write_text(yaml.safe_dump(read))
    for name in read["rule_files"]:
        rules = yaml.safe_load((SHIPPED / name).read_text())
        for group in rules["groups"]:
            group.pop("interval", None)
            for rule in group["rules"]:
                rule.pop("for", None)
        (folder / name).write_text(yaml.safe_dump(rules))


def _ready(made: Prometheus) -> bool:
    try:
        with urllib.request.urlopen(f"{made.url}/-/ready", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
