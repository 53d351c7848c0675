"""`python -m tests.bench`: every rung on real servers, and a table of goals beside what was measured.

Promises: servers, topics and tables are its own, in a temporary folder that goes with it (`--home` keeps
one, with its prefilled tables). Prefilled facts: `--facts`, 20,000,000 by default. Contenders are
interleaved; at least three repeats are needed to quote anything.
Limits: `--quick` shows that everything runs; its figures say little. A full run takes about half an hour
and 25 GB.
Called by `make bench`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench import delay, report, runs, servers, traffic

RUNGS = ("decode", "noop", "counter", "engagement", "door", "delay")
SEED = 7


def main() -> None:
    """Run what was asked for, print tables, and keep every figure as JSON lines when told where."""
    chosen = _arguments()
    figures: list[runs.Figure] = []
    with _home(chosen.home) as home, _up(home, chosen.facts) as up:
        up.fill_tables()
        for kind in chosen.traffic:
            figures += _folds(up, chosen, kind)
        figures += _from_doors(up, chosen)
    for table in (report.goals(figures), report.delays(figures), report.rates(figures)):
        sys.stdout.write(table + "\n\n")


def _folds(up: servers.Servers, chosen: argparse.Namespace, kind: str) -> list[runs.Figure]:
    """The rungs that read a log filled beforehand, with one kind of traffic."""
    contenders = [one for one in runs.CONTENDERS if one.rung in chosen.rungs]
    if kind != "distinct":
        contenders = [one for one in contenders if one.rung in ("counter", "engagement")]
    if not contenders:
        return []
    up.fill_log(traffic.facts(kind, chosen.events, SEED, servers.HOMES))
    _split_pages(up, contenders, kind, chosen.events)
    found: list[runs.Figure] = []
    for repeat in range(chosen.repeats):
        found += _kept(chosen, runs.repeat(up, contenders, kind, chosen.events, repeat, SEED))
    return found


def _from_doors(up: servers.Servers, chosen: argparse.Namespace) -> list[runs.Figure]:
    """The rungs that begin at a door or at the API."""
    found: list[runs.Figure] = []
    for repeat in range(chosen.repeats if {"door", "delay"} & set(chosen.rungs) else 0):
        one = delay.door(up, chosen.events, repeat)
        found += _kept(chosen, [one])
        if "delay" in chosen.rungs:
            found += _kept(chosen, delay.all_ways(up, repeat, chosen.seconds, one.figures["rate"]))
    return found


def _kept(chosen: argparse.Namespace, figures: list[runs.Figure]) -> list[runs.Figure]:
    """These figures, in the file too as soon as they are there: a run may last for hours."""
    if chosen.json:
        with chosen.json.open("a") as out:
            out.writelines(json.dumps(dataclasses.asdict(one)) + "\n" for one in figures)
    return figures


def _split_pages(up: servers.Servers, contenders: list[runs.Contender], kind: str, count: int) -> None:
    """A run that is not counted, so that no contender finds the indexes freshly built."""
    for one in contenders:
        if one.rung == "engagement" and one.name == "by hand":
            up.reset(one.table)
            runs.run(up, one, kind, count)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests.bench", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="small: 1,000,000 facts, 60,000 events, once")
    parser.add_argument("--rungs", type=_list, default=list(RUNGS), help=f"some of {','.join(RUNGS)}")
    parser.add_argument("--traffic", type=_list, default=["distinct", "hot"], help="distinct, hot, or both")
    parser.add_argument("--events", type=int, default=400_000, help="events of the fast contenders")
    parser.add_argument("--facts", type=int, default=20_000_000, help="facts there before")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=20, help="of every delay run")
    parser.add_argument("--home", type=Path, help="a folder for the servers, kept afterwards")
    parser.add_argument("--json", type=Path, help="a file that every figure is added to")
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.facts = min(chosen.facts, 1_000_000)
        chosen.events, chosen.repeats, chosen.seconds = 60_000, 1, 5
    return chosen


def _list(text: str) -> list[str]:
    return text.split(",")


@contextmanager
def _home(kept: Path | None) -> Iterator[Path]:
    if kept is None:
        with tempfile.TemporaryDirectory(prefix="heed-bench-", ignore_cleanup_errors=True) as folder:
            yield Path(folder)
    else:
        kept.mkdir(parents=True, exist_ok=True)
        yield kept


@contextmanager
def _up(home: Path, facts: int) -> Iterator[servers.Servers]:
    up = servers.Servers(home, facts)
    try:
        up.start()
        yield up
    finally:
        up.stop()


if __name__ == "__main__":
    main()
