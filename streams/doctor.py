"""The doctor: looks at everything that Heed leans on, and says what is well and what is not, with what to do.

Promises: changes nothing but for one empty command (see `doctor_kafka.append`). Looks work with either server
away, suspended or empty: each takes at most `SECONDS`, all run side by side after one look whether the
servers answer, and one that gets no answer in its time says so. No finding holds an address, a name or a
payload.
Limits: the clock, disk and settings are those of the machine and the environment it runs in.
Called by: `heed doctor`.
"""

from __future__ import annotations

import dataclasses
import enum
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import aiokafka.errors
import psycopg

from schemas import errors, settings

SECONDS: Final = 5.0
KAFKA: Final = "kafka"
POSTGRES: Final = "postgres"


class State(enum.StrEnum):
    """How a thing is: as it must be, not so, or not to be known now."""

    OK = "ok"
    WRONG = "wrong"
    UNKNOWN = "unknown"


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """What a look found, in words, and where something is wrong, what to do."""

    check: str
    state: State
    says: str
    do: str = ""

    def as_dict(self) -> dict[str, str]:
        return {name: str(getattr(self, name)) for name in ("check", "state", "says", "do")}


@dataclasses.dataclass(frozen=True, slots=True)
class Patient:
    """What is looked at, from where, by which clock."""

    chosen: settings.Settings
    stated: frozenset[str] = frozenset()  # settings that the environment gives
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)


@dataclasses.dataclass(frozen=True, slots=True)
class Check:
    """One look; `needs` names the servers without which it cannot be taken."""

    name: str
    look: Callable[[Patient], list[Finding]]
    needs: tuple[str, ...] = ()


def ok(check: str, says: str) -> list[Finding]:
    return [Finding(check, State.OK, says)]


def wrong(check: str, says: str, do: str) -> Finding:
    return Finding(check, State.WRONG, says, do)


def examine(
    patient: Patient, servers: Mapping[str, Check], checks: Sequence[Check], seconds: float = SECONDS
) -> list[Finding]:
    """Every finding, in the order of the checks; takes at most twice `seconds`."""
    first = _side_by_side(patient, list(servers.values()), seconds)
    away = {
        server
        for server, check in servers.items()
        if any(one.state is not State.OK for one in first[check.name])
    }
    found = _side_by_side(patient, [one for one in checks if not away.intersection(one.needs)], seconds)
    for check in checks:
        missing = [server for server in check.needs if server in away]
        if missing:
            says = f"not to be known while {' and '.join(missing)} is away"
            found[check.name] = [Finding(check.name, State.UNKNOWN, says, "Mend that first.")]
    return [one for check in (*servers.values(), *checks) for one in (first | found)[check.name]]


def exit_code(found: Sequence[Finding], servers: Mapping[str, Check]) -> int:
    """0: all is well; 1: something is not; 69: no server can be reached."""
    names = {check.name for check in servers.values()}
    reached = [one.check for one in found if one.check in names and one.state is State.OK]
    if not reached:
        return errors.Away.exit_code
    return 0 if all(one.state is State.OK for one in found) else 1


def _side_by_side(patient: Patient, checks: Sequence[Check], seconds: float) -> dict[str, list[Finding]]:
    answers: dict[str, list[Finding]] = {}

    def look(check: Check) -> None:
        answers[check.name] = _guarded(patient, check)

    threads = [
        threading.Thread(target=look, args=(check,), name=f"doctor {check.name}", daemon=True)
        for check in checks
    ]
    for thread in threads:
        thread.start()
    until = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    late = f"no answer within {seconds:.0f} s"
    do = "The server it asks stands still or is overloaded: look at its log."
    return {check.name: answers.get(check.name) or [wrong(check.name, late, do)] for check in checks}


def _guarded(patient: Patient, check: Check) -> list[Finding]:
    """What a check finds; what it raises becomes a finding, without values."""
    try:
        return check.look(patient)
    except errors.HeedError as error:
        return [wrong(check.name, str(error).rstrip("."), "Follow that sentence, then ask again.")]
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName, psycopg.errors.UndefinedColumn):
        return [wrong(check.name, "Heed's tables are not those of this version", "Run `heed migrate`.")]
    except psycopg.errors.InsufficientPrivilege:
        return [wrong(check.name, "the role may not read this", "HEED_POSTGRES names the tables' owner.")]
    except (psycopg.Error, aiokafka.errors.KafkaError, OSError) as error:
        says = f"could not be looked at ({type(error).__name__})"
        return [wrong(check.name, says, "Look at the server's log, then ask again.")]


def first(rows: Sequence[Sequence[Any]]) -> Any:
    """The one value of an answer of one row and one column."""
    return rows[0][0]
