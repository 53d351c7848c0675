"""Settings: `HEED_…` variables, read once, frozen.

A wrong value is refused with a sentence that names the variable and what it takes; an empty one counts as
not set. What people change while Heed runs (the period, the zone) is a fact; the environment gives its first
value.
Called by every entry point, which passes the settings on; nobody else reads the environment.
"""

import os
import zoneinfo
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self

import cronsim

from schemas import errors


def _number(low: int, high: int) -> tuple[str, Callable[[str], int]]:
    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) < 10 and low <= int(text) <= high):
            raise ValueError
        return int(text)

    return f"a whole number from {low} to {high}", parse


def _choice(**values: Any) -> tuple[str, Callable[[str], Any]]:
    return " or ".join(values), values.__getitem__


def _url(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise ValueError
    return text


def _zone(text: str) -> str:
    zoneinfo.ZoneInfo(text)
    return text


def _servers(text: str) -> str:
    for server in text.split(","):
        host, colon, port = server.strip().rpartition(":")
        if not (host and colon and port.isdigit()):
            raise ValueError
    return text


def _dsn(text: str) -> str:
    if "=" not in text and not text.startswith(("postgresql://", "postgres://")):
        raise ValueError
    return text


# A setting that has a name of its own elsewhere, which is read where ours says nothing.
STANDARD: Final = {"otlp_endpoint": "OTEL_EXPORTER_OTLP_ENDPOINT"}


def _cron(text: str) -> str:
    try:
        next(cronsim.CronSim(text, datetime(2000, 1, 1, tzinfo=UTC)))
    except (cronsim.CronSimError, StopIteration):
        raise ValueError from None
    return text


_SWITCH = _choice(on=True, off=False)
_YES = _choice(**{"true": True, "false": False, "on": True, "off": False, "1": True, "0": False})
_LEVELS = ("debug", "info", "warning", "error")


def _setting(
    default: Any, takes: tuple[str, Callable[[str], Any]], about: str, *, changes: bool = False
) -> Any:
    """`changes`: people change it while Heed runs; the environment only gives its first value."""
    told = {"takes": takes[0], "parse": takes[1], "about": about, "changes": changes}
    return field(default=default, metadata=told)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings; the environment's name of each is HEED_ and the field's name in capitals."""

    kafka: str = _setting("", ("host:port, several with commas", _servers), "Kafka's bootstrap servers")
    postgres: str = _setting("", ("a DSN, as postgresql://user@host:5432/db", _dsn), "the database")
    home: Path = _setting(Path(".heed"), ("a directory", Path), "where the local stack keeps its data")
    homes: int = _setting(8, _number(1, 1024), "partitions of the log; fixed once the topics exist")
    zone: str = _setting(
        "UTC",
        ("a time zone, as Europe/Amsterdam", _zone),
        "the zone of dates without a time",
        changes=True,
    )
    engagement_period_months: int = _setting(
        12, _number(1, 1200), "the window of the engagement model", changes=True
    )
    keep_row_without_clicks: bool = _setting(
        False, _YES, "keep a row while a delivery is in the window", changes=True
    )
    timers: bool = _setting(True, _SWITCH, "expire what is due by itself")
    recalculate: str = _setting("auto", _choice(auto="auto", manual="manual"), "who works off the queue")
    schedule_refresh_expired: str = _setting(
        "", ("cron form, as */5 * * * *; empty is off", _cron), "when what is due is refreshed"
    )
    schedule_run_queue: str = _setting(
        "", ("cron form, as 0 3 * * *; empty is off", _cron), "when the queue is worked off"
    )
    ahead_seconds: int = _setting(
        300, _number(0, 86_400), "how far ahead of its acceptance an event may be dated"
    )
    replay_free_gb: int | None = _setting(
        None, _number(0, 1_000_000), "what is free on PostgreSQL's disk, for a replay that cannot see it"
    )
    parked_days: int = _setting(30, _number(1, 3650), "how long parked records are kept")
    group: str = _setting("heed", ("a consumer group's name", str), "the consumer group of the workers")
    log_level: str = _setting(
        "info",
        _choice(**{level: level for level in _LEVELS}),
        "the least that is logged",
    )
    worker_name: str = _setting("worker-1", ("a name that no other worker has", str), "this worker's name")
    otlp_endpoint: str = _setting(
        "",
        ("a URL, as http://collector:4318", _url),
        "where traces are sent by OTLP (else the standard's OTEL_EXPORTER_OTLP_ENDPOINT); none: nowhere",
    )
    watchdog_seconds: int = _setting(
        60,
        _number(0, 86_400),
        "how long a process may stand still that has work, before it ends; 0: for ever",
    )
    metrics_port: int | None = _setting(None, _number(0, 65_535), "where a worker shows its metrics")
    api_host: str = _setting("127.0.0.1", ("an address of this machine", str), "where the API listens")
    api_port: int = _setting(8080, _number(0, 65_535), "the port of the API; 0 takes a free one")
    keys: str = _setting(
        "optional",
        _choice(optional="optional", required="required"),
        "whether the API asks for a key before the first one is created; always, where it is not on loopback",
    )
    key_requests_per_second: int = _setting(
        0, _number(0, 1_000_000), "how often one key may ask one API process; 0 is as often as it likes"
    )
    tls_certificate: Path | None = _setting(
        None, ("a file in PEM form", Path), "the API's certificate and those above it; it then speaks TLS"
    )
    tls_key: Path | None = _setting(None, ("a file in PEM form", Path), "the key of the API's certificate")

    @classmethod
    def load(cls, env: Mapping[str, str] | None = None) -> Self:
        """The settings of an environment; raises errors.Usage for a value that a variable does not take."""
        env = os.environ if env is None else env
        values: dict[str, Any] = {}
        for one in fields(cls):
            text = (env.get(variable(one.name)) or env.get(STANDARD.get(one.name, ""), "")).strip()
            if text:
                try:
                    values[one.name] = one.metadata["parse"](text)
                except (ValueError, KeyError, OSError):
                    raise errors.Usage(f"{variable(one.name)} takes {one.metadata['takes']}.") from None
        return cls(**values)

    def need(self, *names: str) -> Self:
        """These settings, when each of `names` has a value; else errors.Usage that says which to set."""
        for one in fields(self):
            if one.name in names and getattr(self, one.name) in ("", None):
                raise errors.Usage(
                    f"Set {variable(one.name)}: {one.metadata['about']} ({one.metadata['takes']})."
                )
        return self


def variable(name: str) -> str:
    """The environment's name of a setting."""
    return f"HEED_{name.upper()}"


# Those that people change while Heed runs: facts of the registry (CEE-7).
CHANGING: Final = tuple(one.name for one in fields(Settings) if one.metadata["changes"])


def parse(name: str, value: object) -> Any:
    """A new value of a changing setting, as JSON or as text; raises errors.Usage that says what it takes."""
    one = next(one for one in fields(Settings) if one.name == name)
    try:
        return one.metadata["parse"](written(value))
    except (ValueError, KeyError, OSError):
        raise errors.Usage(f"{name} takes {one.metadata['takes']}.") from None


def written(value: object) -> str:
    """A value as its variable would have it; raises ValueError for what no variable can have."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() | str():
            return str(value)
        case _:
            raise ValueError(type(value))


def stated(env: Mapping[str, str] | None = None) -> frozenset[str]:
    """The changing settings that an environment gives a value to."""
    env = os.environ if env is None else env
    return frozenset(name for name in CHANGING if env.get(variable(name), "").strip())
