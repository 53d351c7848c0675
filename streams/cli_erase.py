"""`heed erase`: a contact forgotten for ever (LAW-6).

Called by: `streams.cli`, which registers it.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from schemas import errors
from streams import console

SECONDS = 60.0  # for which it waits until nothing is held any more

app = typer.Typer()


@app.command("erase")
def erase(
    contact_id: str,
    why: Annotated[str, typer.Option(help="The reason, kept with who asked for it.")] = "",
    whole: Annotated[bool, typer.Option(help="Of a merged contact: all of its contact.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: console.Json = False,
) -> None:
    """Erase a contact and all that belongs to it, for ever; exit 1 if something is still held after a
    minute."""
    from api import erasures

    if not yes:
        whole = _asked(contact_id) or whole
    asked = erasures.Erase(why, whole)

    async def do(database: Any, log: Any) -> dict[str, Any]:
        told = await erasures.erase(database, log, contact_id, asked, console.actor())
        return told | {"held": await erasures.settled(database, told["contact_id"], SECONDS)}

    found = console.with_log("erase", do)
    held = found["held"]
    said = f"contact {found['contact_id']} is erased ({found['subjects']:,} subjects now)"
    if any(held.values()):
        said += f"; still held, and let go of by the workers: {held['facts']:,} facts, {held['keys']:,} keys"
    console.answer(found, as_json, said)
    sys.exit(1 if any(held.values()) else 0)


def _asked(contact: str) -> bool:
    """Ask; answers whether all of another contact's is meant. Raises `errors.Usage` for a no."""
    from api import erasures

    if not sys.stdin.isatty():
        raise errors.Usage("Erasing cannot be undone: say --yes, or give the command at a terminal.")
    root, members = console.of_api(lambda database: erasures.covered(database, contact))
    if root != contact:
        sys.stderr.write(f"{contact} belongs to {root}: all of {root} is erased.\n")
    others = f", with {len(members):,} contacts and sessions that belong to it" if members else ""
    sys.stderr.write(f"Contact {root} is erased for ever{others}. This cannot be undone.\n")
    if input("Its id, to go on: ").strip() != root:
        raise errors.Usage("Nothing was erased.")
    return bool(root != contact)
