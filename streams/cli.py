"""`heed`: every command of the command line.

Promises: exit 0 done, 1 done with differences or failed items, 2 usage, 3 stopped on doubt, 69 a server
cannot be reached; errors are one sentence on stderr that says what to do; with `--json` the answer is one
JSON document.
Limits: `up` and `down` need a checkout of the project (the folder `deploy`).
Called by: the console script `heed`.
"""

from __future__ import annotations

import asyncio
import os
import sys
import traceback
from typing import Annotated, Any

import orjson
import rich.console
import typer

from schemas import errors, settings

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
topics_app = typer.Typer(no_args_is_help=True, help="Heed's topics on the broker.")
parked_app = typer.Typer(no_args_is_help=True, help="What could not be folded.")
engagement_app = typer.Typer(no_args_is_help=True, help="The engagement of contacts.")
settings_app = typer.Typer(no_args_is_help=True, help="The settings in force.")
app.add_typer(topics_app, name="topics")
app.add_typer(parked_app, name="parked")
app.add_typer(engagement_app, name="engagement")
app.add_typer(settings_app, name="settings")

Json = Annotated[bool, typer.Option("--json", help="Answer with one JSON document.")]


def main() -> None:
    """The console script."""
    try:
        app(standalone_mode=True)
    except errors.HeedError as error:
        sys.stderr.write(f"heed: {error}\n")
        sys.exit(error.exit_code)
    except Exception:
        # A fault of ours: its trace is for the report; the exit code must not read as "with differences"
        traceback.print_exc()
        sys.exit(errors.Doubt.exit_code)


def answer(value: Any, as_json: bool, text: str) -> None:
    """Print an answer: as JSON, or as a sentence."""
    sys.stdout.write((orjson.dumps(value, default=str).decode() if as_json else text) + "\n")


def table(title: str, columns: list[str], rows: list[list[Any]]) -> None:
    """Print rows for people."""
    made = rich.table.Table(*columns, title=title)
    for row in rows:
        made.add_row(*("" if cell is None else str(cell) for cell in row))
    rich.console.Console().print(made)


def servers() -> settings.Settings:
    """The settings, with both servers named."""
    return settings.Settings.load().need("kafka", "postgres")


@app.command()
def worker() -> None:
    """Run one worker: intake, fold, timers, relay."""
    from streams import app as worker_app

    worker_app.run(servers())


@app.command()
def api() -> None:
    """Run the HTTP API."""
    from api import app as api_app
    from streams import process

    chosen = servers()
    process.set_up_logs(chosen.log_level, worker="api")
    api_app.serve(chosen)


@app.command()
def migrate(as_json: Json = False) -> None:
    """Create or upgrade Heed's tables."""
    from projections.migrations import apply

    chosen = settings.Settings.load().need("postgres")
    apply.upgrade(chosen.postgres, chosen)
    answer({"migrated": True}, as_json, "The tables are those of this version.")


@topics_app.command("create")
def topics_create(as_json: Json = False) -> None:
    """Create the topics that are missing, and check all."""
    from streams import topic_admin

    chosen = settings.Settings.load().need("kafka")
    made = asyncio.run(topic_admin.create(chosen.kafka, chosen.homes))
    answer({"created": made}, as_json, f"Created: {', '.join(made) or 'none, all were there'}.")


@topics_app.command("check")
def topics_check(as_json: Json = False) -> None:
    """Check that the topics are as Heed needs them."""
    from streams import topic_admin

    chosen = settings.Settings.load().need("kafka")
    asyncio.run(topic_admin.check(chosen.kafka, chosen.homes))
    answer({"ok": True}, as_json, "All topics are as they must be.")


@app.command()
def replay(
    check: Annotated[
        bool, typer.Option("--check", help="Compare with the live tables; change nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Fold the log anew beside the live tables and compare every column."""
    from streams import replay as replay_command

    if not check:
        raise errors.Usage("Say `heed replay --check`: swapping a replay in is not built yet.")
    found = replay_command.check(servers(), quiet=as_json)
    if as_json:
        answer(found.as_dict(), True, "")
    sys.exit(1 if found.differences else 0)


@parked_app.command("list")
def parked_list(
    reason: Annotated[str | None, typer.Option(help="Only this reason.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 50,
    as_json: Json = False,
) -> None:
    """Show what is parked, the newest first; never the bytes."""
    from streams import parked

    rows = parked.find(settings.Settings.load().need("postgres"), reason, limit)
    if as_json:
        answer({"items": rows}, True, "")
    else:
        columns = ["id", "reason", "type", "door", "topic", "partition", "offset", "event_time", "detail"]
        table("Parked", columns, [[row[name] for name in columns] for row in rows])


@parked_app.command("redrive")
def parked_redrive(
    reason: Annotated[str, typer.Option(help="The reason to drive again.")] = "future",
    as_json: Json = False,
) -> None:
    """Judge parked records again, by today's clock; what is admitted goes onto the log."""
    from streams import parked

    counts = parked.redrive(servers(), errors.Reason(reason))
    answer(counts, as_json, f"{counts['driven']} went onto the log, {counts['parked']} stay parked.")


@engagement_app.command("show")
def engagement_show(contact: str, as_json: Json = False) -> None:
    """One contact's row, as it is now."""
    from streams import ask

    row = ask.engagement(settings.Settings.load().need("postgres"), contact)
    answer(row, as_json, "\n".join(f"{name:18}{value}" for name, value in row.items()))


@settings_app.command("show")
def settings_show(as_json: Json = False) -> None:
    """Every setting, with its value in force."""
    from streams import ask

    shown = ask.settings_in_force(settings.Settings.load())
    answer(shown, as_json, "\n".join(f"{name}={value}" for name, value in shown.items()))


def _register_local() -> None:
    """`heed up` and `heed down` exist where there is a checkout."""
    try:
        from deploy import local
    except ImportError:
        return
    app.command("up")(local.up)
    app.command("down")(local.down)


if os.environ.get("HEED_WORKER_NAME") is None:
    _register_local()

if __name__ == "__main__":
    main()
