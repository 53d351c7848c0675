"""`heed engagement`: the engagement of contacts, as the API answers it.

Called by: `streams.cli`, which registers it.
"""

from __future__ import annotations

import sys
from datetime import datetime
from typing import Annotated, Any

import typer

from schemas import errors
from streams.console import Json, answer, chosen, of_api, table

app = typer.Typer(no_args_is_help=True, help="The engagement of contacts.")

AsOf = Annotated[str | None, typer.Option("--as-of", help="A past instant, as 2026-01-31T09:00:00Z.")]


@app.command("show")
def engagement_show(contact: str, as_of: AsOf = None, as_json: Json = False) -> None:
    """One contact's row, as it is now or was at a past instant."""
    from api import engagement

    row = of_api(lambda database: engagement.read(database, contact, _instant(as_of)))
    answer(row, as_json, "\n".join(f"{name:18}{value}" for name, value in row.items()))


@app.command("calculate")
def engagement_calculate(contact: str, as_json: Json = False) -> None:
    """One contact's row computed from the facts, held against the stored one, which its owner then mends;
    exit 1 if they differ."""
    from api import engagement

    homes = chosen().homes
    row = of_api(lambda database: engagement.calculate(database, contact, homes))
    answer(row, as_json, "\n".join(f"{name:18}{value}" for name, value in row.items()))
    sys.exit(1 if row["differs"] else 0)


@app.command("refresh-expired")
def engagement_refresh_expired(as_json: Json = False) -> None:
    """Have the owners look at every row that is due (for HEED_TIMERS=off); says how many were."""
    from api import engagement

    refreshed = of_api(engagement.refresh_expired)
    answer({"refreshed": refreshed}, as_json, f"{refreshed} rows were due and have been refreshed.")


@app.command("explain")
def engagement_explain(
    contact: str,
    as_of: AsOf = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many facts of a number.")] = 1_000,
    as_json: Json = False,
) -> None:
    """The facts behind each number and date of a contact's row."""
    from api import explain

    found = of_api(lambda database: explain.explain(database, contact, _instant(as_of), limit))
    if as_json:
        answer(found, True, "")
        return
    rows = [[field, "", *fact.values()] for field in explain.FIELDS for fact in found[field]]
    for field, units in found["together"].items():
        for number, unit in enumerate(units, 1):
            rows += [[field, f"together {number}", *fact.values()] for fact in unit]
    title = f"Behind the engagement of {contact}" + (", cut short" if found["truncated"] else "")
    table(title, ["of", "", *explain.FACT], rows)


@app.command("list")
def engagement_list(
    filters: Annotated[
        list[str] | None, typer.Argument(help="As in the address: frequency_gte=3 recency_lt=30 …")
    ] = None,
    sort: Annotated[str, typer.Option(help="A column; with - before it, falling.")] = "contact_id",
    limit: Annotated[int, typer.Option(min=1, max=1_000)] = 100,
    after: Annotated[str | None, typer.Option(help="`next` of the page before.")] = None,
    as_json: Json = False,
) -> None:
    """Contacts by their engagement, filtered and sorted, page by page."""
    from api import engagement, engagement_list

    query = dict(_filter(text) for text in filters or [])
    query |= {"sort": sort, "limit": str(limit)} | ({} if after is None else {"after": after})
    homes = chosen().homes

    async def ask(database: Any) -> Any:
        return await engagement_list.find(database, engagement_list.read_query(query), homes)

    page = of_api(ask)
    if as_json:
        answer(page, True, "")
        return
    columns = [name for name in engagement.ROW if name != "date_calculated"]
    table("Engagement", columns, [[row[name] for name in columns] for row in page["items"]])
    if page["next"]:
        answer(page, False, f"More: --after {page['next']}")


def _filter(text: str) -> tuple[str, str]:
    from api import engagement_list

    name, equals, value = text.partition("=")
    if not equals or name not in engagement_list.FILTERS:
        takes = "a column, or a column with _gte, _gt, _lte or _lt, then = and a value, as frequency_gte=3"
        raise errors.Usage(f"A filter is {takes}. Columns: {', '.join(engagement_list.COLUMNS)}.")
    return name, value


def _instant(as_of: str | None) -> datetime | None:
    from api import parameters

    return None if as_of is None else parameters.instant("as_of", as_of)
