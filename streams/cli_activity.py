"""`heed contact activity` and `heed audit`: what happened to a contact, and what people and keys changed.

Called by: `streams.cli`, which registers them.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

import typer

from schemas import envelope
from streams import console

Actor = Annotated[str | None, typer.Option(help="Of this actor, as cli:ada or key:<id>.")]
Since = Annotated[str | None, typer.Option("--from", help="From this instant on.")]
Until = Annotated[str | None, typer.Option("--to", help="Before this instant.")]
After = Annotated[str | None, typer.Option(help="`next` of the page before.")]
Limit = Annotated[int, typer.Option(min=1, max=1_000)]


def audit(
    actor: Actor = None,
    type_: Annotated[str | None, typer.Option("--type", help="Of this type, as setting.changed.")] = None,
    about: Annotated[str | None, typer.Option(help="Of this, as setting:zone or contact:ada.")] = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 100,
    after: After = None,
    as_json: console.Json = False,
) -> None:
    """What people and keys changed, the newest first: who, what, when, before and after."""
    from api import audit as changes
    from api import pages

    given = {"actor": actor, "type": type_, "about": about, "from": since, "to": until, "after": after}
    query = _query(given, limit)

    async def ask(database: Any) -> dict[str, Any]:
        listing, wanted = changes.asked(database, query), pages.read(query, "", changes.cursor)
        return await pages.answer(listing, wanted, {})

    found = console.of_api(ask)
    _show(found, "Changes", ("time", "actor", "type", "about", "before", "after"), as_json)


def contact_activity(
    contact_id: str,
    type_: Annotated[str | None, typer.Option("--type", help="As Email or Contact.")] = None,
    action: Annotated[str | None, typer.Option(help="As Output or Merge.")] = None,
    feature: Annotated[str | None, typer.Option(help="As Tracking.")] = None,
    status: Annotated[str | None, typer.Option(help="Scheduled, Completed, Failed or Cancelled.")] = None,
    actor: Actor = None,
    since: Since = None,
    until: Until = None,
    as_of: Annotated[str | None, typer.Option("--as-of", help="As it was at a past instant.")] = None,
    limit: Limit = 100,
    after: After = None,
    as_json: console.Json = False,
) -> None:
    """What happened to a contact and to what belongs to it, the newest first."""
    from api import activity, pages

    given = {"type": type_, "action": action, "feature": feature, "status": status, "actor": actor}
    query = _query({**given, "from": since, "to": until, "as_of": as_of, "after": after}, limit)

    async def ask(database: Any) -> dict[str, Any]:
        wanted = pages.read(query, "", activity.cursor)
        listing, beside = await activity.asked(database, contact_id, query)
        return await pages.answer(listing, wanted, beside)

    found = console.of_api(ask)
    merged = f", into which {contact_id} was merged" if "merged_into" in found else ""
    columns = ("time", "text", "status", "action", "feature", "actor", "subject")
    _show(found, f"What happened to {found['contact_id']}{merged}", columns, as_json)


def _query(given: Mapping[str, str | None], limit: int) -> dict[str, str]:
    return {name: value for name, value in given.items() if value is not None} | {"limit": str(limit)}


def _written(value: object) -> object:
    return envelope.format_time(value) if isinstance(value, datetime) else value


def _show(found: dict[str, Any], title: str, columns: tuple[str, ...], as_json: bool) -> None:
    items = [{name: _written(value) for name, value in one.items()} for one in found["items"]]
    if as_json:
        console.answer({**found, "items": items}, True, "")
        return
    console.table(title, [*columns], [[one[name] for name in columns] for one in items])
    if found["next"]:
        console.answer(None, False, f"More: --after {found['next']}")
