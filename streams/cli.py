"""`heed`: every command of the command line.

Promises: exit 0 done, 1 done with differences or failed items, 2 usage, 3 stopped on doubt, 69 a server
cannot be reached; errors are one sentence on stderr that says what to do; with `--json` the answer is one
JSON document.
Limits: `up` and `down` need a checkout of the project (the folder `deploy`). A group of commands with code of
its own has a file of its own, `cli_<noun>`.
Called by: the console script `heed`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import traceback
from typing import Annotated

import typer

from schemas import errors
from streams import (
    cli_activity,
    cli_contact,
    cli_engagement,
    cli_erase,
    cli_health,
    cli_keys,
    cli_master_key,
    cli_parked,
    cli_recompute,
    cli_session,
    cli_settings,
)
from streams.console import Json, answer, chosen, servers

HELP = "Heed: what people do with the mail they get, kept exact per contact. Errors say what to do."

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=HELP)
topics_app = typer.Typer(no_args_is_help=True, help="Heed's topics on the broker.")
app.add_typer(topics_app, name="topics")
app.add_typer(cli_parked.app, name="parked")
app.add_typer(cli_engagement.app, name="engagement")
app.add_typer(cli_health.app)
app.add_typer(cli_contact.app, name="contact")
app.add_typer(cli_session.app, name="session")
app.add_typer(cli_erase.app)
app.add_typer(cli_keys.app, name="keys")
app.add_typer(cli_master_key.app, name="master-key")
app.add_typer(cli_settings.app, name="settings")
app.add_typer(cli_recompute.app, name="recompute")


def main() -> None:
    """The console script."""
    # What libraries say of a server that is away; worker and API have it in their logs.
    logging.getLogger("aiokafka").addHandler(logging.NullHandler())
    try:
        app(standalone_mode=True)
    except errors.HeedError as error:
        sys.stderr.write(f"heed: {error}\n")
        sys.exit(error.exit_code)
    except Exception as error:
        if _away(error):
            said = str(error).strip().partition("\n")[0]
            sys.stderr.write(
                f"heed: a server went away meanwhile ({type(error).__name__}: {said}): try again.\n"
            )
            sys.exit(errors.Away.exit_code)
        # A fault of ours: its trace is for the report; the exit code must not read as "with differences"
        traceback.print_exc()
        sys.exit(errors.Doubt.exit_code)


def _away(error: Exception) -> bool:
    import aiokafka.errors
    import psycopg

    from projections import database

    if isinstance(error, psycopg.Error):
        return database.is_away(error)
    return isinstance(error, aiokafka.errors.KafkaError)


@app.command()
def worker() -> None:
    """Run one worker: intake, fold, timers, relay."""
    from streams import app as worker_app

    worker_app.run(servers())


@app.command()
def api() -> None:
    """Run the HTTP API."""
    from api import app as api_app
    from streams import process

    found = servers()
    process.set_up_logs(found.log_level, worker="api")
    api_app.serve(found)


@app.command()
def export(contact: str, as_json: Json = False) -> None:
    """Everything held about a contact, with what is sealed opened; always as JSON."""
    import orjson

    from projections import database
    from schemas import identity
    from streams import caught_up, master_key
    from streams import export as exporting

    if identity.is_contact_id(contact) is None:
        raise errors.Usage("A contact id has 1 to 64 of the characters A-Z a-z 0-9 _ . ~ -.")
    found = servers()
    with database.connect(found.postgres, database.LIVE_PATH, "heed export") as connection:
        caught_up.wait(found, connection)
        held = exporting.export(connection, contact, master_key.of(found))
    answer(held, as_json, orjson.dumps(held, option=orjson.OPT_INDENT_2).decode())


@app.command()
def migrate(as_json: Json = False) -> None:
    """Create or upgrade Heed's tables."""
    from projections.migrations import apply

    found = chosen("postgres")
    apply.upgrade(found.postgres, found)
    answer({"migrated": True}, as_json, "The tables are those of this version.")


@topics_app.command("create")
def topics_create(as_json: Json = False) -> None:
    """Create the topics that are missing, and check all."""
    from streams import broker, topic_admin

    found = chosen("kafka")
    made = asyncio.run(topic_admin.create(broker.of(found), found.homes))
    answer({"created": made}, as_json, f"Created: {', '.join(made) or 'none, all were there'}.")


@topics_app.command("check")
def topics_check(as_json: Json = False) -> None:
    """Check that the topics are as Heed needs them."""
    from streams import broker, topic_admin

    found = chosen("kafka")
    asyncio.run(topic_admin.check(broker.of(found), found.homes))
    answer({"ok": True}, as_json, "All topics are as they must be.")


@topics_app.command("refill")
def topics_refill(as_json: Json = False) -> None:
    """Write every fact back onto an empty log, after Kafka was lost."""
    from streams import refill

    counts = refill.run(servers())
    told = ", ".join(f"{topic}: {number}" for topic, number in counts.items())
    answer({"written": counts}, as_json, f"Facts written back: {told}. Start the workers.")


@topics_app.command("accept-loss")
def topics_accept_loss(topic: str, as_json: Json = False) -> None:
    """Read on at the start of a topic whose records were deleted unread; says how many are lost."""
    from streams import losses

    lost = losses.accept(servers(), topic)
    told = ", ".join(f"partition {part}: {number}" for part, number in lost.items()) or "nothing was lost"
    answer({"lost": lost}, as_json, f"Records given up in {topic}: {told}.")


@app.command()
def replay(
    check: Annotated[
        bool, typer.Option("--check", help="Compare with the live tables; change nothing.")
    ] = False,
    cancel: Annotated[bool, typer.Option("--cancel", help="Drop what a replay has built so far.")] = False,
    back: Annotated[bool, typer.Option("--back", help="Return to the tables of before the replay.")] = False,
    drop_old: Annotated[
        bool, typer.Option("--drop-old", help="Drop the tables of before the replay.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Fold the log anew beside the live tables, and put the result in their place."""
    from streams import replay_command

    if check + cancel + back + drop_old > 1:
        raise errors.Usage("Say one of --check, --cancel, --back and --drop-old, or none.")
    found = chosen("postgres") if cancel or drop_old else servers()
    done = replay_command.run(found, check=check, cancel=cancel, back=back, drop_old=drop_old, quiet=as_json)
    answer(done.told, as_json, done.sentence)
    sys.exit(0 if done.clean else 1)


cli_engagement.app.command("run-queue")(cli_recompute.run_queue)
app.command("schedules")(cli_settings.schedules)
app.command("audit")(cli_activity.audit)
cli_contact.app.command("activity")(cli_activity.contact_activity)


def _register_local() -> None:
    """`heed up` and `heed down` exist where there is a checkout."""
    try:
        from deploy import local
    except ImportError:
        return
    app.command("up")(local.up)
    app.command("down")(local.down)


if os.environ.get("HEED_WORKER_NAME") is None:
    _register_local()

if __name__ == "__main__":
    main()
