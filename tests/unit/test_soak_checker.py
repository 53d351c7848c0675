"""The soak's checker: a history without fault passes, and one for each violation is found out."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from tests.oracle import model
from tests.soak import checker, history, plan, report

AT = model.EPOCH + timedelta(days=20_000)
NOW = (AT - model.EPOCH) // model.MILLISECOND
HOUR = 3_600_000
YEAR_AGO = NOW - 365 * 24 * HOUR  # a few hours more or less than twelve months: not at an edge


def fact(
    id: str, contact: str = "ada", back: int = HOUR, mailing: str = "m1", digest: str = "d"
) -> model.Fact:
    return model.Fact(f"contact:{contact}", "urn:a", id, "mail.clicked", NOW - back, digest, mailing, False)


def told(one: model.Fact | None, outcome: str = history.OK, way: str = "http-0") -> history.Told:
    return history.Told(1, way, 1.0, 2.0, outcome, one)


def state(*log: model.Fact, **changed: object) -> checker.State:
    """At rest, with nothing wrong: kept and counted is what the log says."""
    standing = model.histories(log)
    kept = [((one.subject, one.source, one.id), one.time) for some in standing.values() for one in some]
    rows = {
        contact: row
        for contact, some in standing.items()
        if (row := model.row(contact, some, AT, checker.RULE)) is not None
    }
    right = checker.State(AT, [(0, offset, one) for offset, one in enumerate(log)], kept, rows, [])
    return replace(right, **changed)  # type: ignore[arg-type]


def row(*facts: model.Fact, at: int = NOW) -> model.Row | None:
    some = model.histories(facts).get("ada", [])
    return model.row("ada", some, model.EPOCH + at * model.MILLISECOND, checker.RULE)


def read(
    found: model.Row | None, at: int = NOW, upto: int | None = None, when: float = 1.0, **more: object
) -> history.Read:
    made = history.Read("rows", int(when), when, when + 0.5, "ada", at, found, upto)
    return replace(made, **more)  # type: ignore[arg-type]


def stand(seen: float, **changed: object) -> history.Stand:
    made = history.Stand(seen, "fold", "facts", 3, 5, "worker-1", 100, NOW)
    return replace(made, **changed)  # type: ignore[arg-type]


A, B, C = fact("a"), fact("b", mailing="m2", back=2 * HOUR), fact("c", mailing="m3", back=3 * HOUR)
BACK = history.Step("back", 10.0, 11.0, 0, "")


def test_a_history_without_fault_passes() -> None:
    lines: list[history.Line] = [
        told(A),
        told(B),
        told(B, history.INFO),
        told(C, history.INFO),
        told(None, history.REFUSED),
        read(None, upto=0),
        read(row(A), upto=1, when=2.0),
        read(row(A), when=3.0),
        read(row(A, B), when=4.0),
        stand(1.0),
        stand(2.0, as_of=NOW + 1, next_offset=101),
        stand(3.0, as_of=NOW + 2, next_offset=101, epoch=6, owner="worker-2"),
        history.Trouble("rows", 1.0, "57P01"),
        history.Trouble("rows", 1.0, ""),
        history.Step("check", 1.0, 2.0, 0, ""),
    ]
    found = checker.check(lines, state(A, B, B), "timer-")
    assert {name: wrong for name, wrong in found.items() if wrong} == {}


def test_an_acknowledged_event_that_is_not_in_the_log_is_lost() -> None:
    assert checker.lost([told(A), told(B)], state(A)) == [
        "http-0 1: contact:ada b was acknowledged and is not in the log"
    ]


def test_one_that_stands_there_with_another_content_is_lost_too() -> None:
    assert checker.lost([told(A)], state(A._replace(digest="other")))


@pytest.mark.parametrize("outcome", [history.INFO, history.PARKED, history.REFUSED])
def test_what_nobody_acknowledged_may_be_missing(outcome: str) -> None:
    assert checker.lost([told(A, outcome)], state()) == []


def test_an_event_that_nobody_told_is_invented() -> None:
    assert checker.invented([told(A)], state(A, B)) == ["home 0 offset 1: contact:ada b was told by nobody"]


def test_an_event_that_was_refused_may_not_be_in_the_log() -> None:
    assert checker.invented([told(A, history.REFUSED)], state(A))
    assert not checker.invented([told(A, history.REFUSED), told(A, history.INFO)], state(A))


def test_a_bad_event_may_not_be_accepted() -> None:
    assert checker.taken([told(None)])
    assert not checker.taken([told(None, way="kafka")]), "a door takes everything; what it parks is no fact"


def test_a_fact_kept_twice_is_doubled() -> None:
    right = state(A)
    assert checker.doubled(replace(right, kept=[*right.kept, *right.kept])) == [
        "contact:ada urn:a a: kept 2 times"
    ]


def test_a_fact_of_the_log_that_is_not_kept_is_found() -> None:
    assert checker.doubled(state(A, B, kept=state(A).kept)) == [
        "contact:ada urn:a b: in the log and not kept"
    ]


def test_a_fact_kept_that_is_not_in_the_log_is_found() -> None:
    assert checker.doubled(state(A, kept=state(A, B).kept)) == [
        "contact:ada urn:a b: kept and not in the log"
    ]


def test_of_two_contents_the_smaller_stands() -> None:
    later = A._replace(time=A.time + 1)
    assert checker.doubled(state(later, A)) == []
    assert checker.doubled(state(later, A, kept=state(later).kept))


def test_a_row_that_counts_one_event_twice_differs() -> None:
    right = row(A)
    assert right is not None
    wrong = replace(right, frequency=2)
    assert "frequency 2" in checker.differing(state(A, rows={"ada": wrong}))[0]


def test_a_row_that_is_missing_or_too_many_differs() -> None:
    assert checker.differing(state(A, rows={}))
    assert checker.differing(state(rows={"ada": row(A)}))


def test_a_command_that_never_came_is_lost() -> None:
    seen = read(row(A), due=NOW - 5, contact="timer-7")
    there = state(commands=[("timer-7", NOW - 5, "id")])
    assert checker.commands_lost([seen], state(), "timer-")
    assert not checker.commands_lost([seen], there, "timer-")
    assert not checker.commands_lost([replace(seen, due=NOW + 5)], state(), "timer-"), "it is not due yet"
    assert not checker.commands_lost([replace(seen, contact="ada")], state(), "timer-"), "others' rows move"


def test_a_command_for_an_instant_at_which_nothing_ran_out_is_found() -> None:
    end = model.plus_months(A.time, 12) + 1
    assert not checker.commands_without_reason(state(A, commands=[("ada", end, "id")]))
    assert checker.commands_without_reason(state(A, commands=[("ada", end + 1, "id")]))


@pytest.mark.parametrize(
    ("changed", "what"),
    [({"as_of": NOW - 1}, "T ran back"), ({"epoch": 4}, "the epoch"), ({"next_offset": 99}, "the offset")],
)
def test_what_runs_back_in_a_home_is_found(changed: dict[str, int], what: str) -> None:
    [found] = checker.ran_back([stand(1.0), stand(2.0, **changed)])
    assert what in found


def test_another_home_may_be_behind() -> None:
    assert checker.ran_back([stand(1.0), stand(2.0, part=4, as_of=NOW - 1)]) == []


def test_an_epoch_with_two_owners_is_found() -> None:
    assert checker.ran_back([stand(1.0), stand(2.0, owner="worker-2")]) == [
        "fold facts 3: epoch 5 has two owners"
    ]


def test_a_value_shown_past_its_time_is_found() -> None:
    old = fact("a", back=370 * 24 * HOUR)
    shown = row(old, at=YEAR_AGO)
    assert shown is not None
    assert checker.past_its_time([read(shown)])
    assert not checker.past_its_time([read(shown, at=model.plus_months(old.time, 12))]), (
        "its last millisecond"
    )


def test_a_statement_of_two_instants_or_two_rules_is_mixed() -> None:
    right = row(A)
    assert right is not None
    assert not checker.mixed([read(right), read(row(A, B))])
    assert checker.mixed([read(right), read(right, at=NOW + 1)])
    assert checker.mixed([read(right), read(replace(right, period_months=24))])
    assert not checker.mixed([read(right), read(right, at=NOW + 1, when=2.0)]), "two statements"


def test_a_row_of_another_version_than_the_position_beside_it_is_found() -> None:
    """A view that mixes versions shows rows of one pair of tables and positions of another."""
    assert checker.never_true([read(row(A), upto=2)], state(A, B))
    assert not checker.never_true([read(row(A, B), upto=2)], state(A, B))


def test_a_row_that_never_was_is_found() -> None:
    assert "no state" in checker.never_true([read(row(B))], state(A, B))[0]


def test_a_row_that_went_back_to_an_older_state_is_found() -> None:
    later, earlier = read(row(A, B), when=1.0), read(row(A), when=2.0)
    assert "went back" in checker.never_true([later, earlier], state(A, B))[0]
    assert not checker.never_true([earlier, replace(later, invoked=3.0, ended=3.5)], state(A, B))


def test_reads_under_way_at_once_have_no_order() -> None:
    later, earlier = read(row(A, B), when=1.0), read(row(A), when=1.2)
    assert checker.never_true([later, earlier], state(A, B)) == []


def test_a_row_that_went_back_after_a_look_with_its_offset_is_found() -> None:
    looked, asked = read(row(A, B), upto=2, when=1.0), read(row(A), when=2.0, reader="asks")
    assert "went back" in checker.never_true([looked, asked], state(A, B))[0]


def test_a_fold_may_commit_between_a_statement_and_its_snapshot() -> None:
    """The row is brought to an instant after the statement began, when its click had left the window."""
    old = fact("a", back=370 * 24 * HOUR)
    end = model.plus_months(old.time, 12)
    when = end / 1000
    assert not checker.never_true([read(None, at=end, upto=1, when=when)], state(old))
    assert checker.never_true([read(None, at=end - 5_000, upto=1, when=when - 5)], state(old))


def test_an_error_that_no_servers_absence_explains_is_found() -> None:
    missing = history.Trouble("rows", 1.0, "42P01")
    assert checker.troubled([missing, history.Trouble("asks", 1.0, "500")])
    assert not checker.troubled([history.Trouble("asks", 1.0, "503"), history.Trouble("rows", 1.0, "53100")])


def test_a_replay_that_found_a_difference_is_found() -> None:
    assert checker.failed([replace(BACK, code=1)])
    assert not checker.failed([replace(BACK, code=69)])


def test_a_history_is_read_as_it_was_written(tmp_path: Path) -> None:
    lines: list[history.Line] = [
        told(A),
        told(None, history.REFUSED),
        read(row(A), upto=1, due=NOW),
        read(None),
        stand(1.0),
        history.Trouble("rows", 1.0, "57P01"),
        history.Broken(1, "kill-api", "", 1.0, None, "x"),
        BACK,
    ]
    path = tmp_path / "history.jsonl"
    with history.Writer(path) as writer:
        writer.write(*lines[:3])
        writer.write(*lines[3:])
    assert list(history.read(path)) == lines


def test_the_same_seed_gives_the_same_plan_and_no_long_pause() -> None:
    faults = plan.plan(7, 1800)
    assert faults == plan.plan(7, 1800) != plan.plan(8, 1800)
    assert {one.kind for one in faults} == {kind.name for kind in plan.KINDS}
    assert max(b.at - a.at for a, b in itertools.pairwise(faults)) <= 20
    assert not [one for one in plan.plan(7, 1800, disk=False) if one.kind.startswith("disk")]


def test_recovery_is_the_time_until_the_last_home_came_past_the_fault() -> None:
    hit = NOW / 1000
    stands = [
        stand(hit + seen, part=part, as_of=int((hit + as_of) * 1000))
        for part, path in ((0, [(0.0, -1.0), (3.0, 2.5)]), (1, [(0.5, -0.5), (9.0, 8.0)]))
        for seen, as_of in path
    ]
    broken = [history.Broken(1, "kill-worker", "worker-1", hit, hit + 7, "")]
    found = report.recoveries([*broken, replace(broken[0], hit=None)], stands)["kill-worker"]
    assert (found.inflicted, found.missed, found.after_hit) == (1, 1, [9.0])
    assert found.after_mending == [], "home 0 was never seen past it"
    assert report.standstill(stands) == 8.5
