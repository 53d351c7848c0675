"""An error inside one contact: it keeps its nudge and its place in time, and holds up nobody."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from projections import halving
from schemas import topics
from tests.laws import generator, world

NOW = generator.NOW
YEAR = timedelta(days=365)
SECOND = timedelta(seconds=1)


def shut(observer: world.Observer, *contacts: str) -> None:
    observer.connection.execute("delete from trial.broken")
    for contact in contacts:
        observer.connection.execute("insert into trial.broken values (%s)", (contact,))


def tries(observer: world.Observer) -> list[tuple[str, int, datetime]]:
    """Of each contact in error: how often it was tried, and when it is tried again."""
    found = observer.all("select subject, attempts, retry_at from heed_data.nudge where error is not null")
    return [(subject.removeprefix("contact:"), attempts, retry_at) for subject, attempts, retry_at in found]


def test_the_others_rows_go_on_and_its_facts_stay(worker: world.Worker, observer: world.Observer) -> None:
    contacts = [f"c{number}" for number in range(40)]
    shut(observer, "c7", "c31")
    for contact in contacts:
        worker.log.tell(world.click(NOW, contact))
    done = worker.advance(at=NOW)
    assert sorted(done.failed) == ["c31", "c7"]
    assert sorted(observer.rows()) == sorted(set(contacts) - {"c7", "c31"})
    assert len(observer.facts()) == 40
    assert sorted(observer.nudged()) == ["c31", "c7"]
    assert all("this contact is broken" in str(error) for error in observer.nudged().values())


SLOW = world.TRIAL.replace("raise exception 'this contact is broken'", "perform pg_sleep(60)")


@pytest.fixture
def slow(observer: world.Observer) -> Iterator[None]:
    """A contact that is shut takes a minute instead of raising."""
    observer.connection.execute(SLOW.encode())
    yield
    observer.connection.execute(world.TRIAL.encode())


@pytest.mark.usefixtures("slow")
def test_one_that_takes_too_long_is_found_too(worker: world.Worker, observer: world.Observer) -> None:
    worker.fuse.real.execute("set statement_timeout = '1s'")
    contacts = [f"c{number}" for number in range(40)]
    shut(observer, "c7")
    for contact in contacts:
        worker.log.tell(world.click(NOW, contact))
    done = worker.advance(at=NOW)
    assert (done.failed, done.more, done.contacts) == (["c7"], False, 40)
    assert sorted(observer.rows()) == sorted(set(contacts) - {"c7"})
    assert "statement timeout" in str(observer.nudged()["c7"])
    assert worker.fuse.real.execute("show statement_timeout").fetchone() == ("1s",)


@pytest.mark.usefixtures("slow")
def test_whom_a_slow_server_leaves_is_nudged(
    worker: world.Worker, observer: world.Observer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The positions are free after a bounded time; everybody's turn comes."""
    monkeypatch.setattr(halving, "PATIENCE", 1)
    worker.fuse.real.execute("set statement_timeout = '300ms'")
    contacts = [f"c{number:02}" for number in range(20)]
    shut(observer, "c00", "c01")
    for contact in contacts:
        worker.log.tell(world.click(NOW, contact))
    done = worker.advance(at=NOW)
    assert (done.failed, done.more, done.contacts) == (["c00"], True, 1)
    assert len(observer.facts()) == 20
    assert sorted(observer.nudged()) == contacts
    shut(observer)
    done = worker.advance(at=max(NOW, datetime.now(UTC)) + SECOND)
    assert (done.failed, done.more) == ([], False)
    assert observer.nudged() == {}


def test_it_is_tried_after_a_second_doubling_to_an_hour(
    worker: world.Worker, observer: world.Observer
) -> None:
    shut(observer, "ada")
    worker.log.tell(world.click(NOW, "ada"))
    at, waits = NOW, []
    for number in range(15):
        worker.advance(at=at)
        [(_, attempts, retry_at)] = tries(observer)
        assert attempts == number + 1
        waits.append((retry_at - at) // SECOND)
        worker.advance(at=retry_at - generator.MS)
        assert tries(observer) == [("ada", attempts, retry_at)], "not before its time"
        at = retry_at
    assert waits == [min(3600, 2**number) for number in range(15)]


def test_it_is_tried_at_its_next_fact(worker: world.Worker, observer: world.Observer) -> None:
    shut(observer, "ada")
    worker.log.tell(world.click(NOW, "ada"))
    for number in range(5):
        worker.advance(at=NOW)
        worker.log.tell(world.click(NOW, "ada", id=f"e{number}"))
    assert [(contact, attempts) for contact, attempts, _ in tries(observer)] == [("ada", 5)]
    shut(observer)
    worker.advance(at=NOW)
    assert sorted(observer.rows()) == ["ada"]


def test_mended_it_has_the_row_it_would_have_had(worker: world.Worker, observer: world.Observer) -> None:
    shut(observer, "ada")
    worker.log.tell(world.click(NOW, "ada"))
    worker.advance(at=NOW)
    shut(observer)
    worker.advance(at=NOW + SECOND)
    assert sorted(observer.rows()) == ["ada"]
    assert observer.nudged() == {}


@pytest.mark.capability("CEE-8")
def test_a_due_contact_in_error_waits_for_its_next_try(
    worker: world.Worker, observer: world.Observer
) -> None:
    """Else a timer would try it at every turn, and never rest."""
    worker.log.tell(world.click(NOW, "ada"))
    worker.log.tell(world.click(NOW, "bob"))
    worker.advance(at=NOW)
    shut(observer, "ada")
    due = NOW + YEAR + generator.MS
    for _ in range(50):
        worker.advance(at=due)
    assert sorted(observer.rows()) == ["ada"], "bob's has gone at its time"
    assert tries(observer) == [("ada", 1, due + SECOND)]
    shut(observer)
    assert worker.advance(at=due + SECOND).commands == 1
    assert observer.rows() == {}


def test_a_due_contact_in_error_is_nothing_to_wake_for(
    worker: world.Worker, observer: world.Observer
) -> None:
    connection = observer.connection
    worker.log.tell(world.click(NOW, "ada"))
    worker.advance(at=NOW)
    home = topics.home("contact:ada", world.HOMES)
    connection.execute("update heed_data.engagement set valid_until = now() - interval '1 second'")
    assert worker.fold.waiting([home])
    connection.execute(
        "insert into heed_data.nudge (home, subject, reason, error, retry_at) "
        "values (%s, 'contact:ada', 'error', 'broken', now() + interval '1 minute')",
        (home,),
    )
    assert not worker.fold.waiting([home])


def test_a_nudge_in_a_home_that_is_not_the_contacts_is_handed_on(
    worker: world.Worker, observer: world.Observer, module_database: str
) -> None:
    home = topics.home("contact:ada", world.HOMES)
    other = (home + 1) % world.HOMES
    worker.log.tell(world.click(NOW, "ada"))
    worker.advance(at=NOW)
    observer.connection.execute("delete from heed_data.engagement")
    elsewhere = world.Worker("w1", module_database, worker.log)
    elsewhere.claim([(topics.FACTS, other), (topics.COMMANDS, other)])
    observer.connection.execute(
        "insert into heed_data.nudge (home, subject, reason) values (%s, 'contact:ada', 'test')", (other,)
    )
    elsewhere.advance(at=NOW)
    elsewhere.close()
    assert observer.rows() == {}, "only the owner of its home writes its row"
    assert observer.all("select home, subject from heed_data.nudge") == [(home, "contact:ada")]
