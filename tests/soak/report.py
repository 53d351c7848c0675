"""What a run found, as figures and as text.

Promises: recoveries are worked out from the history alone: how long after a fault took hold, and after it
was mended, until every home had been brought to a later instant (`as_of` of its position). Faults that
overlap lengthen each other's recovery. Called by: `tests.soak.__main__`.
"""

from __future__ import annotations

import dataclasses
import itertools
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tests.soak import history, plan

SHOWN = 5
FACTS = "facts"


@dataclasses.dataclass(slots=True)
class Kind:
    """One kind of fault over a run: how often, and the recoveries in seconds."""

    inflicted: int = 0
    missed: int = 0
    after_hit: list[float] = dataclasses.field(default_factory=list)
    after_mending: list[float] = dataclasses.field(default_factory=list)


def recoveries(broken: Iterable[history.Broken], stands: Sequence[history.Stand]) -> dict[str, Kind]:
    """By kind of fault: until every home was brought to an instant after it took hold, and after it was
    mended.
    """
    paths = _paths(stands)
    found: dict[str, Kind] = defaultdict(Kind)
    for one in broken:
        kind = found[one.kind]
        if one.hit is None:
            kind.missed += 1
            continue
        kind.inflicted += 1
        kind.after_hit += _until_all(paths, one.hit)
        kind.after_mending += _until_all(paths, one.healed or one.hit)
    return dict(found)


def _paths(stands: Iterable[history.Stand]) -> dict[int, list[tuple[float, float]]]:
    """Of each home: when it was seen brought to which instant."""
    paths: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for one in stands:
        if one.topic == FACTS and one.reader == "fold":
            paths[one.part].append((one.seen, one.as_of / 1000))
    return paths


def _until_all(paths: Mapping[int, Sequence[tuple[float, float]]], moment: float) -> list[float]:
    """Seconds until the last home had been brought past the moment; nothing if one never was."""
    firsts = [next((seen for seen, as_of in path if as_of > moment), None) for path in paths.values()]
    if not firsts or any(first is None for first in firsts):
        return []
    return [round(max(first for first in firsts if first is not None) - moment, 2)]


def standstill(stands: Iterable[history.Stand]) -> float:
    """The longest time that any home was not brought to a later instant, in seconds."""
    longest = 0.0
    for path in _paths(stands).values():
        longest = max([longest, *(later - earlier for (_, earlier), (_, later) in itertools.pairwise(path))])
    return round(longest, 1)


def figures(
    lines: Sequence[history.Line], violations: Mapping[str, Sequence[str]], told: Mapping[str, Any]
) -> dict[str, Any]:
    """Everything worth keeping of a run, ready for JSON."""
    stands = [one for one in lines if isinstance(one, history.Stand)]
    broken = [one for one in lines if isinstance(one, history.Broken)]
    events = Counter(
        f"{one.way.split('-')[0]} {one.outcome}" for one in lines if isinstance(one, history.Told)
    )
    reads = Counter(one.reader for one in lines if isinstance(one, history.Read))
    troubles = Counter(
        f"{one.reader} {one.code or 'nobody answered'}" for one in lines if isinstance(one, history.Trouble)
    )
    return {
        **told,
        "events": dict(sorted(events.items())),
        "reads": dict(sorted(reads.items())),
        "reads_that_met_a_server_away": dict(sorted(troubles.items())),
        "faults": {name: _spread(kind) for name, kind in sorted(recoveries(broken, stands).items())},
        "longest_standstill_of_a_home": standstill(stands),
        "steps": [dataclasses.asdict(one) for one in lines if isinstance(one, history.Step)],
        "violations": {name: len(found) for name, found in violations.items()},
        "first_violations": {name: list(found[:SHOWN]) for name, found in violations.items() if found},
    }


def _spread(kind: Kind) -> dict[str, Any]:
    return {
        "inflicted": kind.inflicted,
        "missed": kind.missed,
        "after_hit": _of(kind.after_hit),
        "after_mending": _of(kind.after_mending),
    }


def _of(seconds: Sequence[float]) -> list[float]:
    """Median and greatest."""
    return [round(statistics.median(seconds), 1), round(max(seconds), 1)] if seconds else []


def text(found: Mapping[str, Any]) -> str:
    """A run's report as the page has it: Markdown."""
    about = {kind.name: kind.about for kind in plan.KINDS}
    load = f"{found['rate']} events/s (half of the capacity: {found['half']})"
    lines = [
        f"seed {found['seed']}, {found['minutes']} minutes, {load}, {found['facts']:,} records in the log",
        "",
        "| fault | what | times | missed | s from its beginning, median · longest | s from its mending |",
        "|---|---|---|---|---|---|",
    ]
    for name, kind in found["faults"].items():
        hit, mended = (" · ".join(map(str, kind[which])) for which in ("after_hit", "after_mending"))
        lines.append(
            f"| {name} | {about.get(name, '')} | {kind['inflicted']} | {kind['missed']} | {hit} | {mended} |"
        )
    lines += ["", f"longest stand-still of a home: {found['longest_standstill_of_a_home']} s"]
    lines += [f"{name}: {count}" for name, count in found["events"].items()]
    lines += [f"reads by {name}: {count}" for name, count in found["reads"].items()]
    lines += [
        f"step {step['name']}: exit {step['code']}, {step['ended'] - step['began']:.1f} s, {step['note']}"
        for step in found["steps"]
    ]
    lines += ["", "| violation | found |", "|---|---|"]
    lines += [f"| {name} | {count} |" for name, count in found["violations"].items()]
    for name, shown in found["first_violations"].items():
        lines += ["", f"{name}:", *(f"- {one}" for one in shown)]
    return "\n".join(lines)
