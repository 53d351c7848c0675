"""What a contact's row says, line by line of the specification, on a real PostgreSQL."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from projections import nudges
from projections.migrations import sql
from schemas import consent, topics
from tests import oracle
from tests.laws import generator, world

NOW = generator.NOW
MS = timedelta(milliseconds=1)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
YEAR = 366 * DAY  # there is a 29 February before NOW


def tell(worker: world.Worker, *envelopes: dict[str, Any], at: datetime = NOW) -> None:
    for envelope in envelopes:
        worker.log.tell(envelope)
    worker.advance(at=at)


def row(observer: world.Observer, contact: str = "ada") -> oracle.Row | None:
    line = observer.rows().get(contact)
    return None if line is None else oracle.Row(*line[:7])


def counts(observer: world.Observer) -> tuple[int, int, int] | None:
    """Frequency, volume and volume of the last 30 days."""
    found = row(observer)
    return None if found is None else (found.frequency, found.volume, found.volume_last_30)


def on(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.capability("CEE-1")
def test_a_click_is_in_the_row_with_its_own_transaction(
    worker: world.Worker, observer: world.Observer
) -> None:
    tell(worker, world.click(NOW))
    assert row(observer) == oracle.Row("ada", NOW, NOW, 1, 0, 0, 12)


@pytest.mark.capability("CEE-2")
def test_a_mailing_clicked_often_is_one(worker: world.Worker, observer: world.Observer) -> None:
    tell(worker, *(world.click(NOW - n * DAY, id=f"e{n}") for n in range(3)))
    assert counts(observer) == (1, 0, 0)
    tell(worker, world.click(NOW - DAY, mailing="m2"))
    found = row(observer)
    assert found == oracle.Row("ada", NOW - 2 * DAY, NOW, 2, 0, 0, 12)


@pytest.mark.capability("CEE-3")
@pytest.mark.parametrize(
    ("told", "months", "last"),
    [
        ("2096-02-28T12:00:00.000", 12, "2097-02-28T12:00:00.000"),
        ("2096-02-29T12:00:00.001", 12, "2097-02-28T12:00:00.001"),
        ("2095-02-28T23:59:59.999", 12, "2096-02-28T23:59:59.999"),
        ("2095-01-31T09:30:00.000", 1, "2095-02-28T09:30:00.000"),
        ("2096-01-31T09:30:00.000", 1, "2096-02-29T09:30:00.000"),
        ("2096-03-31T00:00:00.000", 1, "2096-04-30T00:00:00.000"),
        ("2095-08-31T00:00:00.000", 6, "2096-02-29T00:00:00.000"),
        ("2095-10-30T07:00:00.000", 4, "2096-02-29T07:00:00.000"),
        ("2096-02-29T00:00:00.000", 1200, "2196-02-29T00:00:00.000"),
        ("2096-02-29T00:00:00.000", 48, "2100-02-28T00:00:00.000"),
    ],
)
def test_a_window_ends_with_its_millisecond(
    worker: world.Worker, observer: world.Observer, told: str, months: int, last: str
) -> None:
    """A click, and a delivery that keeps a row alone."""
    for keep, envelope in ((False, world.click(on(told))), (True, world.delivery(on(told)))):
        observer.clear(months, keep)
        worker.forget()
        worker.log = world.Log()
        worker.claim_all()
        tell(worker, envelope, at=on(told))
        assert observer.rows()["ada"][8] == min(on(last), on(told) + 30 * DAY if keep else on(last)) + MS
        worker.advance(at=on(last))
        assert row(observer) is not None
        assert observer.rows()["ada"][8] == on(last) + MS
        worker.advance(at=on(last) + MS)
        assert row(observer) is None


@pytest.mark.parametrize("kind", ["mail.clicked", "mail.delivered"])
@pytest.mark.parametrize("time", ["9999-01-01T00:00:00.000", "9999-12-31T23:59:59.999"])
def test_a_strangers_fact_of_the_last_year_has_a_row_that_can_be_read(
    worker: world.Worker, observer: world.Observer, kind: str, time: str
) -> None:
    """Its window ends in a year that no client can read."""
    observer.rule(12, keep=True)
    told, last = world.told(kind, on(time)), on("9999-12-31T23:59:59.999")
    tell(worker, told)
    assert row(observer) == oracle.expected([told], NOW, keep_row_without_clicks=True)["ada"]
    if kind == "mail.delivered" and time < "9999-12":
        assert observer.rows()["ada"][8] == on(time) + 30 * DAY + MS
        worker.advance(at=on(time) + 30 * DAY + MS)
    assert observer.rows()["ada"][8] == last
    assert observer.shown(last - MS)["ada"][0] == "ada"


@pytest.mark.capability("CEE-3")
@pytest.mark.parametrize(
    ("told", "months", "volume"),
    [
        ("2095-02-01T10:00:00.000", 1, 0),
        ("2096-02-10T23:59:59.999", 1, 0),
        ("2095-12-31T00:00:00.000", 1, 1),
        ("2095-02-01T10:00:00.000", 12, 1),
    ],
)
def test_thirty_days_are_their_seconds_whatever_the_period(
    worker: world.Worker, observer: world.Observer, told: str, months: int, volume: int
) -> None:
    """A month may be shorter: then a delivery leaves volume before it leaves volume_last_30."""
    observer.rule(months, keep=False)
    last = on(told) + timedelta(seconds=30 * 86_400)
    tell(worker, world.delivery(on(told)), world.click(on(told) + 25 * DAY), at=on(told) + 25 * DAY)
    worker.advance(at=last)
    assert counts(observer) == (1, volume, 1)
    worker.advance(at=last + MS)
    assert counts(observer) == (1, volume, 0)


@pytest.mark.capability("CEE-4")
def test_a_fact_two_minutes_ahead_counts_at_once_with_recency_0(
    worker: world.Worker, observer: world.Observer
) -> None:
    ahead = NOW + timedelta(minutes=2)
    tell(worker, world.click(ahead))
    assert row(observer) == oracle.Row("ada", ahead, ahead, 1, 0, 0, 12)
    for later, recency in [
        (timedelta(0), 0),
        (ahead - NOW, 0),
        (ahead - NOW + DAY - MS, 0),
        (ahead - NOW + DAY, 1),
        (ahead - NOW + 2 * DAY - MS, 1),
        (ahead - NOW + 100 * DAY, 100),
    ]:
        assert observer.shown(NOW + later)["ada"][7] == recency


@pytest.mark.capability("CEE-4")
def test_recency_by_the_real_clock(worker: world.Worker, observer: world.Observer) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    for contact, before in (
        ("ada", -timedelta(minutes=2)),
        ("bob", 23 * HOUR),
        ("cy", 25 * HOUR),
    ):
        worker.log.tell(world.click(now - before, contact))
    worker.advance()
    found = observer.all("select contact_id, recency from heed_read.contact_engagement order by contact_id")
    assert found == [("ada", 0), ("bob", 0), ("cy", 1)]


@pytest.mark.capability("CEE-5")
def test_deliveries_move_volumes_without_any_click(worker: world.Worker, observer: world.Observer) -> None:
    tell(worker, world.click(NOW), world.delivery(NOW - 40 * DAY), world.delivery(NOW - DAY, mailing="m2"))
    assert counts(observer) == (1, 2, 1)
    tell(worker, world.delivery(NOW, mailing="m3"), world.delivery(NOW - MS, mailing="m3"))
    assert counts(observer) == (1, 3, 2)
    tell(worker, world.told("mail.bounced", NOW, mailing="m3"))
    assert counts(observer) == (1, 3, 2), "a later bounce takes nothing back"


@pytest.mark.capability("CEE-5")
def test_frequency_may_exceed_volume(worker: world.Worker, observer: world.Observer) -> None:
    tell(worker, world.delivery(NOW - 370 * DAY), world.click(NOW))
    assert counts(observer) == (1, 0, 0)


@pytest.mark.capability("CEE-5")
def test_tests_and_clicks_without_a_mailing_count_nowhere(
    worker: world.Worker, observer: world.Observer
) -> None:
    tell(worker, world.click(NOW, test=True), world.delivery(NOW, test=True), world.click(NOW, mailing=None))
    assert row(observer) is None
    tell(worker, world.click(NOW - DAY), world.delivery(NOW - DAY, test=False))
    assert row(observer) == oracle.Row("ada", NOW - DAY, NOW - DAY, 1, 1, 1, 12), "the mark is no mailing's"


@pytest.mark.capability("CEE-6")
def test_without_a_click_there_is_no_row(worker: world.Worker, observer: world.Observer) -> None:
    tell(worker, world.delivery(NOW), world.told("mail.opened", NOW))
    assert observer.rows() == {}
    assert observer.shown(NOW) == {}


@pytest.mark.capability("CEE-6")
def test_by_the_rule_a_delivery_keeps_a_row(worker: world.Worker, observer: world.Observer) -> None:
    observer.rule(12, keep=True)
    tell(worker, world.delivery(NOW - 31 * DAY), world.told("mail.opened", NOW, contact="bob"))
    assert list(observer.rows()) == ["ada"]
    assert observer.shown(NOW)["ada"] == ("ada", None, None, 0, 1, 0, 12, None, NOW)
    tell(worker, world.click(NOW - YEAR))
    assert observer.shown(NOW)["ada"][1:8] == (NOW - YEAR, NOW - YEAR, 1, 1, 0, 12, 366)
    worker.advance(at=NOW + MS)
    assert observer.shown(NOW + MS)["ada"] == ("ada", None, None, 0, 1, 0, 12, None, NOW + MS)


@pytest.mark.capability("CEE-8")
def test_a_timer_changes_the_table_and_tells_it(worker: world.Worker, observer: world.Observer) -> None:
    tell(worker, world.click(NOW), world.click(NOW - 364 * DAY, mailing="m2"), world.click(NOW, "bob"))
    due = observer.rows()["ada"][8]
    assert worker.advance(at=due - MS).commands == 0
    done = worker.advance(at=due)
    assert (done.expired, done.commands, counts(observer)) == ([due], 1, (1, 0, 0))
    assert worker.advance(at=due).commands == 0, "a second time there is nothing left"
    last = observer.rows()["ada"][8]
    assert worker.advance(at=last + DAY).expired == [last, last]
    assert observer.rows() == {}
    [(subjects,)] = observer.all("select array_agg(distinct key) from heed_ops.outbox")
    assert subjects == sorted({f"home:{topics.home(f'contact:{c}', world.HOMES)}" for c in ("ada", "bob")})


@pytest.mark.capability("CEE-8")
def test_without_timers_what_is_due_goes_when_asked(worker: world.Worker, observer: world.Observer) -> None:
    worker.timers = False
    tell(worker, world.click(NOW), world.click(NOW, "bob"))
    late = NOW + 400 * DAY
    worker.advance(at=late)
    assert len(observer.rows()) == 2
    assert observer.shown(late) == {}, "no reader sees what is past its time"
    for contact in ("ada", "bob"):
        subject = f"contact:{contact}"
        nudges.append(observer.connection, {subject: topics.home(subject, world.HOMES)}, "refresh")
    assert len(worker.advance(at=late).expired) == 2
    assert observer.rows() == {}
    assert worker.advance(at=late).expired == []


@pytest.mark.capability("CEE-12")
def test_a_deleted_contact_has_no_row_until_it_is_restored(
    worker: world.Worker, observer: world.Observer
) -> None:
    tell(worker, world.click(NOW - DAY), world.delivery(NOW - DAY))
    before = row(observer)
    tell(worker, world.told("contact.deleted", NOW - 9 * DAY))
    assert row(observer) is None
    tell(worker, world.click(NOW, mailing="m2"))
    assert row(observer) is None, "what comes after is kept, and hidden"
    tell(worker, world.told("contact.restored", NOW - 10 * DAY))
    assert row(observer) is None, "the latest word by time holds"
    tell(worker, world.told("contact.restored", NOW - 8 * DAY))
    found = row(observer)
    assert before is not None
    assert found is not None
    assert (found.frequency, found.volume, found.date_first_click) == (2, 1, before.date_first_click)


@pytest.mark.capability("CEE-12")
@pytest.mark.parametrize(
    ("deleted", "restored", "has_row"),
    [("a", "b", True), ("b", "a", False), ("a", "B", False), ("é", "z", False), ("e10", "e9", True)],
)
def test_of_two_words_at_one_instant_the_greater_id_holds(
    worker: world.Worker, observer: world.Observer, deleted: str, restored: str, has_row: bool
) -> None:
    """By code points, whatever language the database sorts in."""
    tell(worker, world.click(NOW), world.told("contact.deleted", NOW, id=deleted))
    tell(worker, world.told("contact.restored", NOW, id=restored))
    assert (row(observer) is not None) == has_row


@pytest.mark.capability("IDN-6")
@pytest.mark.parametrize("level", ["refused", "aggregate"])
def test_without_consent_no_click_is_in_the_row_and_with_it_all_are(
    worker: world.Worker, observer: world.Observer, level: str
) -> None:
    """Past ones too; of the words on it the latest by time holds, whenever it comes."""
    observer.rule(12, keep=True)
    tell(worker, world.click(NOW - DAY), world.delivery(NOW - DAY), world.told("mail.opened", NOW - DAY))
    tell(worker, world.told("contact.consent_changed", NOW - HOUR, level=level))
    assert row(observer) == oracle.Row("ada", None, None, 0, 1, 1, 12)
    tell(worker, world.click(NOW, mailing="m2"))
    assert counts(observer) == (0, 1, 1), "what comes after is kept, and withheld"
    tell(worker, world.told("contact.consent_changed", NOW - 2 * HOUR, level="individual"))
    assert counts(observer) == (0, 1, 1), "that was before"
    tell(worker, world.told("contact.consent_changed", NOW, level="individual"))
    assert row(observer) == oracle.Row("ada", NOW - DAY, NOW, 2, 1, 1, 12)


@pytest.mark.capability("IDN-6")
def test_without_consent_there_is_no_row_unless_the_rule_keeps_it(
    worker: world.Worker, observer: world.Observer
) -> None:
    tell(worker, world.click(NOW), world.delivery(NOW))
    tell(worker, world.told("contact.consent_changed", NOW, level="refused"))
    assert row(observer) is None


@pytest.mark.capability("IDN-5", "IDN-6")
def test_of_all_that_belongs_to_a_contact_the_most_restrictive_consent_holds(
    worker: world.Worker, observer: world.Observer
) -> None:
    member = "insert into heed_data.member values (%s, 'contact:ada', %s)"
    for subject in ("contact:bob", "session:s"):
        observer.connection.execute(member, (subject, topics.home("contact:ada", world.HOMES)))
    said = [
        world.told("contact.consent_changed", NOW - DAY, name, level="individual") for name in ("ada", "bob")
    ]
    tell(worker, world.click(NOW), world.click(NOW, "session:s", "m2"), world.click(NOW, "bob", "m3"), *said)
    worker.advance(at=NOW)
    assert counts(observer) == (3, 0, 0)
    tell(worker, world.told("contact.consent_changed", NOW, "bob", level="refused"))
    worker.advance(at=NOW)
    assert row(observer) is None
    tell(worker, world.told("contact.deleted", NOW, "bob"))
    worker.advance(at=NOW)
    assert row(observer) is None, "a wish does not end with the one who had it"
    tell(worker, world.told("contact.consent_changed", NOW + MS, "bob", level="individual"))
    worker.advance(at=NOW)
    assert counts(observer) == (2, 0, 0)


@pytest.mark.capability("IDN-6")
def test_what_withholds_is_the_same_word_in_sql() -> None:
    folder = Path(sql.__file__).parent
    listed = ", ".join(f"'{level}'" for level in consent.WITHHOLDING)
    found = [
        text
        for path in folder.glob("*.sql")
        for text in re.findall(r"'level'.{0,80}in \((.*)\)", path.read_text())
    ]
    assert found
    assert set(found) == {listed}
