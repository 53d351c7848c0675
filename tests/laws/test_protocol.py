"""The protocol between homes and the registry, before any of it is code: no interleaving goes wrong."""

from __future__ import annotations

import pytest

from tests.laws import protocol

RUNS = 3_000
MOST = 100_000


@pytest.mark.capability("LAW-1")
def test_no_interleaving_goes_wrong() -> None:
    assert [seed for seed in range(RUNS) if protocol.wrong(seed)] == []


@pytest.mark.slow
@pytest.mark.capability("LAW-1")
def test_no_interleaving_of_a_hundred_thousand_goes_wrong() -> None:
    assert [seed for seed in range(RUNS, RUNS + MOST) if protocol.wrong(seed)] == []


@pytest.mark.parametrize("part", protocol.Part, ids=lambda part: part.name.lower())
def test_no_part_can_be_left_out(part: protocol.Part) -> None:
    assert any(protocol.wrong(seed, part) for seed in range(MOST)), part.value
