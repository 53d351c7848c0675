"""The settings that are changed while Heed runs, as a page.

Promises: a value is taken or refused by the API's own rules and words; a change is in force when it is
answered, and how far the rows have followed it is shown.
Routes of `api.console.routes`.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Final

from litestar import Response
from litestar.response import Redirect

from api import problems, routing, settings
from api.console import forms, pages, sessions
from schemas import settings as declared

PATH: Final = "/console/settings"
_FIELDS: Final = {one.name: one for one in dataclasses.fields(declared.Settings)}


async def show(request: routing.Request) -> Response[str]:
    """Every one of them."""
    return await _page(request)


async def change(request: routing.Request, name: str) -> Response[str] | Redirect:
    """Changes one; a value that it does not take is told beside it."""
    value = (await forms.read(request)).one("value")
    parts = routing.parts(request)
    try:
        held = await settings.change(parts.database, parts.log, name, value, routing.actor(request))
    except problems.Problem as problem:
        if problem.kind is not problems.WRONG_VALUE:
            raise
        return await _page(request, [pages.Mistake(name, problem.detail)], {name: value})
    told = f"{_title(name)} is {declared.written(held['value'])} now."
    return pages.to(PATH, sessions.current(request), told)


async def _page(
    request: routing.Request,
    mistakes: list[pages.Mistake] | None = None,
    typed: dict[str, str] | None = None,
) -> Response[str]:
    database = routing.parts(request).database
    items: list[dict[str, Any]] = []
    for name in declared.CHANGING:
        held = await settings.read(database, name)
        about = _FIELDS[name].metadata
        items.append(
            held | {
                "title": _title(name), "about": about["about"], "takes": about["takes"],
                "switch": isinstance(held["value"], bool), "held": declared.written(held["value"]),
                "typed": (typed or {}).get(name, declared.written(held["value"])),
            }
        )  # fmt: skip
    return pages.page(
        request, "settings.html", "Settings", status=400 if mistakes else 200, mistakes=mistakes or [],
        items=items,
    )  # fmt: skip


def _title(name: str) -> str:
    return name.replace("_", " ").capitalize()
