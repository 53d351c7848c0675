"""A clock that can be stepped: Python imports this module by itself when its folder is on PYTHONPATH.

Promises: `time.time`, `time.time_ns`, `datetime.now`, `utcnow` and `today` are off by the seconds that stand
in the file SOAK_CLOCK, looked at five times a second; what they give are plain floats, ints and datetimes.
Limits: the process's own view only. What asks the kernel without Python (libraries in C) sees the true time,
and `time.monotonic` stays as it is, as with a step of a real clock.
Called by: nobody; the workers and the API of a soak start with it.
"""

from __future__ import annotations

import datetime
import os
import time
from typing import Any

FILE = os.environ.get("SOAK_CLOCK", "")
LOOK_SECONDS = 0.2

_time, _time_ns, _monotonic, _plain = time.time, time.time_ns, time.monotonic, datetime.datetime
_seen = [-1.0, 0.0]


def offset() -> float:
    """The seconds by which this process's clock is off."""
    now = _monotonic()
    if _seen[0] < 0 or now - _seen[0] > LOOK_SECONDS:
        _seen[0] = now
        try:
            with open(FILE) as file:  # noqa: PTH123 - as little as possible is imported here
                _seen[1] = float(file.read() or 0)
        except (OSError, ValueError):
            _seen[1] = 0.0
    return _seen[1]


class _Like(type):
    """A datetime is a datetime, whichever of the two classes is asked."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _plain)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, _plain)


class Stepped(_plain, metaclass=_Like):  # type: ignore[valid-type, misc]
    """`datetime.datetime` with another now; makes plain datetimes."""

    def __new__(cls, *given: Any, **named: Any) -> Any:
        return _plain(*given, **named)

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> Any:
        return _plain.fromtimestamp(_time() + offset(), tz)

    @classmethod
    def utcnow(cls) -> Any:
        return _plain.fromtimestamp(_time() + offset(), datetime.UTC).replace(tzinfo=None)

    @classmethod
    def today(cls) -> Any:
        return cls.now()


def install() -> None:
    """From now on this process lives by the stepped clock."""
    time.time = lambda: _time() + offset()
    time.time_ns = lambda: _time_ns() + int(offset() * 1_000_000_000)
    datetime.datetime = Stepped  # type: ignore[misc]


if FILE:
    install()
