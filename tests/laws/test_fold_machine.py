"""Laws under everything at once: rows, facts, positions, commands (LAW-1, LAW-4)."""

from __future__ import annotations

import random

import hypothesis
import pytest
from hypothesis import HealthCheck
from hypothesis.stateful import run_state_machine_as_test

from tests.laws import machine_fold, world

COMMON = hypothesis.settings(
    phases=[hypothesis.Phase.generate],
    deadline=None,
    print_blob=True,
    database=None,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
# Shrinking takes minutes: only where there is time for it.
SHRINKING = hypothesis.settings(COMMON, phases=[hypothesis.Phase.generate, hypothesis.Phase.shrink])


def run(dsn: str, observer: world.Observer, seed: int | None, settings: hypothesis.settings) -> None:
    machine = type("FoldMachine", (machine_fold.FoldMachine,), {"dsn": dsn, "observer": observer})
    if seed is not None:
        print(f"seed {seed}: run again with --hypothesis-seed={seed}")
        machine = hypothesis.seed(seed)(machine)
    run_state_machine_as_test(machine, settings=settings)


@pytest.mark.capability("LAW-1", "LAW-4", "CEE-8")
def test_the_fold_is_exact_whatever_happens(module_database: str, shared_observer: world.Observer) -> None:
    settings = hypothesis.settings(COMMON, max_examples=40, stateful_step_count=30, derandomize=True)
    run(module_database, shared_observer, None, settings)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_fold_is_exact_for_thousands_of_histories(
    module_database: str, shared_observer: world.Observer, request: pytest.FixtureRequest
) -> None:
    seed = int(request.config.getoption("--hypothesis-seed") or random.randrange(2**32))
    settings = hypothesis.settings(SHRINKING, max_examples=2_000, stateful_step_count=60)
    run(module_database, shared_observer, seed, settings)
