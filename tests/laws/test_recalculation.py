"""After a change of the rule everyone is computed anew, whoever writes meanwhile and in whatever order."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest

from projections import recalculation
from schemas import registry as facts
from schemas import settings
from streams import telling
from tests.laws import registrar as registrars
from tests.laws import world

NOW = datetime.now(UTC).replace(microsecond=0)
OLD = NOW - timedelta(days=250)  # inside twelve months, outside six


def changed(name: str, value: object, time: datetime = NOW, **more: str) -> bytes:
    content = facts.SettingChanged(name, settings.written(value))
    entry = telling.Entry("setting.changed", facts.setting(name), content, "tests", time=time, **more)
    return telling.record(entry).value


def months(value: int, time: datetime = NOW, **more: str) -> bytes:
    return changed("engagement_period_months", value, time, **more)


def tell(worker: world.Worker, *contacts: str) -> None:
    for contact in contacts:
        worker.log.tell(world.click(OLD, contact))


def queued(observer: world.Observer) -> set[str]:
    return {contact for (contact,) in observer.all("select contact_id from heed_data.recalculation")}


@pytest.mark.capability("CEE-7", "CEE-9")
def test_a_change_moves_everyone_also_those_without_a_row(
    observer: world.Observer, worker: world.Worker, registrar: registrars.Registrar
) -> None:
    tell(worker, *(f"c{number}" for number in range(30)))
    worker.log.tell(world.click(NOW - timedelta(days=400), "gone"))
    worker.advance()
    assert len(observer.rows()) == 30
    registrar.fold(months(6))
    registrar.settle()
    assert queued(observer) == {"gone", *(f"c{number}" for number in range(30))}
    worker.fold.recalculate = True
    worker.advance()
    assert observer.rows() == {}
    assert queued(observer) == set()
    registrar.fold(months(24, NOW + timedelta(milliseconds=1)))
    registrar.settle()
    worker.advance()
    assert len(observer.rows()) == 31
    assert {row[6] for row in observer.rows().values()} == {24}


@pytest.mark.capability("CEE-7")
def test_who_wrote_under_the_old_rule_is_not_passed_over(
    observer: world.Observer, worker: world.Worker, registrar: registrars.Registrar
) -> None:
    """A transaction that read the old rule, and is not committed, holds up the queueing."""
    tell(worker, "early")
    worker.advance()
    with worker.fuse.real.transaction():
        tell(worker, "late")
        worker.advance()  # a savepoint of the open transaction
        registrar.fold(months(6))
        for _ in range(5):
            registrar.fold()
        assert queued(observer) == set()
        assert recalculation.is_filling(registrar.connection)
    assert set(observer.rows()) == {"early", "late"}
    registrar.settle()
    assert queued(observer) == {"early", "late"}
    worker.advance()
    assert observer.rows() == {}


@pytest.mark.capability("LAW-1")
def test_the_latest_by_time_and_id_holds_in_every_order(
    observer: world.Observer, registrar: registrars.Registrar
) -> None:
    told = [
        months(3, NOW, id="b"),
        months(4, NOW, id="a"),
        months(5, NOW - timedelta(days=1), id="z"),
        months(3, NOW, id="b"),
    ]
    for order in itertools.permutations(told):
        registrar.connection.execute("delete from registry")
        for value in order:
            registrar.fold(value)
        assert observer.all("select period_months from heed_data.rule") == [(3,)]


@pytest.mark.capability("LAW-5")
def test_the_rule_as_it_was(observer: world.Observer, registrar: registrars.Registrar) -> None:
    registrar.fold(months(6, NOW), months(24, NOW - timedelta(days=2)))
    for days, expected in ((0, 6), (1, 24), (2, 24), (3, 12)):
        found = observer.all("select period_months from heed_data.rule_at(%s)", NOW - timedelta(days=days))
        # before anything was said, the rule is the one the environment gave: what the table holds now
        assert found == [(6 if days == 3 else expected,)]


@pytest.mark.capability("CEE-9")
def test_who_fails_keeps_the_place_and_the_reason_and_stops_nobody(
    observer: world.Observer, worker: world.Worker, registrar: registrars.Registrar
) -> None:
    tell(worker, "bad", "good", "other")
    worker.advance()
    registrar.fold(months(6))
    registrar.settle()
    observer.all("insert into trial.broken values ('bad') returning 1")
    worker.advance()
    [line] = observer.all("select contact_id, reason, error is not null from heed_data.recalculation")
    assert line == ("bad", "setting", True)
    assert set(observer.rows()) == {"bad"}
    observer.all("delete from trial.broken returning 1")
    worker.advance(at=datetime.now(UTC) + timedelta(hours=2))
    assert queued(observer) == set()
    assert observer.rows() == {}


@pytest.mark.capability("CEE-9")
def test_a_cause_that_comes_while_contacts_are_queued_queues_them_again(
    observer: world.Observer, worker: world.Worker, registrar: registrars.Registrar
) -> None:
    tell(worker, *(f"c{number}" for number in range(9)))
    worker.advance()
    registrar.fold(months(6))
    registrar.settle()
    registrar.fold(months(24, NOW + timedelta(seconds=1)))
    registrar.settle()
    worker.advance()
    assert {row[6] for row in observer.rows().values()} == {24}
    assert len(observer.rows()) == 9


REFUSED: Mapping[str, bytes] = {
    "a value that none takes": changed("engagement_period_months", 0),
    "another setting": changed("homes", 3),
    "another subject": months(6).replace(b"setting:engagement_period_months", b"setting:zone"),
    "no fact": b"{}",
    "a fact of the log": world.encode(world.click(NOW)),
    "nothing": b"",
}


@pytest.mark.capability("LAW-7")
@pytest.mark.parametrize("value", REFUSED.values(), ids=REFUSED)
def test_what_a_stranger_writes_is_parked(
    observer: world.Observer, registrar: registrars.Registrar, value: bytes
) -> None:
    observer.all("delete from heed_ops.parked returning 1")
    registrar.fold(value, months(7))
    assert observer.all("select period_months from heed_data.rule") == [(7,)]
    assert observer.all("select topic, part, off from heed_ops.parked") == [
        ("registry", 0, registrar.next - 2)
    ]
