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

from schemas import errors, sealing


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


def _master_key(text: str) -> str:
    sealing.parse_master_key(text)
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
_PEM = ("a file in PEM form", Path)
_LEVELS = ("debug", "info", "warning", "error")


def _setting(
    default: Any,
    takes: tuple[str, Callable[[str], Any]],
    about: str,
    *,
    changes: bool = False,
    secret: bool = False,
) -> Any:
    """`changes`: people change it while Heed runs; the environment only gives its first value.

    `secret`: never shown.
    """
    told = {"takes": takes[0], "parse": takes[1], "about": about, "changes": changes, "secret": secret}
    return field(default=default, metadata=told, repr=not secret)


_OF_TLS = ("kafka_ca_file", "kafka_certificate", "kafka_certificate_key")
_OF_SASL = ("kafka_user", "kafka_password", "kafka_password_file")
MASTER_KEYS: Final = ("master_key", "master_key_file", "master_key_kms")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings; the environment's name of each is HEED_ and the field's name in capitals."""

    kafka: str = _setting("", ("host:port, several with commas", _servers), "Kafka's bootstrap servers")
    kafka_security_protocol: str = _setting(
        "plaintext",
        _choice(**{name: name for name in ("plaintext", "ssl", "sasl_plaintext", "sasl_ssl")}),
        "how Kafka is spoken to: its security.protocol",
    )
    kafka_ca_file: Path | None = _setting(
        None, _PEM, "the authorities that Kafka's certificates are trusted by; none: the system's"
    )
    kafka_certificate: Path | None = _setting(
        None, _PEM, "this client's certificate and those above it, where Kafka asks for one"
    )
    kafka_certificate_key: Path | None = _setting(
        None, _PEM, "the key of this client's certificate, unless it stands in the same file"
    )
    kafka_sasl_mechanism: str = _setting(
        "SCRAM-SHA-512",
        _choice(**{name: name for name in ("SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN")}),
        "how Kafka is told the password",
    )
    kafka_user: str = _setting("", ("a name", str), "Kafka's name for Heed")
    kafka_password: str = _setting("", ("a password", str), "Kafka's password for Heed", secret=True)
    kafka_password_file: Path | None = _setting(
        None, ("a file", Path), "a file with that password, in its place"
    )
    postgres: str = _setting("", ("a DSN, as postgresql://user@host:5432/db", _dsn), "the database")
    master_key: str = _setting(
        "",
        ("32 random bytes in base64, as `openssl rand -base64 32` prints them", _master_key),
        "the master key, which wraps every other",
        secret=True,
    )
    master_key_file: Path | None = _setting(
        None, ("a file", Path), "a file with a master key a line: the first wraps, all of them open"
    )
    master_key_kms: str = _setting(
        "", ("the name of an entry point of the group heed.master_key", str), "a KMS that has the master key"
    )
    home: Path = _setting(Path(".heed"), ("a directory", Path), "where the local stack keeps its data")
    homes: int = _setting(8, _number(1, 1024), "partitions of the log; fixed once the topics exist")
    zone: str = _setting(
        "UTC", ("a time zone, as Europe/Amsterdam", _zone), "the zone of dates without a time", changes=True
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
    hold_soft_bounces: int = _setting(5, _number(1, 1000), "soft bounces that put an address on hold")
    hold_days: int = _setting(30, _number(1, 3650), "within how many days they do")
    group: str = _setting("heed", ("a consumer group's name", str), "the consumer group of the workers")
    log_level: str = _setting(
        "info", _choice(**{level: level for level in _LEVELS}), "the least that is logged"
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
    console_secure: bool = _setting(
        False,
        _SWITCH,
        "cookies of the console for TLS alone: on, where a proxy speaks it; always, where the API does",
    )
    tls_certificate: Path | None = _setting(
        None, _PEM, "the API's certificate and those above it; it then speaks TLS"
    )
    tls_key: Path | None = _setting(None, _PEM, "the key of the API's certificate")

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
        made = cls(**values)
        made._agree()
        return made

    def _agree(self) -> None:
        """Settings that contradict each other are errors.Usage: none is passed over in silence."""
        protocol = f"HEED_KAFKA_SECURITY_PROTOCOL={self.kafka_security_protocol}"
        sasl = self.kafka_security_protocol.startswith("sasl")
        for kind, wanted, names in (
            ("ssl or sasl_ssl", self.kafka_security_protocol.endswith("ssl"), _OF_TLS),
            ("sasl_plaintext or sasl_ssl", sasl, _OF_SASL),
        ):
            given = [variable(name) for name in names if getattr(self, name)]
            if given and not wanted:
                raise errors.Usage(
                    f"{given[0]} means nothing with {protocol}: set that to {kind}, or leave {given[0]} out."
                )
        if self.kafka_certificate_key and not self.kafka_certificate:
            raise errors.Usage(
                "HEED_KAFKA_CERTIFICATE_KEY needs its certificate: set HEED_KAFKA_CERTIFICATE."
            )
        ways = [variable(name) for name in MASTER_KEYS if getattr(self, name)]
        if len(ways) > 1:
            raise errors.Usage(f"{' and '.join(ways)} are both set: the master key comes from one of them.")
        if sasl and not (self.kafka_user and bool(self.kafka_password) != bool(self.kafka_password_file)):
            raise errors.Usage(
                f"{protocol} needs HEED_KAFKA_USER, and either HEED_KAFKA_PASSWORD or "
                "HEED_KAFKA_PASSWORD_FILE."
            )

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

# Those that are never shown.
SECRET: Final = tuple(one.name for one in fields(Settings) if one.metadata["secret"])


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
