"""`heed keys`: who may ask the API what (CEE-14).

Called by: `streams.cli`, which registers it.
"""

from __future__ import annotations

from typing import Annotated

import typer

from streams.console import Json, actor, answer, of_api, table, with_log

app = typer.Typer(no_args_is_help=True, help="Keys of the API: made, listed, revoked, rotated.")


@app.command("create")
def keys_create(
    name: str,
    scope: Annotated[list[str], typer.Option(help="ingest, ingest:public, access or administer; several.")],
    as_json: Json = False,
) -> None:
    """Make a key and show it, once."""
    import orjson

    from api import json_body, keys

    asked = json_body.read(orjson.dumps({"name": name, "scopes": scope}), keys.Create)
    made = with_log("keys", lambda database, log: keys.create(database, log, asked, actor()))
    answer(made, as_json, f"{made['key']}\n(id {made['id']}; this is the only time that it is shown)")


@app.command("list")
def keys_list(as_json: Json = False) -> None:
    """Every key, revoked ones too; never the key itself."""
    from api import keys

    found = of_api(keys.read)
    if as_json:
        answer(found, True, "")
        return
    columns = ["id", "name", "scopes", "created_at", "created_by", "revoked_at"]
    table("Keys", columns, [[one[column] for column in columns] for one in found["items"]])


@app.command("revoke")
def keys_revoke(id: str, as_json: Json = False) -> None:
    """Take a key no more, from now on."""
    from api import keys

    found = with_log("keys", lambda database, log: keys.revoke(database, log, id, actor()))
    answer(found, as_json, f"{found['name']} is not taken any more since {found['revoked_at']}.")


@app.command("rotate")
def keys_rotate(id: str, as_json: Json = False) -> None:
    """Make another key of the same name and scopes; the old one goes on until it is revoked."""
    from api import keys

    made = with_log("keys", lambda database, log: keys.rotate(database, log, id, actor()))
    answer(made, as_json, f"{made['key']}\n(id {made['id']}; then: heed keys revoke {id})")
