"""Every metric of names.md is declared, once, with closed labels."""

from __future__ import annotations

import re

import prometheus_client
import pytest

from schemas import errors, events, metrics, topics

NAMES = """heed_admitted_total{door} heed_parked_total{reason} heed_events_folded_total{type}
heed_redriven_total{outcome} heed_discarded_total{reason} heed_parked_expired_total{reason}
heed_refused_total{reason} heed_duplicates_total heed_conflicts_total heed_contact_errors
heed_registered_total{type} heed_scheduled_total{schedule}
heed_row_differences_total heed_lag_records{reader} heed_lag_seconds{reader}
heed_batch_records
heed_transaction_seconds heed_row_delay_seconds heed_timer_lateness_seconds{kind} heed_commands_total{kind}
heed_nudges heed_claims_total heed_fenced_total heed_outbox_backlog heed_outbox_seconds heed_missing{part}
heed_http_request_seconds{route,method,status} heed_build_info{version,python}"""


def test_the_names_and_their_labels() -> None:
    declared = {name: tuple(metric.labels) for name, metric in metrics.DECLARED.items()}
    wanted = {}
    for name, labels in re.findall(r"(\w+)(?:\{([\w,]+)\})?", NAMES):
        wanted[name] = tuple(labels.split(",")) if labels else ()
    assert declared == wanted


def test_each_is_shown_with_its_description() -> None:
    shown = prometheus_client.generate_latest().decode()
    for name, metric in metrics.DECLARED.items():
        assert f"# HELP {name} {metric.about}" in shown
        assert f"# TYPE {name} {metric.kind}" in shown


def test_series_of_closed_labels_stand_from_the_start() -> None:
    shown = prometheus_client.generate_latest().decode()
    for reason in errors.Reason:
        assert f'heed_parked_total{{reason="{reason}"}}' in shown
    for door in (metrics.HTTP, *topics.DOORS):
        assert f'heed_admitted_total{{door="{door}"}}' in shown
    for event in events.built():
        assert f'heed_events_folded_total{{type="{event.name}"}}' in shown


def test_a_value_that_is_not_declared_is_found() -> None:
    assert metrics.check() == []
    metrics.PARKED.labels("tired").inc()
    try:
        assert metrics.check() == ["heed_parked_total{reason='tired'}"]
    finally:
        metrics.PARKED.remove("tired")


def test_a_name_is_declared_once() -> None:
    with pytest.raises(AssertionError):
        metrics._counter("heed_parked_total", "Again.")
