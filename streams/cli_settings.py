"""`heed settings` and `heed schedules`: what holds, what is changed, what is done by the clock.

Called by: `streams.cli`, which registers them.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import typer

from schemas import errors, settings
from streams.console import Json, actor, answer, chosen, of_api, table, with_log

app = typer.Typer(no_args_is_help=True, help="The settings in force.")


@app.command("show")
def settings_show(as_json: Json = False) -> None:
    """Every setting, with its value in force; passwords are masked."""
    found = chosen()
    shown = {settings.variable(one.name): str(getattr(found, one.name)) for one in dataclasses.fields(found)}
    shown |= {name: "***" for name in map(settings.variable, settings.SECRET) if shown[name]}
    shown["HEED_POSTGRES"] = re.sub(r"(?<=:)[^:@/]+(?=@)|(?<=password=)\S+", "***", shown["HEED_POSTGRES"])
    if found.postgres:
        shown |= {settings.variable(name): value for name, value in _in_force().items()}
    answer(shown, as_json, "\n".join(f"{name}={value}" for name, value in shown.items()))


@app.command("get")
def settings_get(name: str, as_json: Json = False) -> None:
    """A setting that is changed while Heed runs: value, since when, by whom, how far a change has come."""
    from api import settings as of_settings

    found = of_api(lambda database: of_settings.read(database, name))
    answer(found, as_json, _told(found))


@app.command("set", context_settings={"ignore_unknown_options": True})
def settings_set(name: str, value: str, as_json: Json = False) -> None:
    """Change a setting while Heed runs; everyone is computed anew, in steps, where rows depend on it."""
    from api import settings as of_settings

    found = with_log(
        "settings", lambda database, log: of_settings.change(database, log, name, value, actor())
    )
    answer(found, as_json, _told(found))


def schedules(as_json: Json = False) -> None:
    """When each schedule fired last, what came of it, and when it fires next."""
    from api import schedules as of_schedules

    found = of_api(of_schedules.read)
    if as_json:
        answer(found, True, "")
        return
    columns = ["name", "cron", "last_slot", "outcome", "owner", "next_slot"]
    table("Schedules", columns, [[one[column] for column in columns] for one in found["items"]])


def _in_force() -> dict[str, str]:
    """What the registry says; the environment's words where the database is away."""
    from api import settings as of_settings

    async def read(database: Any) -> dict[str, str]:
        found = [await of_settings.read(database, name) for name in settings.CHANGING]
        return {one["name"]: str(one["value"]) for one in found}

    try:
        values: dict[str, str] = of_api(read)
    except errors.Away:
        return {}
    return values


def _told(found: dict[str, Any]) -> str:
    return "\n".join(f"{name:10}{value}" for name, value in found.items())
