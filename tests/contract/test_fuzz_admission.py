"""Admission alone, against an independent judgement: thousands of hostile payloads, without any server."""

from __future__ import annotations

import secrets

import pytest

from schemas import admission, completion, topics
from tests.fuzz import minimise, payloads, verdict
from tests.unit import samples

COUNT = 1_000
PLACES = (*topics.DOORS, None)


def judged(raw: bytes, door: str | None) -> verdict.Verdict:
    """What admission says, in the words of the verdict."""
    outcome = samples.admit(raw, door, None if door else completion.Fill())
    if isinstance(outcome, admission.Admitted):
        return verdict.Verdict.TAKEN
    waits = outcome.reason in admission.PARKED_BY_HTTP
    return verdict.Verdict.WAITS if waits else verdict.Verdict.REFUSED


def differs(raw: bytes, door: str | None) -> bool:
    return judged(raw, door) != verdict.judge(raw, samples.AT, door)


@pytest.mark.capability("LAW-7")
def test_hostile_payloads_become_what_the_contract_says() -> None:
    seed = secrets.randbelow(2**32)
    wrong = []
    seen = set()
    for one in payloads.payloads(seed, COUNT):
        for door in (one.door, None):
            seen.add(judged(one.raw, door))
            if differs(one.raw, door):
                least = minimise.minimise(one.raw, lambda raw, door=door: differs(raw, door))  # type: ignore[misc]
                wrong.append(f"{one.number} {one.mutation}, {door}: {judged(least, door)}: {least!r}")
    assert seen == set(verdict.Verdict)
    assert not wrong, f"seed {seed}\n" + "\n".join(wrong[:20])


def test_the_nth_of_a_seed_is_the_same_whatever_came_before() -> None:
    """What one mutation is given is its own: the next would change it for all that come later."""
    whole = [one.raw for one in payloads.payloads(2067848947, 4_000)]
    assert whole == [one.raw for one in payloads.payloads(2067848947, 4_000)]
