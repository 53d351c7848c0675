"""`heed master-key`: which master keys are in use, and another one in their place.

Called by: `streams.cli`, which registers it.
"""

from __future__ import annotations

import sys
from typing import Any

import typer

from streams.console import Json, answer, chosen, servers, table

app = typer.Typer(no_args_is_help=True, help="The master key, which wraps every other.")


@app.command("show")
def master_key_show(as_json: Json = False) -> None:
    """The master keys in use, by id, and how many keys each wraps; never a key."""
    from streams import master_key, rotation

    found = chosen("postgres")
    _tell(rotation.show(found, master_key.of(found)), as_json, "")


@app.command("rotate")
def master_key_rotate(as_json: Json = False) -> None:
    """Wrap every key anew with the current master key; exit 1 if some are under another still."""
    from streams import master_key, rotation

    found = servers()
    told = rotation.rotate(found, master_key.of(found))
    others = sum(one["keys"] for one in told["items"] if not one["current"])
    says = f"{told['rewrapped']} keys wrapped anew."
    if others:
        says += f" {others} are under another one still: start every process with the new, then run it again."
    _tell(told, as_json, says)
    sys.exit(1 if others else 0)


def _tell(told: dict[str, Any], as_json: bool, says: str) -> None:
    if as_json:
        answer(told, True, "")
        return
    columns = ["master", "keys", "current", "opens"]
    table(f"Master keys (current: {told['current']})", columns,
          [[one[column] for column in columns] for one in told["items"]])  # fmt: skip
    answer(None, False, f"{says} {told['destroyed']} keys are destroyed.".strip())
