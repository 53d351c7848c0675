"""Commands that look: `heed doctor`, `heed trace`, `heed contact`.

Called by: `streams.cli`, which registers them.
"""

from __future__ import annotations

import logging
import sys

import typer

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
