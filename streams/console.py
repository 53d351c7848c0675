"""What every command of `heed` shares: how it answers, which settings it takes, what it asks of the API.

Promises: an answer is one JSON document or text for people, never both.
Called by: `streams.cli` and the groups of commands beside it (`streams.cli_<noun>`).
"""

from __future__ import annotations

import asyncio
import getpass
import logging
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any

import orjson
import rich.console
import rich.table
import structlog
import typer

from schemas import errors, settings

Json = Annotated[bool, typer.Option("--json", help="Answer with one JSON document.")]


def answer(value: Any, as_json: bool, text: str) -> None:
    """Print an answer: as JSON, or as a sentence."""
    sys.stdout.write((orjson.dumps(value, default=str).decode() if as_json else text) + "\n")


def table(title: str, columns: list[str], rows: list[list[Any]]) -> None:
    """Print rows for people."""
    made = rich.table.Table(*columns, title=title)
    for row in rows:
        made.add_row(*("" if cell is None else str(cell) for cell in row))
    rich.console.Console().print(made)


def chosen(*needed: str) -> settings.Settings:
    """The settings, with what is needed; a local stack that runs in HEED_HOME names its servers itself."""
    env = dict(os.environ)
    stack = Path(env.get("HEED_HOME", ".heed")) / "stack.json"
    if stack.is_file():
        told = orjson.loads(stack.read_bytes())
        env = {
            "HEED_KAFKA": told["bootstrap"],
            "HEED_POSTGRES": told["dsn"],
            "HEED_GROUP": told["group"],
        } | env
        key = stack.with_name("master-key")
        if key.is_file() and not any(env.get(settings.variable(name)) for name in settings.MASTER_KEYS):
            env["HEED_MASTER_KEY_FILE"] = str(key)
    return settings.Settings.load(env).need(*needed)


def servers() -> settings.Settings:
    """The settings, with both servers named."""
    return chosen("kafka", "postgres")


def of_api(question: Callable[[Any], Awaitable[Any]]) -> Any:
    """Ask what the API asks, without HTTP; its problems become errors of the command line."""
    from api import problems
    from api import servers as of_api

    # The answer is for people or programs; what libraries and servers say on the way is not part of it.
    logging.getLogger("psycopg.pool").setLevel(logging.CRITICAL)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("CRITICAL"))

    async def run() -> Any:
        async with of_api.Database(chosen("postgres").postgres) as database:
            return await question(database)

    try:
        return asyncio.run(run())
    except problems.Problem as problem:
        kind = errors.Away if problem.kind.status == 503 else errors.Usage
        raise kind(problem.detail) from None


def with_log(name: str, question: Callable[[Any, Any], Awaitable[Any]]) -> Any:
    """As `of_api`, with a way to the log: for commands that tell of something."""
    from streams import broker, producer

    async def ask(database: Any) -> Any:
        out = producer.LogProducer(broker.of(servers()), f"heed-{name}")
        try:
            return await question(database, out)
        finally:
            await out.stop()

    return of_api(ask)


def tell(name: str, do: Callable[[Any, Any, str], Awaitable[dict[str, Any]]], as_json: bool) -> None:
    """Tell of something, on the word of whoever gives the command; answers what holds then, and what was
    told."""
    found = with_log(name, lambda database, log: do(database, log, actor()))
    said = ", ".join(f"{one} {value}" for one, value in found.items() if one != "events")
    told = ", ".join(event["id"] for event in found["events"])
    answer(found, as_json, f"{said} ({f'told as {told}' if told else 'so it was: nothing was told'})")


def actor() -> str:
    """Who gives a command at this machine, as it is recorded."""
    try:
        return f"cli:{getpass.getuser()}"
    except (OSError, KeyError):
        return "cli"
