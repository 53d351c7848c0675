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
from collections.abc import Sequence

from tests.bench import delay, runs


@dataclasses.dataclass(frozen=True, slots=True)
class Goal:
    """At least so many times (or, for a ratio below 1, such a share of) a neighbour's rate."""

    text: str
    rung: str
    against: str
    least: float
    against_rung: str = ""


GOALS = (
    Goal("batch agent, no-op / stock agent", "noop", "stock each", 25),
    Goal("batch agent, no-op / stock take(1000)", "noop", "stock take", 25),
    Goal("simple fold / stock take(1000)", "counter", "stock take", 10),
    Goal("simple fold / by hand", "counter", "by hand", 0.85),
    Goal("engagement fold / by hand", "engagement", "by hand", 0.80),
    Goal("engagement fold / stock take(1000)", "engagement", "stock take", 3),
    Goal("engagement fold / simple fold", "engagement", "ours", 0.40, "counter"),
)


def rates(figures: Sequence[runs.Figure]) -> str:
    """Every contender: median and range of its rate, and what an event costs."""
    lines = ["| rung | traffic | contender | events/s | worker µs | PostgreSQL µs | events a batch |"]
    lines.append("|---|---|---|---|---|---|---|")
    for key in sorted({(one.rung, one.traffic, one.name) for one in figures if one.rung != "delay"}):
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


def ratios(figures: Sequence[runs.Figure], goal: Goal, traffic: str) -> list[float]:
    """Ours by the neighbour's, repeat by repeat."""
    some = [one for one in figures if one.traffic == traffic and one.rung != "delay"]
    rate_of = {(one.rung, one.name, one.repeat): one.figures["rate"] for one in some}
    made = []
    for (rung, name, repeat), rate in rate_of.items():
        neighbour = rate_of.get((goal.against_rung or goal.rung, goal.against, repeat))
        if rung == goal.rung and name == "ours" and neighbour:
            made.append(rate / neighbour)
    return made


def _spread(values: Sequence[float], form: str) -> str:
    """Median and range."""
    three = (statistics.median(values), min(values), max(values))
    median, low, high = (form.format(value) for value in three)
    return median if len(values) == 1 else f"{median} [{low}–{high}]"
