"""`heed session`: sessions created, started, linked to a contact and parted from it (EVT-5).

Called by: `streams.cli`, which registers it.
"""

from __future__ import annotations

from typing import Annotated

import typer

from streams import console

app = typer.Typer(no_args_is_help=True, help="Sessions: visits of somebody who need not be known yet.")

To = Annotated[str, typer.Option(help="The contact.")]


@app.command("show")
def session_show(session_id: str, as_json: console.Json = False) -> None:
    """Whose a session is, when it was created, when and how often started."""
    from api import sessions

    found = console.of_api(lambda database: sessions.read(database, session_id))
    console.answer(found, as_json, "\n".join(f"{name:12}{value}" for name, value in found.items()))


@app.command("create")
def session_create(
    session_id: Annotated[str | None, typer.Argument(help="Without one, Heed makes it.")] = None,
    as_json: console.Json = False,
) -> None:
    """Create a session."""
    from api import sessions

    asked = sessions.Create(session_id)
    console.tell("session", lambda database, log, who: sessions.create(database, log, asked, who), as_json)


@app.command("start")
def session_start(session_id: str, as_json: console.Json = False) -> None:
    """A visit begins in a session."""
    from api import sessions

    console.tell(
        "session", lambda database, log, who: sessions.start(database, log, session_id, who), as_json
    )


@app.command("link")
def session_link(session_id: str, to: To, as_json: console.Json = False) -> None:
    """Link a session to a contact: what was told of it, before and after, is the contact's."""
    from api import sessions

    asked = sessions.To(to)
    console.tell(
        "session",
        lambda database, log, who: sessions.link(database, log, session_id, asked, who),
        as_json,
    )


@app.command("unlink")
def session_unlink(session_id: str, to: To, as_json: console.Json = False) -> None:
    """Take back every standing link of a session to a contact."""
    from api import sessions

    asked = sessions.To(to)
    console.tell(
        "session",
        lambda database, log, who: sessions.unlink(database, log, session_id, asked, who),
        as_json,
    )
