"""How values are written in a page: numbers, instants, ages, sizes, who did something.

Promises: an instant stands in `<time>` with all its digits, and for people to the second, in UTC. What
somebody sent can turn nothing round and hide nothing.
Called by: the templates, by way of `api.console.pages`.
"""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime
from typing import Any, Final

import markupsafe

from schemas import envelope

NONE: Final = markupsafe.Markup('<span class="none">none</span>')
_STEERING: Final = ("Cc", "Cf", "Zl", "Zp")
_STEPS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def now() -> datetime:
    """The instant of a page, in UTC."""
    return datetime.now(UTC)


def number(value: int | None) -> str:
    """With a comma between thousands."""
    return NONE if value is None else f"{value:,}"


def instant(value: datetime | None) -> markupsafe.Markup:
    """Date and time to the second; all of it in the attribute."""
    return _time(value, "{:%Y-%m-%d %H:%M:%S}")


def day(value: datetime | None) -> markupsafe.Markup:
    """The date; all of it in the attribute."""
    return _time(value, "{:%Y-%m-%d}")


def _time(value: datetime | None, form: str) -> markupsafe.Markup:
    if value is None:
        return NONE
    return _marked(value, form.format(value.astimezone(UTC)))


def _marked(value: datetime, text: str) -> markupsafe.Markup:
    whole = envelope.format_time(value.astimezone(UTC))
    return markupsafe.Markup('<time datetime="{}">{}</time>').format(whole, text)


def age(value: datetime | None, at: datetime) -> markupsafe.Markup:
    """How long ago, in its largest unit."""
    if value is None:
        return NONE
    return _marked(value, f"{seconds((at - value).total_seconds())} ago")


def seconds(value: float | None) -> str:
    """A duration in its largest unit."""
    if value is None:
        return "unknown"
    whole = max(0, int(value))
    size, unit = next((one for one in _STEPS if whole >= one[0]), _STEPS[-1])
    return f"{whole // size} {unit}"


def words(value: str) -> str:
    """A name of ours as words: `no_subject` is no subject."""
    return value.replace("_", " ")


def sentence(value: str) -> str:
    """With a capital at its start."""
    return value[:1].upper() + value[1:]


def visible(value: str) -> str:
    """What somebody sent, with every character to be seen that only steers how others are shown."""
    return "".join(
        f"\\u{ord(one):04x}" if unicodedata.category(one) in _STEERING and one not in "\n\t" else one
        for one in value
    )


def plural(value: int, one: str, many: str = "") -> str:
    """A number and its noun."""
    return f"{value:,} {one if value == 1 else many or one + 's'}"


FILTERS: Final[dict[str, Any]] = {
    "number": number, "instant": instant, "day": day, "age": age, "seconds": seconds, "words": words,
    "plural": plural, "sentence": sentence, "visible": visible,
}  # fmt: skip
