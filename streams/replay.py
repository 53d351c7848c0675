"""`heed replay --check`: the log folded from its start into a shadow, and compared with the live tables.

Promises: beside live traffic, whose tables it only reads; leaves nothing behind, also when interrupted
(SIGINT, SIGTERM; after kill -9 the next replay clears up). Reads exactly as far as live has folded, so both
sides hold the same facts; nothing is published. Contacts that cannot be computed are errors of their own.
Limits: one at a time; needs room for the facts once more.
Called by: `heed replay`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import signal
import sys
import time
from collections.abc import Iterator
from typing import Any

import rich.console
import rich.progress

from projections import comparison, positions, shadow
from schemas import errors, settings
from streams import broker, replay_log

NEAR_SECONDS = 5.0


@dataclasses.dataclass(slots=True)
class Found:
    """What a check found."""

    rows: int = 0
    facts: int = 0
    carried: int = 0
    seconds: float = 0.0
    differing: int = 0
    differences: list[comparison.Difference] = dataclasses.field(default_factory=list)
    errors: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def clean(self) -> bool:
        return not self.differing and not self.errors

    def sentence(self) -> str:
        """What was found, in a line."""
        return (
            f"{self.differing} of {self.rows} rows differ "
            f"({self.facts} facts replayed in {self.seconds:.1f} s; "
            f"{self.carried} rows carried to the instant)."
        )

    def as_dict(self) -> dict[str, Any]:
        listed = [dataclasses.asdict(one) for one in self.differences]
        return dataclasses.asdict(self) | {"differences": listed}


def check(chosen: settings.Settings, *, quiet: bool = False) -> Found:
    """Replay and compare; prints progress and what differs unless `quiet`."""
    signal.signal(signal.SIGTERM, _interrupt)
    console = rich.console.Console(stderr=True, quiet=quiet)
    began = time.monotonic()
    found = Found()
    try:
        with (
            shadow.Shadow(chosen.postgres, chosen.homes) as built,
            shadow.Live(chosen.postgres, chosen.homes) as live,
        ):
            _check(chosen, console, built, live, found)
    except (KeyboardInterrupt, asyncio.CancelledError):
        # An interrupt within a step of asyncio's own may leave it as a cancelling.
        raise errors.Usage("The replay was interrupted; nothing of it is left behind.") from None
    found.seconds = round(time.monotonic() - began, 3)
    if not quiet:
        _tell(found)
    return found


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _check(
    chosen: settings.Settings,
    console: rich.console.Console,
    built: shadow.Shadow,
    live: shadow.Live,
    found: Found,
) -> None:
    columns = (
        rich.progress.TextColumn("{task.description}"), rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(), Rate(),
        rich.progress.TimeRemainingColumn(),
    )  # fmt: skip
    kafka = broker.of(chosen)
    replay_log.size(kafka, live.read_up_to())
    with (
        rich.progress.Progress(*columns, console=console, refresh_per_second=2) as progress,
        replay_log.Source(kafka, chosen.homes, positions.log_starts(chosen.homes)) as source,
    ):
        task = progress.add_task("facts", total=None)
        for bounds in _near_and_then_exactly(live):
            progress.update(task, total=sum(bounds.values()))
            for facts, registered, ends in source.upto(bounds):
                built.take(facts, registered, ends)
                progress.update(task, completed=sum(built.read_to().values()))
        at = live.instant()
        task = progress.add_task("rows", total=None)
        for brought in built.bring(at):
            progress.advance(task, brought)
        found.carried = live.carry(at)
        found.errors = built.failed | live.failed
        found.rows, found.facts, found.differing = comparison.compare(
            live, lambda one: found.differences.append(one) if len(found.differences) < shadow.SHOWN else None
        )


def _near_and_then_exactly(live: shadow.Live) -> Iterator[dict[positions.TP, int]]:
    """Where to read to: after live until that takes no time, then to the very offsets of its snapshot."""
    while True:
        began = time.monotonic()
        yield live.read_up_to()
        if time.monotonic() - began < NEAR_SECONDS:
            break
    yield live.snapshot()


class Rate(rich.progress.ProgressColumn):
    def render(self, task: rich.progress.Task) -> Any:
        return "" if not task.speed else f"{task.speed:,.0f}/s"


def _tell(found: Found) -> None:
    tell_errors(found.errors)
    for one in found.differences:
        sys.stdout.write(f"{one}\n")
    if found.differing > len(found.differences):
        sys.stdout.write(f"… and {found.differing - len(found.differences)} more\n")


def tell_errors(failed: dict[str, str]) -> None:
    """Print the contacts that cannot be computed, and why."""
    for contact, error in sorted(failed.items())[: shadow.SHOWN]:
        sys.stdout.write(f"{contact} cannot be computed: {error}\n")
    if len(failed) > shadow.SHOWN:
        sys.stdout.write(f"… and {len(failed) - shadow.SHOWN} more\n")
