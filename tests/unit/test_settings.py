"""Settings say what they take; what is not set has its documented default."""

from __future__ import annotations

import base64
from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import pytest

from schemas import errors, settings


def test_defaults() -> None:
    chosen = settings.Settings.load({})
    assert (chosen.homes, chosen.zone, chosen.engagement_period_months) == (8, "UTC", 12)
    assert (chosen.timers, chosen.keep_row_without_clicks, chosen.recalculate) == (True, False, "auto")
    assert (chosen.ahead_seconds, chosen.parked_days, chosen.group) == (300, 30, "heed")
    assert (chosen.home, chosen.api_host, chosen.metrics_port) == (Path(".heed"), "127.0.0.1", None)


def test_an_empty_variable_counts_as_not_set() -> None:
    empty = {settings.variable(field.name): "  " for field in fields(settings.Settings)}
    assert settings.Settings.load(empty) == settings.Settings.load({})


@pytest.mark.parametrize(
    ("variable", "text", "value"),
    [
        ("HEED_KAFKA", "127.0.0.1:9092,[::1]:9093", "127.0.0.1:9092,[::1]:9093"),
        ("HEED_POSTGRES", "host=/run/pg dbname=heed", "host=/run/pg dbname=heed"),
        ("HEED_HOME", "/var/lib/heed", Path("/var/lib/heed")),
        ("HEED_ZONE", "Europe/Amsterdam", "Europe/Amsterdam"),
        ("HEED_ENGAGEMENT_PERIOD_MONTHS", "1200", 1200),
        ("HEED_KEEP_ROW_WITHOUT_CLICKS", "true", True),
        ("HEED_TIMERS", "off", False),
        ("HEED_RECALCULATE", "manual", "manual"),
        ("HEED_AHEAD_SECONDS", "0", 0),
        ("HEED_METRICS_PORT", "0", 0),
    ],
)
def test_values_that_are_taken(variable: str, text: str, value: object) -> None:
    chosen = settings.Settings.load({variable: text})
    assert getattr(chosen, variable.removeprefix("HEED_").lower()) == value


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("HEED_KAFKA", "localhost"),
        ("HEED_KAFKA", ":9092"),
        ("HEED_POSTGRES", "localhost"),
        ("HEED_HOMES", "0"),
        ("HEED_HOMES", "٣"),
        ("HEED_ZONE", "Mars/Olympus"),
        ("HEED_ZONE", "../../etc/passwd"),
        ("HEED_ENGAGEMENT_PERIOD_MONTHS", "0"),
        ("HEED_ENGAGEMENT_PERIOD_MONTHS", "-1"),
        ("HEED_ENGAGEMENT_PERIOD_MONTHS", "1.5"),
        ("HEED_ENGAGEMENT_PERIOD_MONTHS", "1Y"),
        ("HEED_ENGAGEMENT_PERIOD_MONTHS", "1201"),
        ("HEED_TIMERS", "maybe"),
        ("HEED_RECALCULATE", "never"),
        ("HEED_API_PORT", "65536"),
        ("HEED_LOG_LEVEL", "loud"),
    ],
)
def test_a_wrong_value_is_refused_with_what_is_taken(variable: str, text: str) -> None:
    with pytest.raises(errors.Usage, match=rf"^{variable} takes .+\.$"):
        settings.Settings.load({variable: text})


def test_a_wrong_value_is_not_repeated() -> None:
    with pytest.raises(errors.Usage) as refused:
        settings.Settings.load({"HEED_POSTGRES": "postgres//heed:hunter2@db"})
    assert "hunter2" not in str(refused.value)


def test_what_is_needed_is_named() -> None:
    with pytest.raises(errors.Usage, match="Set HEED_KAFKA"):
        settings.Settings.load({}).need("kafka")
    chosen = settings.Settings.load({"HEED_KAFKA": "127.0.0.1:9092"})
    assert chosen.need("kafka") is chosen


SASL = {"HEED_KAFKA_SECURITY_PROTOCOL": "sasl_ssl", "HEED_KAFKA_USER": "u", "HEED_KAFKA_PASSWORD": "hunter2"}


@pytest.mark.parametrize(
    ("env", "says"),
    [
        ({"HEED_KAFKA_CA_FILE": "ca.pem"}, "set that to ssl or sasl_ssl, or leave HEED_KAFKA_CA_FILE out"),
        ({"HEED_KAFKA_USER": "u"}, "set that to sasl_plaintext or sasl_ssl, or leave HEED_KAFKA_USER out"),
        (SASL | {"HEED_KAFKA_SECURITY_PROTOCOL": "ssl"}, "HEED_KAFKA_USER means nothing"),
        (
            SASL | {"HEED_KAFKA_SECURITY_PROTOCOL": "sasl_plaintext", "HEED_KAFKA_CERTIFICATE": "c.pem"},
            "HEED_KAFKA_CERTIFICATE means nothing",
        ),
        (SASL | {"HEED_KAFKA_CERTIFICATE_KEY": "key.pem"}, "set HEED_KAFKA_CERTIFICATE"),
        (SASL | {"HEED_KAFKA_USER": ""}, "needs HEED_KAFKA_USER"),
        (SASL | {"HEED_KAFKA_PASSWORD": ""}, "HEED_KAFKA_PASSWORD or HEED_KAFKA_PASSWORD_FILE"),
        (SASL | {"HEED_KAFKA_PASSWORD_FILE": "p"}, "either HEED_KAFKA_PASSWORD or HEED_KAFKA_PASSWORD_FILE"),
    ],
)
def test_settings_of_kafka_that_contradict_each_other_are_refused(env: dict[str, str], says: str) -> None:
    with pytest.raises(errors.Usage, match=says) as refused:
        settings.Settings.load(env)
    assert "hunter2" not in str(refused.value)


def test_a_password_is_never_shown() -> None:
    assert "hunter2" not in repr(settings.Settings.load(SASL))
    assert settings.SECRET == ("kafka_password", "master_key")


def test_the_master_key_comes_one_way_and_is_not_repeated() -> None:
    key = base64.b64encode(b"k" * 32).decode()
    assert key not in repr(settings.Settings.load({"HEED_MASTER_KEY": key}))
    with pytest.raises(
        errors.Usage, match="HEED_MASTER_KEY and HEED_MASTER_KEY_FILE are both set"
    ) as refused:
        settings.Settings.load({"HEED_MASTER_KEY": key, "HEED_MASTER_KEY_FILE": "a"})
    assert key not in str(refused.value)
    for wrong in (key[:-8], "hunter2", base64.b64encode(b"k" * 31).decode(), key + "AAAA"):
        with pytest.raises(errors.Usage, match="HEED_MASTER_KEY takes 32 random bytes in base64") as refused:
            settings.Settings.load({"HEED_MASTER_KEY": wrong})
        assert wrong not in str(refused.value)


def test_settings_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        settings.Settings.load({}).homes = 3  # type: ignore[misc]


def test_every_setting_says_what_it_is_for() -> None:
    for field in fields(settings.Settings):
        assert field.metadata["about"], field.name
        assert field.metadata["takes"], field.name
