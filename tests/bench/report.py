"""What a bench found, as tables: rates and costs, ratios of neighbours, goals beside what was measured.

Promises: a ratio is taken inside one repeat and quoted as the median of its repeats, with the range; a
goal that was not reached is called a miss. Absolute rates are printed for scale and are no promise: the
same code runs 1.0 to 2.0 times as fast from one minute to the next on a shared machine.
Limits: Markdown on stdout.
Called by `tests.bench.__main__`.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from tests.bench import delay, handover, replay, runs


@dataclasses.dataclass(frozen=True, slots=True)
class Goal:
    """At least so many times (or, for a ratio below 1, such a share of) a neighbour's rate."""

    text: str
    rung: str
    against: str
    least: float
    against_rung: str = ""
    ours: str = "ours"


GOALS = (
    Goal("batch agent, no-op / stock agent", "noop", "stock each", 25),
    Goal("batch agent, no-op / stock take(1000)", "noop", "stock take", 25),
    Goal("simple fold / stock take(1000)", "counter", "stock take", 10),
    Goal("simple fold / by hand", "counter", "by hand", 0.85),
    Goal("simple fold / Quix, its own sink", "counter", "Quix, its sink", 3),
    Goal("simple fold / Quix, our SQL", "counter", "Quix, our SQL", 1.5),
    Goal("simple fold / Kafka Streams, cold", "counter", "Kafka Streams", 1.3),
    Goal("simple fold / Kafka Streams, warm", "warm", "Kafka Streams", 0.9),
    Goal("simple fold, warm / by hand", "warm", "by hand", 0.85),
    Goal("engagement fold / by hand", "engagement", "by hand", 0.80),
    Goal("engagement fold / stock take(1000)", "engagement", "stock take", 3),
    Goal("engagement fold / simple fold", "engagement", "ours", 0.40, "counter"),
    Goal("replay / live", "replay", replay.LIVE, 3, ours=replay.SWAPPED),
)


def all_tables(figures: Sequence[runs.Figure]) -> list[str]:
    """Every table that has a line."""
    made = [goals(figures), delays(figures), handovers(figures), late(figures), looks(figures)]
    made += [plain(figures, rung, columns) for rung, columns in PLAIN.items()]
    return [table for table in (*made, rates(figures)) if table.count("\n") > 1]


def rates(figures: Sequence[runs.Figure]) -> str:
    """Every contender: median and range of its rate, and what an event costs."""
    lines = ["| rung | traffic | contender | events/s | worker µs | PostgreSQL µs | events a batch |"]
    lines.append("|---|---|---|---|---|---|---|")
    for key in sorted({(one.rung, one.traffic, one.name) for one in figures if "batches" in one.figures}):
        found = [one.figures for one in figures if (one.rung, one.traffic, one.name) == key]
        rate = _spread([one["rate"] for one in found], "{:,.0f}")
        worker, database = (
            f"{statistics.median(one[name] for one in found):.1f}" for name in ("worker_us", "postgres_us")
        )
        batch = statistics.median(one["events"] / one["batches"] for one in found)
        lines.append(f"| {' | '.join(key)} | {rate} | {worker} | {database} | {batch:,.0f} |")
    return "\n".join(lines)


def goals(figures: Sequence[runs.Figure]) -> str:
    """Goals beside the median of the ratios of each repeat."""
    lines = ["| goal | at least | traffic | measured | each repeat | |", "|---|---|---|---|---|---|"]
    for goal in GOALS:
        for traffic in dict.fromkeys(one.traffic for one in figures):
            found = ratios(figures, goal, traffic)
            if found:
                median = statistics.median(found)
                told = "reached" if median >= goal.least else "**miss**"
                each = " ".join(f"{ratio:.2f}" for ratio in found)
                lines.append(f"| {goal.text} | {goal.least} | {traffic} | {median:.2f} | {each} | {told} |")
    return "\n".join(lines)


DELAYS = {delay.HTTP_STEADY: 60, delay.HTTP_HALF: 250}  # p99 in ms, at most


def delays(figures: Sequence[runs.Figure]) -> str:
    """From acceptance to the committed row, beside what was aimed at."""
    lines = ["| way | load/s | p50 ms | p95 ms | p99 ms | p99 at most | |", "|---|---|---|---|---|---|---|"]
    found = [one for one in figures if one.rung == "delay"]
    for name in sorted({one.name for one in found}):
        some = [one.figures for one in found if one.name == name]
        load, p50, p95, p99 = (
            _spread([one[key] for one in some], "{:,.0f}") for key in ("load", "p50", "p95", "p99")
        )
        most = DELAYS.get(name)
        reached = most is None or statistics.median(one["p99"] for one in some) <= most
        told = "" if most is None else "reached" if reached else "**miss**"
        lines.append(f"| {name} | {load} | {p50} | {p95} | {p99} | {most or 'only stated'} | {told} |")
    return "\n".join(lines)


