"""`heed recompute` and `heed engagement run-queue`: rows computed anew from the facts, by hand.

Called by: `streams.cli`, which registers them.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from typing import Annotated, Any

import rich.console
import rich.progress
import typer

from schemas import errors
from streams.console import Json, answer, chosen, of_api

LOOK_SECONDS = 0.3
STEP_SECONDS = 5.0

app = typer.Typer(no_args_is_help=True, help="Compute the rows of a model anew, from the facts.")


@app.command("engagement")
def recompute_engagement(
    contact: Annotated[str | None, typer.Option(help="Only this contact.")] = None,
    as_json: Json = False,
) -> None:
    """Compute every row anew in bounded steps, beside live traffic; exit 1 if contacts failed."""
    if contact is not None:
        _one(contact, as_json)
        return
    found = chosen("postgres")
    failed, number, seconds = _everyone(found.postgres, manual=found.recalculate == "manual", quiet=as_json)
    told = f"{number} contacts computed anew in {seconds:.1f} s, {failed} failed."
    answer({"contacts": number, "failed": failed, "seconds": round(seconds, 3)}, as_json, told)
    sys.exit(1 if failed else 0)


def run_queue(
    max_seconds: Annotated[float, typer.Option(min=0, max=3600, help="The longest it may take.")] = 600.0,
    as_json: Json = False,
) -> None:
    """Work off the queue of those who wait to be computed anew; exit 1 if contacts failed."""
    from streams import recalculation

    with recalculation.connect(chosen("postgres").postgres, "heed run-queue") as connection:
        ran = recalculation.run(connection, max_seconds)
    told = f"{ran.done} done, {ran.failed} failed, {ran.remaining} remaining."
    answer(dataclasses.asdict(ran), as_json, told)
    sys.exit(1 if ran.failed else 0)


def _one(contact: str, as_json: bool) -> None:
    """Nudge a contact, wait for its owner, and show the row."""
    from api import engagement
    from schemas import identity, topics
    from streams import recalculation

    if identity.is_contact_id(contact) is None:
        raise errors.Usage("A contact id has 1 to 64 of the characters A-Z a-z 0-9 _ . ~ -.")
    found = chosen("postgres")
    home = topics.home(identity.CONTACT + contact, found.homes)
    with recalculation.connect(found.postgres, "heed recompute") as connection:
        failed = recalculation.bring_one(connection, contact, home)
    if failed is not None:
        answer({"contact_id": contact, "failed": failed}, as_json, f"{contact} cannot be computed: {failed}")
        sys.exit(1)
    row = of_api(lambda database: engagement.read(database, contact))
    answer(row, as_json, "\n".join(f"{name:18}{value}" for name, value in row.items()))


def _everyone(dsn: str, *, manual: bool, quiet: bool) -> tuple[int, int, float]:
    """Ask for everyone and watch until nobody waits; answers who failed, how many there were, the seconds."""
    from streams import recalculation

    began = time.monotonic()
    with (
        _progress(quiet) as progress,
        recalculation.connect(dsn, "heed recompute") as connection,
    ):
        recalculation.ask(connection)
        task = progress.add_task("contacts", total=None)
        while True:
            now = recalculation.state(connection)
            progress.update(
                task,
                total=now.queued,
                completed=max(0, now.queued - now.waiting),
                description="queueing" if now.filling else "rows",
            )
            if not now.filling and now.waiting == now.failed:
                return now.failed, now.queued, time.monotonic() - began
            if manual:
                recalculation.run(connection, STEP_SECONDS)
            else:
                time.sleep(LOOK_SECONDS)


def _progress(quiet: bool) -> Any:
    console = rich.console.Console(stderr=True, quiet=quiet)
    columns = (
        rich.progress.TextColumn("{task.description}"), rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(), rich.progress.TimeElapsedColumn(),
        rich.progress.TimeRemainingColumn(),
    )  # fmt: skip
    return rich.progress.Progress(*columns, console=console, refresh_per_second=2)
