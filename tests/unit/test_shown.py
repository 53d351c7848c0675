"""How values are written in a page."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from api.console import shown

AT = datetime(2026, 1, 31, 9, 0, 0, 123_000, tzinfo=UTC)


def test_an_instant_has_all_its_digits_and_is_utc() -> None:
    there = AT.astimezone(timezone(timedelta(hours=5, minutes=30)))
    for one in (AT, there):
        assert shown.instant(one) == '<time datetime="2026-01-31T09:00:00.123Z">2026-01-31 09:00:00</time>'
        assert shown.day(one) == '<time datetime="2026-01-31T09:00:00.123Z">2026-01-31</time>'
    assert shown.instant(None) == shown.day(None) == shown.number(None) == shown.NONE


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (-3, "0 s"),
        (0, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (3_599, "59 min"),
        (3_600, "1 h"),
        (172_800, "2 d"),
    ],
)
def test_an_age_is_told_in_its_largest_unit(seconds: float, told: str) -> None:
    assert shown.seconds(seconds) == told
    assert f">{told} ago</time>" in shown.age(AT - timedelta(seconds=seconds), AT)
    assert shown.seconds(None) == "unknown"


def test_numbers_and_nouns() -> None:
    assert shown.number(1_234_567) == "1,234,567"
    assert [shown.plural(n, "record") for n in (0, 1, 1_000)] == ["0 records", "1 record", "1,000 records"]
    assert shown.words("no_subject") == "no subject"
    assert shown.sentence("a zone, as Europe/Amsterdam") == "A zone, as Europe/Amsterdam"


def test_what_only_steers_is_shown() -> None:
    assert shown.visible("a\u202eb\u200bc\x00d\u2028") == "a\\u202eb\\u200bc\\u0000d\\u2028"
    assert shown.visible("\tÄ ñ 日本\n") == "\tÄ ñ 日本\n"
