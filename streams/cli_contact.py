"""`heed contact`: one contact looked at, merged, deleted, restored; its consent, what keeps mail from it.

`heed contact ID` shows it, as `heed contact show ID` does.
Called by: `streams.cli`, which registers it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from schemas import errors, hold
from streams import console, plain


class ShownByDefault(TyperGroup):
    """What is no command is a contact to show."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and self.get_command(ctx, args[0]) is None:
            args = ["show", *args]
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=ShownByDefault,
    no_args_is_help=True,
    help="One contact: `heed contact ID` shows it; merged, deleted, restored; its consent.",
)

Into = Annotated[str, typer.Option(help="The other contact.")]


@app.command("show")
def contact_show(
    contact_id: str,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Facts a page.")] = 20,
    after: Annotated[str | None, typer.Option(help="`next` of the page before.")] = None,
    as_json: console.Json = False,
) -> None:
    """One contact: its home and owner, its row, its facts, what waits for it and what failed."""
    from streams import contact as contacts

    found = contacts.look(console.chosen("postgres"), contact_id, limit, after)
    found["hold"] = _held(contact_id)
    if as_json:
        console.answer(found, True, "")
        return
    owner = found["owner"] or {"owner": "nobody", "live": False}
    said = "" if owner["live"] else " (silent)"
    lines = [f"contact {contact_id}, home {found['home']}, owner {owner['owner']}{said}"]
    if found["belongs_to"]:
        lines.append(f"belongs to {found['belongs_to']}")
    row = found["row"] or {}
    lines += [f"  {name:18}{value}" for name, value in row.items()] or ["  no row"]
    lines += _said(found["hold"])
    lines += [f"  {number:,} of {type_}" for type_, number in found["facts_by_type"].items()]
    for name in ("queued", "nudges", "errors", "parked"):
        lines += [f"{name}: {one}" for one in ([found[name]] if name == "queued" else found[name]) if one]
    lines += [
        f"{one['time']}  {one['type']:18} {one['partition']}@{one['offset']:<10} {one['source']} {one['id']}"
        for one in found["facts"]["items"]
    ]
    console.answer(None, False, "\n".join(lines))
    if found["facts"]["next"]:
        console.answer(None, False, f"more: --after {found['facts']['next']}")


@app.command("merge")
def contact_merge(contact_id: str, into: Into, as_json: console.Json = False) -> None:
    """Merge a contact into another: one row, over the facts of both."""
    from api import contacts

    asked = contacts.Into(into)
    console.tell(
        "contact",
        lambda database, log, who: contacts.merge(database, log, contact_id, asked, who),
        as_json,
    )


@app.command("unmerge")
def contact_unmerge(contact_id: str, into: Into, as_json: console.Json = False) -> None:
    """Take back every standing merge of a contact into another."""
    from api import contacts

    asked = contacts.Into(into)
    console.tell(
        "contact",
        lambda database, log, who: contacts.unmerge(database, log, contact_id, asked, who),
        as_json,
    )


@app.command("delete")
def contact_delete(contact_id: str, as_json: console.Json = False) -> None:
    """Delete a contact: it keeps its facts, and has no row until it is restored."""
    from api import contacts

    console.tell(
        "contact", lambda database, log, who: contacts.delete(database, log, contact_id, who), as_json
    )


@app.command("restore")
def contact_restore(contact_id: str, as_json: console.Json = False) -> None:
    """Restore a deleted contact, with the row that it would have had."""
    from api import contacts

    console.tell(
        "contact", lambda database, log, who: contacts.restore(database, log, contact_id, who), as_json
    )


@app.command("consent")
def contact_consent(
    contact_id: str, level: Literal["refused", "aggregate", "individual"], as_json: console.Json = False
) -> None:
    """Record a contact's own consent; of what belongs together the most restrictive holds."""
    from api import contacts

    asked = contacts.Consent(level)
    console.tell(
        "contact",
        lambda database, log, who: contacts.agree(database, log, contact_id, asked, who),
        as_json,
    )


Email = Annotated[str | None, typer.Option(help="One address; without it, the contact.")]
Off = Annotated[bool, typer.Option("--off", help="Lift it.")]


@app.command("hold")
def contact_hold(
    contact_id: str, email: Email = None, off: Off = False, as_json: console.Json = False
) -> None:
    """Put a contact, or one address of it, on hold: no mail until it is lifted."""
    _change(contact_id, "hold", email, off, as_json)


@app.command("opt-out")
def contact_opt_out(
    contact_id: str, email: Email = None, off: Off = False, as_json: console.Json = False
) -> None:
    """Record that a contact, or one address of it, wants no mail."""
    _change(contact_id, "opt_out", email, off, as_json)


@app.command("do-not-email")
def contact_do_not_email(
    contact_id: str, email: Email = None, off: Off = False, as_json: console.Json = False
) -> None:
    """Record that nobody may send mail to a contact, or to one address of it."""
    _change(contact_id, "do_not_email", email, off, as_json)


def _change(
    contact_id: str, kind: Literal["hold", "opt_out", "do_not_email"], email: str | None, off: bool,
    as_json: bool,
) -> None:  # fmt: skip
    from api import holds
    from streams import broker, master_key, vault

    chosen = console.servers()
    keys = vault.Vault(master_key.of(chosen), chosen.postgres)
    asked = holds.Hold(kind, not off, email)

    async def change(database: Any, log: Any, who: str) -> dict[str, Any]:
        await keys.open(broker.of(chosen), log.append)
        return await holds.change(database, log, contact_id, asked, who, holds.means(chosen, keys))

    console.tell("contact", change, as_json)


def _held(contact_id: str) -> dict[str, Any] | None:
    """What keeps mail from a contact; None where there is no master key to open its addresses with."""
    from api import holds
    from streams import master_key

    chosen = console.chosen("postgres")
    try:
        master = master_key.of(chosen)
    except errors.Usage:
        return None
    found = console.of_api(lambda base: holds.read(base, contact_id, holds.rules(chosen), master))
    told: dict[str, Any] = plain.told({kind: found[kind] for kind in hold.KINDS})
    return told


def _said(held: dict[str, Any] | None) -> list[str]:
    """The same in lines for people."""
    if held is None:
        return ["  what keeps mail from it: unknown without the master key"]
    return [
        f"  {kind.replace('_', ' ')}: {one['email'] or one['subject']}, {one['because'].replace('_', ' ')}"
        f" {one['since']} by {one['actor'] or one['source']} ({one['id']})"
        for kind, standing in held.items()
        for one in standing
    ]
