"""The oracle itself, held against cases worked out by hand."""

from __future__ import annotations

import hashlib
import json
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import rfc8785

from tests import oracle
from tests.oracle import audit, doors, model
from tests.oracle.broker import Record
from tests.oracle.database import Shown, Snapshot, Stored

MS = timedelta(milliseconds=1)
DAY = timedelta(days=1)
POSITIONS = {("facts", 0): 10, ("facts", 1): 10, ("email-activity", 0): 10}
NOW = datetime(2026, 11, 22, 14, 0, tzinfo=UTC)


def on(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def fact(name: str, time: datetime | str, mailing: str | None = "m1", **more: Any) -> dict[str, Any]:
    """An envelope as it stands on the log; its id follows from its content unless one is given."""
    told = on(time) if isinstance(time, str) else time
    contact = more.pop("contact", "ada")
    source = more.pop("source", "urn:test")
    identity = more.pop("id", None)
    data = {**({} if mailing is None else {"mailing_id": mailing}), **more}
    digest = hashlib.blake2b(rfc8785.dumps({"type": name, "data": data}), digest_size=16).hexdigest()
    return {
        "specversion": "1.0",
        "id": identity or f"{name}-{told.isoformat()}-{digest}",
        "source": source,
        "type": name,
        "subject": f"contact:{contact}",
        "time": told.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "dataschema": f"urn:heed:{name}:1",
        "data": data,
        "digest": digest,
        "accepted": "2026-11-22T14:00:00.000Z",
    }


def click(time: datetime | str, mailing: str | None = "m1", **more: Any) -> dict[str, Any]:
    return fact("mail.clicked", time, mailing, url="https://example.org/", **more)


def delivery(time: datetime | str, mailing: str = "m1", **more: Any) -> dict[str, Any]:
    return fact("mail.delivered", time, mailing, **more)


def change(kind: str, time: datetime | str, **more: Any) -> dict[str, Any]:
    return fact(f"contact.{kind}", time, None, **more)


def row_of(facts: list[dict[str, Any]], at: datetime | str = NOW, **rule: Any) -> oracle.Row | None:
    instant = on(at) if isinstance(at, str) else at
    return oracle.expected(facts, instant, **rule).get("ada")


def has_row(facts: list[dict[str, Any]], at: datetime | str, **rule: Any) -> bool:
    return row_of(facts, at, **rule) is not None


@pytest.mark.parametrize(
    ("told", "months", "last"),
    [
        ("2026-01-31T09:00:00", 1, "2026-02-28T09:00:00"),
        ("2024-01-31T09:00:00", 1, "2024-02-29T09:00:00"),
        ("2024-02-29T12:00:00", 12, "2025-02-28T12:00:00"),
        ("2024-02-29T12:00:00", 48, "2028-02-29T12:00:00"),
        ("2023-02-28T12:00:00", 12, "2024-02-28T12:00:00"),
        ("2026-03-31T23:59:59.999", 1, "2026-04-30T23:59:59.999"),
        ("2025-11-22T14:00:00", 12, "2026-11-22T14:00:00"),
        ("1999-12-31T00:00:00", 1200, "2099-12-31T00:00:00"),
        ("2100-02-28T00:00:00", 12, "2101-02-28T00:00:00"),
    ],
)
def test_a_fact_counts_to_the_last_millisecond_of_its_window(told: str, months: int, last: str) -> None:
    clicked = [click(told)]
    assert has_row(clicked, last, period_months=months)
    assert has_row(clicked, on(last) + timedelta(microseconds=999), period_months=months)
    assert not has_row(clicked, on(last) + MS, period_months=months)


def test_the_later_of_two_clicks_may_leave_first() -> None:
    earlier, later = click("2026-01-30T10:00:00", "m1"), click("2026-01-31T09:00:00", "m2")
    at_both = row_of([earlier, later], "2026-02-28T09:00:00", period_months=1)
    assert at_both is not None and at_both.frequency == 2
    between = row_of([earlier, later], on("2026-02-28T09:00:00") + MS, period_months=1)
    assert between is not None
    assert (between.frequency, between.date_last_click) == (1, on("2026-01-30T10:00:00"))
    assert not has_row([earlier, later], on("2026-02-28T10:00:00") + MS, period_months=1)


def test_thirty_days_are_seconds_and_not_a_month() -> None:
    facts = [click(NOW), delivery(NOW - 30 * DAY)]
    row = row_of(facts, NOW)
    assert row is not None and (row.volume, row.volume_last_30) == (1, 1)
    row = row_of(facts, NOW + MS)
    assert row is not None and (row.volume, row.volume_last_30) == (1, 0)


def test_a_short_month_may_end_before_thirty_days_do() -> None:
    facts = [click("2026-02-28T12:00:00"), delivery("2026-01-31T12:00:00")]
    row = row_of(facts, on("2026-02-28T12:00:00") + MS, period_months=1)
    assert row is not None and (row.volume, row.volume_last_30) == (0, 1)


def test_mailings_are_counted_once() -> None:
    facts = [click(NOW - DAY, "m1"), click(NOW - 2 * DAY, "m1"), click(NOW - 3 * DAY, "m1", contact="ada")]
    row = row_of(facts)
    assert row is not None and row.frequency == 1
    assert (row.date_first_click, row.date_last_click) == (NOW - 3 * DAY, NOW - DAY)
    row = row_of(
        [*facts, click(NOW, "m2"), delivery(NOW, "m1"), delivery(NOW - DAY, "m1"), delivery(NOW, "m3")]
    )
    assert row is not None and (row.frequency, row.volume, row.volume_last_30) == (2, 2, 2)


def test_frequency_may_exceed_volume() -> None:
    row = row_of([delivery("2025-11-20T00:00:00"), click("2025-11-23T00:00:00")])
    assert row is not None and (row.frequency, row.volume) == (1, 0)


def test_what_counts_nowhere() -> None:
    assert not has_row([click(NOW, test=True), delivery(NOW)], NOW)
    assert not has_row([click(NOW, None), delivery(NOW)], NOW)
    assert not has_row([fact("mail.opened", NOW), delivery(NOW)], NOW)
    marked = row_of(
        [click(NOW, "m1", test=True), click(NOW - DAY, "m1", test=False), delivery(NOW, test=True)]
    )
    assert marked is not None and (marked.frequency, marked.volume) == (1, 0)
    assert marked.date_last_click == NOW - DAY


def test_a_bounce_takes_no_delivery_back() -> None:
    row = row_of([click(NOW), delivery(NOW - DAY), fact("mail.bounced", NOW, kind="hard")])
    assert row is not None and row.volume == 1


def test_no_click_no_row_unless_deliveries_keep_it() -> None:
    facts = [delivery(NOW - 40 * DAY)]
    assert not has_row(facts, NOW)
    kept = row_of(facts, NOW, keep_row_without_clicks=True)
    assert kept == oracle.Row("ada", None, None, 0, 1, 0, 12)
    assert oracle.recency(kept, NOW) is None
    assert not has_row(facts, NOW, keep_row_without_clicks=True, period_months=1)


def test_recency_counts_whole_days_of_24_hours() -> None:
    row = row_of([click(NOW)])
    days = [
        oracle.recency(row, NOW + wait) for wait in (-2 * MS, 0 * MS, DAY - MS, DAY, 2 * DAY - MS, 2 * DAY)
    ]
    assert days == [0, 0, 0, 1, 1, 2]
    assert oracle.recency(None, NOW) is None


def test_a_fact_two_minutes_ahead_counts_at_once_and_not_as_of() -> None:
    ahead = [click(NOW + timedelta(minutes=2))]
    row = row_of(ahead)
    assert row is not None and row.date_last_click == NOW + timedelta(minutes=2)
    assert oracle.recency(row, NOW) == 0
    assert oracle.expected(ahead, NOW, upto=NOW) == {}


def test_as_of_leaves_out_what_is_dated_later() -> None:
    facts = [click(NOW - 2 * DAY, "m1"), click(NOW, "m2"), change("deleted", NOW + MS)]
    then = NOW - DAY
    assert oracle.expected(facts, then, upto=then)["ada"].frequency == 1
    assert oracle.expected(facts, NOW, upto=NOW)["ada"].frequency == 2
    assert oracle.expected(facts, NOW + MS, upto=NOW + MS) == {}


def test_deleted_and_restored_the_latest_by_time_then_id_then_source_holds() -> None:
    clicked = click(NOW - DAY)
    assert not has_row([clicked, change("deleted", NOW)], NOW)
    assert has_row([clicked, change("deleted", NOW), change("restored", NOW + MS)], NOW)
    assert not has_row([clicked, change("restored", NOW), change("deleted", NOW + MS)], NOW)
    assert has_row([clicked, change("deleted", NOW, id="a"), change("restored", NOW, id="b")], NOW)
    assert not has_row([clicked, change("deleted", NOW, id="b"), change("restored", NOW, id="a")], NOW)
    deleted = change("deleted", NOW, id="a", source="urn:x")
    assert has_row([clicked, deleted, change("restored", NOW, id="a", source="urn:y")], NOW)
    assert not has_row([clicked, deleted, change("restored", NOW, id="a", source="urn:w")], NOW)


def test_restored_it_has_the_row_it_would_have_had() -> None:
    facts = [click(NOW - DAY), change("deleted", NOW - 3 * DAY), change("restored", NOW - 2 * DAY)]
    assert row_of(facts) == row_of(facts[:1])


def test_of_two_contents_the_smaller_time_and_digest_holds() -> None:
    early, late = click(NOW - DAY, "m1", id="x"), click(NOW, "m2", id="x")
    for order in ([early, late], [late, early], [late, early, late, early]):
        row = row_of(order)
        assert row is not None and (row.frequency, row.date_last_click) == (1, NOW - DAY)
    small, great = sorted(
        [click(NOW, "m1", id="x"), click(NOW, "m2", id="x", test=True)], key=lambda told: str(told["digest"])
    )
    alone = row_of([small])
    assert row_of([great, small]) == row_of([small, great]) == alone


def test_the_same_id_of_two_sources_is_two_facts() -> None:
    row = row_of([click(NOW, "m1", id="x", source="urn:a"), click(NOW, "m2", id="x", source="urn:b")])
    assert row is not None and row.frequency == 2


def test_neither_order_nor_copies_matter() -> None:
    dice = random.Random(7)
    facts = [click(NOW - dice.randrange(500) * DAY, f"m{n % 9}", contact=f"c{n % 7}") for n in range(200)]
    facts += [change(("deleted", "restored")[n % 2], NOW - n * DAY, contact=f"c{n % 3}") for n in range(9)]
    wanted = oracle.expected(facts, NOW)
    assert wanted
    for _ in range(5):
        shuffled = [*facts, *dice.choices(facts, k=50)]
        dice.shuffle(shuffled)
        assert oracle.expected(shuffled, NOW) == wanted


def test_a_window_past_the_year_9999_never_ends() -> None:
    assert has_row([click("9999-06-01T00:00:00")], "9999-12-31T00:00:00")
    history = oracle.histories([oracle.read(click("9999-06-01T00:00:00"))])["ada"]
    assert oracle.dropped_out(history, NOW, oracle.Rule()) == []


def test_the_next_instant_at_which_something_leaves() -> None:
    told = [delivery("2026-11-01T00:00:00"), click("2026-01-31T09:00:00", test=False)]
    history = oracle.histories(map(oracle.read, told))["ada"]
    assert oracle.dropped_out(history, NOW, oracle.Rule(period_months=10)) == [
        on("2026-11-30T09:00:00") + MS,
        on("2026-12-01T00:00:00") + MS,
        on("2027-09-01T00:00:00") + MS,
    ]


def test_an_instant_needs_a_zone() -> None:
    with pytest.raises(ValueError, match="zone"):
        oracle.expected([click(NOW)], datetime(2026, 1, 1))


def snapshot(**changed: Any) -> Snapshot:
    row = row_of([click(NOW - DAY)])
    assert row is not None
    until = model.dropped_out(model.histories([model.read(click(NOW - DAY))])["ada"], NOW, model.Rule())[0]
    whole: dict[str, Any] = {
        "at": NOW,
        "rule": model.Rule(),
        "positions": POSITIONS,
        "stored": {"ada": Stored(row, 0, until)},
        "shown": {"ada": Shown(row, 1, NOW)},
        "nudged": frozenset(),
        "parked": {},
    }
    return Snapshot(**{**whole, **changed})


def record(
    value: bytes, topic: str = "facts", offset: int = 0, headers: dict[str, bytes] | None = None
) -> Record:
    key = json.loads(value)["subject"].encode() if topic == "facts" else None
    return Record(topic, 0, offset, int(NOW.timestamp() * 1000), key, value, headers or {})


def test_the_comparison_names_each_column_that_differs() -> None:
    log = audit.read_log([record(json.dumps(click(NOW - DAY)).encode())], POSITIONS)
    whole = snapshot()
    assert log.wrong == []
    assert audit.compare(whole, log).rows == []

    row = whole.stored["ada"].row
    broken = oracle.Row("ada", row.date_first_click, row.date_last_click, 2, 0, 0, 12)
    wrong = audit.compare(
        snapshot(stored={"ada": Stored(broken, 0, None)}, shown={"ada": Shown(broken, 0, NOW)}), log
    )
    assert (wrong.contacts, wrong.differing) == (1, 1)
    assert [line.split(",")[0] for line in wrong.rows] == [
        "ada: frequency is 2",
        "ada: recency is 0",
        "ada: frequency is 2",
    ]


@pytest.mark.parametrize("part", ["stored", "shown"])
def test_the_comparison_finds_missing_and_added_rows(part: str) -> None:
    told = [record(json.dumps(click(NOW - DAY)).encode())]
    log = audit.read_log(told, POSITIONS)
    assert "missing" in audit.compare(snapshot(**{part: {}}), log).rows[0]
    assert "should not be" in audit.compare(snapshot(), audit.read_log([], POSITIONS)).rows[0]
    assert audit.compare(snapshot(**{part: {}}, nudged=frozenset({"ada"})), log).skipped == 1
    assert audit.read_log(told, {}).ahead == 1


def test_a_stored_row_has_to_hold_to_the_end_of_what_it_claims() -> None:
    log = audit.read_log([record(json.dumps(click(NOW - DAY)).encode())], POSITIONS)
    row = snapshot().stored["ada"].row
    late = Stored(row, 0, on("2027-11-21T14:00:00.002000"))
    assert (
        "should not be at 2027-11-21T14:00:00.001"
        in audit.compare(snapshot(stored={"ada": late}), log).rows[0]
    )


def test_the_log_is_proved_record_by_record() -> None:
    good = click(NOW - DAY)
    wrong = audit.read_log(
        [
            record(json.dumps(good).encode()),
            record(json.dumps({**good, "subject": "email:ada@example.org"}).encode(), offset=1),
            Record("facts", 1, 0, 0, b"contact:ada", json.dumps(good).encode(), {}),
            Record("facts", 0, 2, 0, None, b"{", {}),
        ],
        POSITIONS,
    ).wrong
    assert [line.split(": ")[1] for line in wrong] == [
        "the subject is neither a contact nor a session",
        "another partition than the subject's other facts",
        "no envelope (JSONDecodeError)",
    ]


def door(offset: int = 0, door: str = "email-activity", **changed: Any) -> Record:
    told = {
        name: value for name, value in click(NOW).items() if name not in ("digest", "accepted", "dataschema")
    }
    return record(json.dumps({**told, **changed}).encode(), door, offset)


def test_each_door_record_is_in_the_log_or_parked() -> None:
    taken = {"door": b"email-activity", "partition": b"0", "offset": b"0"}
    other = {**taken, "offset": b"4"}
    facts = [record(json.dumps(click(NOW)).encode(), headers=headers) for headers in (taken, other)]
    log = audit.read_log(facts, POSITIONS)
    parked = snapshot(parked={("email-activity", 0, 1): "unknown_type", ("email-activity", 0, 3): "invalid"})
    records = [door(0), door(1, type="mail.burned"), door(2), door(3), door(4, id="another"), door(10)]
    judged, waiting, wrong = audit.account(records, parked, log, timedelta(minutes=5))
    assert (judged, waiting) == (5, 1)
    assert wrong == [
        "email-activity/0/2: neither in the log nor parked",
        "email-activity/0/3: a good event is parked as invalid",
        "email-activity/0/4: the log tells something else of it",
    ]


@pytest.mark.parametrize(
    ("changed", "verdict"),
    [
        ({}, doors.Verdict.GOOD),
        ({"extra": 1}, doors.Verdict.GOOD),
        ({"time": "2026-11-22T14:05:00Z"}, doors.Verdict.GOOD),
        ({"time": "2026-11-22T14:05:00.001Z"}, doors.Verdict.EITHER),
        ({"dataschema": "urn:heed:mail.clicked:2"}, doors.Verdict.EITHER),
        ({"data": {"url": 1}}, doors.Verdict.EITHER),
        ({"type": "contact.deleted"}, doors.Verdict.BAD),
        ({"type": "mail.burned"}, doors.Verdict.BAD),
        ({"subject": "mail:ada@example.org"}, doors.Verdict.BAD),
        ({"subject": "email:ada@example.org"}, doors.Verdict.EITHER),
        ({"subject": "contact:ada@example.org"}, doors.Verdict.BAD),
        ({"time": None}, doors.Verdict.BAD),
    ],
)
def test_judging_a_door_record(changed: dict[str, Any], verdict: doors.Verdict) -> None:
    assert doors.judge(door(**changed).value, "email-activity", NOW) is verdict


@pytest.mark.parametrize(
    "raw", [b"", b"\xff\xfe", b"[]", b"nul", b'{"a":' * 5000, b'"' + b"a" * 40_000 + b'"']
)
def test_rubbish_is_never_good(raw: bytes) -> None:
    assert doors.judge(raw, "email-activity", NOW) is doors.Verdict.BAD
