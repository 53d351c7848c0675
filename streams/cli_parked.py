"""`heed parked`: what could not be folded, by hand.

Called by: `streams.cli`, which registers it.
"""

from __future__ import annotations

from typing import Annotated

import typer

from schemas import errors
from streams.console import Json, answer, chosen, servers, table

app = typer.Typer(no_args_is_help=True, help="What could not be folded.")


@app.command("list")
def parked_list(
    reason: Annotated[str | None, typer.Option(help="Only this reason.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 50,
    as_json: Json = False,
) -> None:
    """Show what is parked, the newest first; never the bytes."""
    from streams import parked

    rows = parked.find(chosen("postgres"), reason, limit)
    if as_json:
        answer({"items": rows}, True, "")
    else:
        where = [f"{row['topic']} {row['partition']}@{row['offset']}" for row in rows]
        shown = [[row["id"], row["reason"], at, row["detail"]] for row, at in zip(rows, where, strict=True)]
        table("Parked", ["id", "reason", "where", "what to do"], shown)


@app.command("redrive")
def parked_redrive(
    reason: Annotated[str, typer.Option(help="The reason to drive again.")] = "future",
    as_json: Json = False,
) -> None:
    """Judge parked records again, by today's clock; what is admitted goes onto the log."""
    from streams import parked

    counts = parked.redrive(servers(), errors.Reason(reason))
    answer(counts, as_json, f"{counts['driven']} went onto the log, {counts['parked']} stay parked.")
