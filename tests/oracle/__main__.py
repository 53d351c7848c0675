"""Holds a running stack against the oracle: `python tests/oracle --stack .heed/stack.json`.

Promises: changes nothing; ends with "k of N rows differ", exit 0 if nothing at all differs, else 1; 69 when
the stack does not answer. Works under traffic: rows and positions are of one snapshot.

Called by `make oracle`.
"""

from __future__ import annotations

import argparse
import base64
import itertools
import json
import os
import sys
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import confluent_kafka
import psycopg

if not __package__:  # started as a folder: the checkout has to be importable, not our own files by bare names
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from tests.oracle import audit, broker, database, doors, keys

SHOWN = 20


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="oracle", description="Compare a running stack's rows with the oracle."
    )
    home = Path(os.environ.get("HEED_HOME", ".heed"))
    parser.add_argument("--stack", type=Path, default=home / "stack.json", help="the stack's stack.json")
    parser.add_argument(
        "--wait", type=float, default=60.0, help="seconds to wait for the readers to catch up"
    )
    options = parser.parse_args(arguments)
    try:
        stack = json.loads(options.stack.read_bytes())
        return check(stack["dsn"], stack["bootstrap"], options.wait, _master(options.stack))
    except FileNotFoundError:
        print(f"{options.stack} is not there: start the stack with 'make up' first", file=sys.stderr)
    except (psycopg.OperationalError, confluent_kafka.KafkaException, LookupError, TimeoutError) as error:
        print(f"the stack does not answer: {error}", file=sys.stderr)
    return 69


def check(dsn: str, bootstrap: str, wait: float = 60.0, master: Sequence[bytes] = ()) -> int:
    """Print what differs and return the exit code; with the master key sealed parts are opened and proved."""
    started = time.monotonic()
    if not _at_rest(dsn, bootstrap, started + wait):
        print(f"still not at rest after {wait:.0f} s: what is on its way is left out")
    seen = database.snapshot(dsn)
    held = keys.Keys(lambda: broker.records(bootstrap, "keys"), master) if master else None
    log = audit.read_log(broker.log(bootstrap), seen.positions, held)
    records = itertools.chain.from_iterable(broker.records(bootstrap, door) for door in doors.DOORS)
    ahead = timedelta(seconds=float(os.environ.get("HEED_AHEAD_SECONDS", "300")))
    judged, waiting, unaccounted = audit.account(records, seen, log, ahead)
    report = audit.compare(seen, log)

    _list("log", log.wrong)
    _list("doors", unaccounted)
    _list("rows", report.rows)
    print(
        f"{len(log.facts):,} facts read, {log.ahead:,} not folded yet; {judged:,} door records judged,"
        f" {waiting:,} not taken in yet; {report.skipped:,} contacts left out (a nudge waits);"
        f" at {seen.at.isoformat(timespec='milliseconds')}, {time.monotonic() - started:.1f} s"
    )
    print(
        f"{len(log.wrong):,} records of the log are wrong,"
        f" {len(unaccounted):,} door records are not accounted for"
    )
    print(f"{report.differing} of {report.contacts} rows differ")
    return 1 if report.differing or log.wrong or unaccounted else 0


def _master(stack: Path) -> list[bytes]:
    """The master keys of a local stack; none where it got them elsewhere."""
    file = Path(os.environ.get("HEED_MASTER_KEY_FILE") or stack.with_name("master-key"))
    return [base64.b64decode(line) for line in file.read_text().split()] if file.is_file() else []


def _at_rest(dsn: str, bootstrap: str, deadline: float) -> bool:
    """Whether what stands on the doors now is in the log, and what then stands on the log is in the rows."""
    doors_end = {
        (door, part): end for door in doors.DOORS for part, end in broker.ends(bootstrap, door).items()
    }
    if not database.wait_past(dsn, doors_end, deadline):
        return False
    log_end = {("facts", part): end for part, end in broker.ends(bootstrap, "facts").items()}
    return database.wait_past(dsn, log_end, deadline) and database.wait_for_nudges(dsn, deadline)


def _list(name: str, lines: list[str]) -> None:
    for line in lines[:SHOWN]:
        print(f"{name}: {line}")
    if len(lines) > SHOWN:
        print(f"{name}: … and {len(lines) - SHOWN:,} more")


if __name__ == "__main__":
    sys.exit(main())
