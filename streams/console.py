"""What every command of `heed` shares: how it answers, which settings it takes, what it asks of the API.

Promises: an answer is one JSON document or text for people, never both.
Called by: `streams.cli` and the groups of commands beside it (`streams.cli_<noun>`).
"""

from __future__ import annotations

import asyncio
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
