"""Commands that look: `heed doctor`, `heed trace`.

Called by: `streams.cli`, which registers them.
"""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from schemas import envelope
from streams import console

app = typer.Typer()


@app.command()
def doctor(as_json: console.Json = False) -> None:
    """Look at all that Heed leans on: each line is ok, or what is wrong and what to do."""
    from schemas import settings
    from streams import doctor as doctor_looks
    from streams import doctors

    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what is away is told once, by us
    patient = doctor_looks.Patient(console.servers(), settings.stated())
    found = doctor_looks.examine(patient, doctors.SERVERS, doctors.ALL)
    if as_json:
        console.answer({"items": [one.as_dict() for one in found]}, True, "")
    else:
        for one in found:
            sys.stdout.write(f"{one.state:8}{one.check}: {one.says}\n")
            if one.do:
                sys.stdout.write(f"{'':8}→ {one.do}\n")
    sys.stdout.flush()
    sys.exit(doctor_looks.exit_code(found, doctors.SERVERS))


@app.command()
def trace(
    event_id: str,
    source: Annotated[str | None, typer.Option(help="Only events of this source.")] = None,
    at: Annotated[datetime | None, typer.Option(help="About when it was sent (UTC), if known.")] = None,
    as_json: console.Json = False,
) -> None:
    """Where an event is: door, log, and what became of it; never what it says. Exit 1 if nothing is known."""
    from streams import event_trace

    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    when = at if at is None else at.replace(tzinfo=at.tzinfo or UTC)
    found = event_trace.find(console.servers(), event_id, source, when)
    if as_json:
        console.answer(found.as_dict(), True, "")
    else:
        lines = [f"{_when(one.at)}  {one.station:10}{_where(one)}{one.says}" for one in found.stations]
        searched = [f"searched: {one}" for one in found.searched]
        console.answer(None, False, "\n".join([*lines, found.says, *searched]))
    sys.exit(0 if found.found else 1)


def _when(at: datetime | None) -> str:
    return "" if at is None else envelope.format_time(at.astimezone(UTC))


def _where(one: Any) -> str:
    named = f"{one.source or ''} {one.subject or ''}".strip()
    place = "" if one.topic is None else f"{one.topic} {one.partition}@{one.offset}"
    return "  ".join(text for text in (place, named, "") if text or not place) + " "
