"""Order-free: what the tables say follows from the set of facts and an instant, from nothing else (LAW-1)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import hypothesis
import pytest
from hypothesis import HealthCheck
from hypothesis import strategies as st

from tests import oracle
from tests.laws import generator, world

NOW = generator.NOW
SETTINGS = hypothesis.settings(
    deadline=None,
    print_blob=True,
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.function_scoped_fixture,
        HealthCheck.data_too_large,
    ],
)
Facts = Sequence[dict[str, Any]]


def fold(
    observer: world.Observer,
    worker: world.Worker,
    batches: Sequence[Facts],
    rule: oracle.Rule,
    late: timedelta,
) -> tuple[dict[str, tuple[Any, ...]], list[tuple[Any, ...]]]:
    """Rows and facts after these batches, folded up to `late` before NOW and brought to it at the end."""
    observer.clear(rule.period_months, rule.keep_row_without_clicks)
    worker.log = world.Log()
    worker.held, worker.next = {}, {}
    worker.claim_all()
    for batch in batches:
        for envelope in batch:
            worker.log.tell(envelope)
        worker.advance(at=NOW - late)
    worker.advance(at=NOW)
    assert observer.nudged() == {}
    return observer.rows(), observer.facts()


def check(data: st.DataObject, observer: world.Observer, worker: world.Worker) -> None:
    months, keep = data.draw(st.sampled_from([1, 12])), data.draw(st.booleans())
    rule = oracle.Rule(months, keep)
    ledger = data.draw(generator.histories(months=months, now=NOW)).ledger
    rows, facts = fold(observer, worker, [ledger], rule, timedelta(0))
    for late in (timedelta(0), timedelta(days=40)):
        batches = data.draw(generator.batches(data.draw(generator.orders(ledger))))
        assert fold(observer, worker, batches, rule, late) == (rows, facts)
    one_by_one = [[envelope] for envelope in reversed(ledger)]
    assert fold(observer, worker, one_by_one, rule, timedelta(0)) == (rows, facts)
    expected = oracle.expected(ledger, NOW, months, keep)
    assert {contact: oracle.Row(*line[:7]) for contact, line in rows.items()} == expected
    assert facts == world.distinct(ledger)


@pytest.mark.capability("LAW-1")
@hypothesis.settings(SETTINGS, max_examples=25, derandomize=True)
@hypothesis.given(data=st.data())
def test_any_order_split_and_repetition_is_the_same(
    data: st.DataObject, observer: world.Observer, worker: world.Worker
) -> None:
    check(data, observer, worker)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@hypothesis.settings(SETTINGS, max_examples=2_000)
@hypothesis.given(data=st.data())
def test_any_order_for_thousands_of_histories(
    data: st.DataObject, observer: world.Observer, worker: world.Worker
) -> None:
    check(data, observer, worker)


@pytest.mark.capability("LAW-1")
@pytest.mark.parametrize("seed", [1, 2])
def test_a_large_history_in_two_orders(observer: world.Observer, worker: world.Worker, seed: int) -> None:
    ledger = generator.seeded(seed, size=3_000, now=NOW).ledger
    rule = oracle.Rule()
    once = fold(observer, worker, [ledger], rule, timedelta(0))
    backwards = list(reversed(ledger))
    batches = [backwards[start : start + 211] for start in range(0, len(backwards), 211)]
    assert fold(observer, worker, [*batches, ledger[::3]], rule, timedelta(days=1)) == once
    assert {c: oracle.Row(*line[:7]) for c, line in once[0].items()} == oracle.expected(ledger, NOW)
    assert len(once[0]) > 10


@pytest.mark.capability("LAW-1")
@pytest.mark.parametrize(
    "smaller",
    [
        world.told("mail.opened", NOW - generator.MS, id="e1"),
        world.click(NOW - generator.MS, id="e1", test=True),
        world.click(NOW - generator.MS, id="e1", mailing=None),
        world.click(NOW - timedelta(days=400), id="e1"),
    ],
    ids=["another type", "a test", "no mailing", "outside the window"],
)
@pytest.mark.parametrize("smaller_first", [True, False])
@pytest.mark.parametrize("together", [True, False])
def test_a_click_that_gives_way_leaves_the_row(
    observer: world.Observer,
    worker: world.Worker,
    smaller: dict[str, Any],
    smaller_first: bool,
    together: bool,
) -> None:
    larger = world.click(NOW, id="e1")
    order = [smaller, larger] if smaller_first else [larger, smaller]
    batches = [order] if together else [[one] for one in order]
    rows, facts = fold(observer, worker, batches, oracle.Rule(), timedelta(0))
    assert rows == {}
    assert facts == [world.content(smaller)]
