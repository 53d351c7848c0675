"""What the doctor makes of what it sees, and that it never waits longer than it says."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from schemas import errors, settings
from streams import doctor, doctor_kafka, doctor_postgres, doctors, log

NOW = datetime(2026, 3, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
PATIENT = doctor.Patient(settings.Settings())


def check(name: str, *needs: str, says: doctor.Finding | BaseException | None = None) -> doctor.Check:
    def look(_: doctor.Patient) -> list[doctor.Finding]:
        if isinstance(says, BaseException):
            raise says
        return [says] if says else doctor.ok(name, "well")

    return doctor.Check(name, look, needs)


def servers(*, kafka: bool = True, postgres: bool = True) -> dict[str, doctor.Check]:
    away = errors.Away("is it running?")
    return {
        doctor.KAFKA: check("broker", says=None if kafka else away),
        doctor.POSTGRES: check("database", says=None if postgres else away),
    }


CHECKS = (check("topics", doctor.KAFKA), check("homes", doctor.POSTGRES), check("lag", "kafka", "postgres"))


@pytest.mark.parametrize(
    ("kafka", "postgres", "unknown", "code"),
    [
        (True, True, set(), 0),
        (False, True, {"topics", "lag"}, 1),
        (True, False, {"homes", "lag"}, 1),
        (False, False, {"topics", "homes", "lag"}, 69),
    ],
)
def test_what_cannot_be_known_without_a_server_is_not_asked(
    kafka: bool, postgres: bool, unknown: set[str], code: int
) -> None:
    asked = servers(kafka=kafka, postgres=postgres)
    found = doctor.examine(PATIENT, asked, CHECKS, 5.0)
    assert {one.check for one in found if one.state is doctor.State.UNKNOWN} == unknown
    assert [one.check for one in found] == ["broker", "database", "topics", "homes", "lag"]
    assert doctor.exit_code(found, asked) == code


def test_a_check_that_gets_no_answer_says_so_in_its_time_and_holds_up_no_other() -> None:
    never = threading.Event()

    def hangs(_: doctor.Patient) -> list[doctor.Finding]:
        never.wait(30)
        return []

    began = time.monotonic()
    found = doctor.examine(PATIENT, servers(), (doctor.Check("hangs", hangs), *CHECKS), 0.5)
    assert time.monotonic() - began < 10
    never.set()
    states = {one.check: one.state for one in found}
    assert states["hangs"] is doctor.State.WRONG
    assert states["topics"] is doctor.State.OK
    (late,) = [one for one in found if one.check == "hangs"]
    assert late.says == "no answer within 0 s"
    assert late.do


@pytest.mark.parametrize(
    "raised",
    [psycopg.errors.UndefinedTable("secret"), psycopg.DataError("secret"), OSError("secret")],
    ids=type,
)
def test_what_a_check_raises_is_a_finding_that_says_what_to_do_and_no_value(raised: Exception) -> None:
    found = doctor.examine(PATIENT, servers(), (check("homes", says=raised),), 5.0)
    (one,) = [one for one in found if one.check == "homes"]
    assert one.state is doctor.State.WRONG
    assert one.do
    assert "secret" not in str(one.as_dict())


def test_clocks_that_are_apart_are_told_with_their_side() -> None:
    def said(off: timedelta) -> str:
        found = doctor_kafka.clock("clock", NOW + off, NOW, NOW + timedelta(seconds=1))
        assert (found.state is doctor.State.OK) == (not found.do)
        return found.says

    assert said(3 * MINUTE) == "is 179 s ahead of this machine's"
    assert said(-3 * MINUTE) == "is 180 s behind this machine's"
    assert said(timedelta(seconds=1.5)).startswith("agrees")


def test_a_disk_needs_a_tenth_or_fifty_gigabytes() -> None:
    gigabyte = 1 << 30
    states = [
        doctor_kafka.disk("disk", total * gigabyte, free * gigabyte).state
        for total, free in ((100, 11), (100, 9), (10_000, 60), (10_000, 40), (100, 0))
    ]
    assert [state is doctor.State.OK for state in states] == [True, False, True, False, False]


def test_settings_that_this_environment_gives_another_value_are_told() -> None:
    held = {"engagement_period_months": 12, "keep_row_without_clicks": False}
    other = settings.Settings(engagement_period_months=24)
    silent = doctor_postgres.compare(doctor.Patient(other), held)
    assert [one.state for one in silent] == [doctor.State.OK]
    (told,) = doctor_postgres.compare(doctor.Patient(other, frozenset(held)), held)
    assert "12 in force, and 24 in this environment" in told.says


def test_homes_without_a_living_owner_are_told_with_the_owner() -> None:
    rows = [("facts", part, f"worker-{part % 2}", 3, 0.5) for part in range(8)]
    assert [one.state for one in doctor_postgres.judge_owners(rows, 8)] == [doctor.State.OK]
    (never,) = doctor_postgres.judge_owners([], 8)
    assert "no worker has ever run" in never.says
    (missing,) = doctor_postgres.judge_owners(rows[:6], 8)
    assert missing.says == "2 of 8 homes were never owned"
    frozen = [(*row[:4], 40.0) if row[2] == "worker-1" else row for row in rows]
    (silent,) = doctor_postgres.judge_owners(frozen, 8)
    assert silent.says == "worker-1 has said nothing for 40 s; it owns facts 1, facts 3, facts 5, facts 7"


def test_lag_is_told_from_two_looks() -> None:
    def said(before: int, first: int, end: int, after: int, topic: str = "facts") -> list[str]:
        name = ("fold", topic, 0)
        found = doctors.judge_lag({name: before}, {name[1:]: log.Ends(first, end)}, {name: after})
        return [one.says for one in found if one.state is not doctor.State.OK]

    assert said(100, 0, 100, 100) == []
    assert said(0, 0, 100, 100) == []
    assert said(0, 0, 100, 90) == []  # reads on, and will soon be there
    assert said(50, 0, 100, 50) == ["fold of facts stands still, 50 records to read"]
    assert said(0, 0, 1_000_000, 10) == ["fold of facts is over a minute behind, 999,990 records to read"]
    assert said(200, 0, 100, 200) == ["fold of facts: 1 partitions end before the position"]
    assert said(5, 10, 100, 5) == ["fold of facts: records of 1 partitions were deleted unread"]
    assert said(5, 10, 100, 100, "commands") == []