STOOD = {  # seconds, at most: of the others, of its own homes
    handover.DEPLOY: (1.0, None),
    handover.CRASH: (None, 12.0),
    handover.JOIN: (None, None),
    handover.LEAVE: (None, None),
}


def handovers(figures: Sequence[runs.Figure]) -> str:
    """How long homes stood still, beside what was aimed at."""
    lines = ["| what happens | the others stand still, s | its own, s | first fold by a successor, s | |"]
    lines.append("|---|---|---|---|---|")
    for name, some in _named(figures, "handover"):
        others, own, first = (_spread([one[key] for one in some], "{:.2f}") for key in OF_HANDOVER)
        goal_others, goal_first = STOOD[name]
        told = _told(some, "others", goal_others) + _told(some, "first_fold", goal_first)
        lines.append(f"| {name} | {others} | {own} | {first} | {told or 'only stated'} |")
    return "\n".join(lines)


OF_HANDOVER = ("others", "own", "first_fold")
LATE_MS = 1000.0


def late(figures: Sequence[runs.Figure]) -> str:
    """How late rows were taken that had fallen due."""
    lines = ["| rows | p50 ms | p95 ms | p99 ms | most ms | |", "|---|---|---|---|---|---|"]
    for name, some in _named(figures, "timers"):
        if "most" in some[0]:
            values = (_spread([one[key] for one in some], "{:,.0f}") for key in ("p50", "p95", "p99", "most"))
            lines.append(f"| {name} | {' | '.join(values)} | {_told(some, 'p99', LATE_MS)} |")
    return "\n".join(lines)


def looks(figures: Sequence[runs.Figure]) -> str:
    """What an idle lane's look for due rows takes."""
    lines = ["| | p50 ms | p99 ms |", "|---|---|---|"]
    for name, some in _named(figures, "timers"):
        if "most" not in some[0]:
            values = (_spread([one[key] for one in some], "{:.2f}") for key in ("p50", "p99"))
            lines.append(f"| {name} | {' | '.join(values)} |")
    return "\n".join(lines)


PLAIN = {
    "replay": {"rate": "facts/s"},
    "ingest": {"rate": "events/s", "requests": "requests/s", "server_us": "µs of the server an event"},
    "checkpoint": {
        "postgres_us": "PostgreSQL µs an event",
        "wal_bytes": "WAL bytes an event",
        "p50": "p50 ms",
        "p99": "p99 ms",
    },
}


def plain(figures: Sequence[runs.Figure], rung: str, columns: Mapping[str, str]) -> str:
    """A rung without a goal."""
    lines = [f"| {rung} | {' | '.join(columns.values())} |", "|---" * (len(columns) + 1) + "|"]
    for name, some in _named(figures, rung):
        values = (_spread([one[key] for one in some], "{:,.0f}") for key in columns)
        lines.append(f"| {name} | {' | '.join(values)} |")
    return "\n".join(lines)


def _named(figures: Sequence[runs.Figure], rung: str) -> list[tuple[str, list[dict[str, Any]]]]:
    """The figures of a rung, name by name, in the order in which they came."""
    found: dict[str, list[dict[str, Any]]] = {}
    for one in figures:
        if one.rung == rung:
            found.setdefault(one.name, []).append(one.figures)
    return list(found.items())


def _told(some: Sequence[dict[str, Any]], key: str, most: float | None) -> str:
    if most is None:
        return ""
    reached = statistics.median(one[key] for one in some) <= most
    return f"at most {most:g}: {'reached' if reached else '**miss**'}"


def ratios(figures: Sequence[runs.Figure], goal: Goal, traffic: str) -> list[float]:
    """Ours by the neighbour's, repeat by repeat."""
    some = [one for one in figures if one.traffic == traffic and "rate" in one.figures]
    rate_of = {(one.rung, one.name, one.repeat): one.figures["rate"] for one in some}
    made = []
    for (rung, name, repeat), rate in rate_of.items():
        neighbour = rate_of.get((goal.against_rung or goal.rung, goal.against, repeat))
        if rung == goal.rung and name == goal.ours and neighbour:
            made.append(rate / neighbour)
    return made


def _spread(values: Sequence[float], form: str) -> str:
    """Median and range."""
    three = (statistics.median(values), min(values), max(values))
    median, low, high = (form.format(value) for value in three)
    return median if len(values) == 1 else f"{median} [{low}–{high}]"
