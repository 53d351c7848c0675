"""What a bench found, as tables: rates and costs, ratios of neighbours, goals beside what was measured.

Promises: a ratio is taken inside one repeat and quoted as the median of its repeats, with the range; a goal that was
not reached is called a miss. Absolute rates are printed for scale and are no promise: the same code runs 1.0 to 2.0
times as fast from one minute to the next on a shared machine.
Limits: Markdown on stdout.
Called by `tests.bench.__main__`.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence

from tests.bench import runs


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
    for key in dict.fromkeys((one.rung, one.traffic, one.name) for one in figures):
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


def ratios(figures: Sequence[runs.Figure], goal: Goal, traffic: str) -> list[float]:
    """Ours by the neighbour's, repeat by repeat."""
    rate = {(one.rung, one.name, one.repeat): one.figures["rate"] for one in figures if one.traffic == traffic}
    made = []
    for rung, name, repeat in rate:
        neighbour = rate.get((goal.against_rung or goal.rung, goal.against, repeat))
        if rung == goal.rung and name == "ours" and neighbour:
            made.append(rate[rung, name, repeat] / neighbour)
    return made


def delays(found: Sequence[runs.Figure]) -> str:
    """Delay from acceptance to the committed row."""
    lines = ["| way | load/s | p50 ms | p95 ms | p99 ms | goal p99 ms | |", "|---|---|---|---|---|---|---|"]
    for name in dict.fromkeys(one.name for one in found):
        some = [one.figures for one in found if one.name == name]
        p50, p95, p99 = (_spread([one[q] for one in some], "{:.0f}") for q in ("p50", "p95", "p99"))
        load = statistics.median(one["load"] for one in some)
        most = some[0].get("goal")
        median = statistics.median(one["p99"] for one in some)
        told = "" if most is None else "reached" if median <= most else "**miss**"
        lines.append(f"| {name} | {load:,.0f} | {p50} | {p95} | {p99} | {most or 'stated'} | {told} |")
    return "\n".join(lines)


def _spread(values: Sequence[float], form: str) -> str:
    """Median and range."""
    median, low, high = (form.format(value) for value in (statistics.median(values), min(values), max(values)))
    return median if len(values) == 1 else f"{median} [{low}–{high}]"
