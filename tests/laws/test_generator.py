"""The generator's ledger, written apart, and Heed's admission say the same of every record."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from hypothesis import given, settings

from schemas import admission
from tests import keyring, oracle
from tests.laws import generator
from tests.unit import samples


def admitted(sent: generator.Sent) -> dict[str, object] | str:
    outcome = admission.admit(
        sent.raw, at=sent.at, door=sent.door, homes=8, ahead=generator.AHEAD, secret=keyring.SECRET
    )
    if isinstance(outcome, admission.Rejected):
        return str(outcome.reason)
    envelope: dict[str, object] = json.loads(outcome.value)
    return envelope | {"data": samples.data(outcome)}


@pytest.mark.parametrize("sent", generator.rubbish(), ids=lambda sent: str(sent.reason))
def test_rubbish_is_parked_for_its_reason(sent: generator.Sent) -> None:
    assert admitted(sent) == sent.reason


@given(generator.histories())
def test_the_ledger_is_what_admission_writes(history: generator.History) -> None:
    written = [admitted(sent) for sent in history.sent]
    assert [found for found in written if isinstance(found, dict)] == list(history.ledger)
    assert [found for found in written if isinstance(found, str)] == [
        sent.reason for sent in history.sent if sent.reason
    ]


def test_a_large_history_agrees_too() -> None:
    history = generator.seeded(seed=11, size=3_000)
    written = [found for sent in history.sent if isinstance(found := admitted(sent), dict)]
    assert oracle.expected(written, history.now) == oracle.expected(history.ledger, history.now)
    assert len(oracle.expected(history.ledger, history.now)) > 15


def test_a_seed_is_a_history() -> None:
    assert generator.seeded(seed=3, size=300) == generator.seeded(seed=3, size=300)
    assert generator.seeded(seed=3, size=300) != generator.seeded(seed=4, size=300)


@given(generator.histories(months=1))
@settings(max_examples=50)
def test_a_row_changes_only_when_something_leaves(history: generator.History) -> None:
    rule = oracle.Rule(period_months=1)
    for contact, facts in oracle.histories(map(oracle.read, history.ledger)).items():
        before = oracle.row(contact, facts, history.now, rule)
        for leaves in oracle.dropped_out(facts, history.now, rule)[:4]:
            assert oracle.row(contact, facts, leaves - timedelta(milliseconds=1), rule) == before
            before = oracle.row(contact, facts, leaves, rule)
