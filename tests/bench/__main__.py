"""`python -m tests.bench`: every rung on real servers, and a table of goals beside what was measured.

Promises: servers, topics and tables are its own, in a temporary folder that goes with it (`--home` keeps
one, with its prefilled tables). Contenders are interleaved; at least three repeats are needed to quote
anything. A peer that cannot be built here is named, with the reason, and left out.
Limits: the default size shows that everything runs; `--full` is what is quoted, see `tests.bench.sizes`.
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

from tests.bench import (
    checkpoint,
    delay,
    handover,
    ingest,
    replay,
    report,
    runs,
    servers,
    sizes,
    timers,
    traffic,
)
from tests.bench.peers import build

FOLDS = ("decode", "noop", "counter", "warm", "engagement")
OF_TRAFFIC = ("counter", "engagement")  # measured with hot contacts too
DOORS = ("door", "delay")
OTHERS = ("ingest", "checkpoint", "replay", "timers", "handover")
RUNGS = (*FOLDS, *DOORS, *OTHERS)
SEED = 7


def main() -> None:
    """Run what was asked for, print tables, and keep every figure as JSON lines when told where."""
    chosen = _arguments()
    figures: list[runs.Figure] = []
    left_out = _left_out(chosen)
    with home(chosen.home) as folder, _up(folder, chosen.sizes.facts) as up:
        up.fill_tables()
        for kind in chosen.traffic:
            figures += _folds(up, chosen, kind, left_out)
        figures += _from_doors(up, chosen)
        for repeat in range(chosen.sizes.repeats):
            for rung in OTHERS:
                if rung in chosen.rungs:
                    figures += _kept(chosen, _other(rung, up, chosen.sizes, repeat))
    for table in report.all_tables(figures):
        sys.stdout.write(table + "\n\n")
    for kind, why in left_out.items():
        sys.stdout.write(f"Left out: {kind}: {why}.\n")


def _left_out(chosen: argparse.Namespace) -> dict[str, str]:
    """Peers that were asked for and cannot be built here, with the reason."""
    asked = {one.kind for one in runs.CONTENDERS if one.rung in chosen.rungs and one.kind in build.KINDS}
    found = {kind: "not asked for" if chosen.no_peers else build.ready(kind) for kind in sorted(asked)}
    return {kind: why for kind, why in found.items() if why}


def _folds(
    up: servers.Servers, chosen: argparse.Namespace, kind: str, left_out: dict[str, str]
) -> list[runs.Figure]:
    """The rungs that read a log filled beforehand, with one kind of traffic."""
    asked = [
        one
        for one in runs.CONTENDERS
        if one.rung in chosen.rungs
        and one.kind not in left_out
        and (kind == "distinct" or one.rung in OF_TRAFFIC)
    ]
    found: list[runs.Figure] = []
    for warm in (False, True):
        contenders = [one for one in asked if one.warm is warm]
        count = chosen.sizes.events * (2 if warm else 1)
        if not contenders:
            continue
        up.fill_log(traffic.facts(kind, count, SEED, servers.HOMES, up.contacts))
        _split_pages(up, contenders, kind, count)
        for repeat in range(chosen.sizes.repeats):
            found += _kept(chosen, runs.repeat(up, contenders, kind, count, repeat, SEED))
    return found


def _from_doors(up: servers.Servers, chosen: argparse.Namespace) -> list[runs.Figure]:
    """The rungs that begin at a door or at the API."""
    found: list[runs.Figure] = []
    for repeat in range(chosen.sizes.repeats if set(DOORS) & set(chosen.rungs) else 0):
        one = delay.door(up, chosen.sizes.events, repeat)
        found += _kept(chosen, [one])
        if "delay" in chosen.rungs:
            found += _kept(chosen, delay.all_ways(up, repeat, chosen.sizes.seconds, one.figures["rate"]))
    return found


def _other(rung: str, up: servers.Servers, size: sizes.Sizes, repeat: int) -> list[runs.Figure]:
    if rung == "ingest":
        return ingest.run(up, repeat, size.seconds)
    if rung == "checkpoint":
        return checkpoint.run(up, repeat, size.seconds)
    if rung == "replay":
        return replay.run(up, repeat, size.replayed)
    if rung == "timers":
        return timers.run(up, repeat, size)
    return handover.run(up, repeat, size.homes_rate)


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
    parser.add_argument("--size", choices=sorted(sizes.NAMED), default="small")
    parser.add_argument("--full", action="store_const", dest="size", const="full", help="as --size full")
    parser.add_argument("--rungs", type=_list, default=list(RUNGS), help=f"some of {','.join(RUNGS)}")
    parser.add_argument("--traffic", type=_list, default=["distinct", "hot"], help="distinct, hot, or both")
    parser.add_argument("--no-peers", action="store_true", help="without Quix and Kafka Streams")
    parser.add_argument("--events", type=int, help="events of the fast contenders")
    parser.add_argument("--facts", type=int, help="facts there before")
    parser.add_argument("--repeats", type=int)
    parser.add_argument("--seconds", type=int, help="of every delay run")
    parser.add_argument("--waiting", type=lambda text: tuple(int(one) for one in _list(text)),
                        help="rows that wait for their time, growing: 10000,1000000")  # fmt: skip
    parser.add_argument("--due", type=int, help="rows that fall due")
    parser.add_argument("--replayed", type=int, help="facts in the log of a replay")
    parser.add_argument("--home", type=Path, help="a folder for the servers, kept afterwards")
    parser.add_argument("--json", type=Path, help="a file that every figure is added to")
    chosen = parser.parse_args()
    if unknown := set(chosen.rungs) - set(RUNGS):
        parser.error(f"no such rung: {', '.join(sorted(unknown))}; there are {', '.join(RUNGS)}")
    named = {name: value for name in ("events", "facts", "repeats", "seconds", "waiting", "due", "replayed")
             if (value := getattr(chosen, name)) is not None}  # fmt: skip
    chosen.sizes = dataclasses.replace(sizes.NAMED[chosen.size], **named)
    return chosen


def _list(text: str) -> list[str]:
    return text.split(",")


@contextmanager
def home(kept: Path | None) -> Iterator[Path]:
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
