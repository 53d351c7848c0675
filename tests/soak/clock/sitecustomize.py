"""A clock that can be stepped: Python imports this module by itself when its folder is on PYTHONPATH.

Promises: `time.time`, `time.time_ns`, `datetime.now`, `utcnow` and `today` are off by the seconds that stand
in the file SOAK_CLOCK, looked at five times a second; what they give are plain floats, ints and datetimes.
Limits: the process's own view only. What asks the kernel without Python (libraries in C) sees the true time,
and `time.monotonic` stays as it is, as with a step of a real clock.
Called by: nobody; the workers and the API of a soak start with it.
"""

from __future__ import annotations

import ctypes
import datetime
import gc
import os
import time
from typing import Any

FILE = os.environ.get("SOAK_CLOCK", "")
LOOK_SECONDS = 0.2

_time, _time_ns, _monotonic = time.time, time.time_ns, time.monotonic
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


def _now(_: type, tz: datetime.tzinfo | None = None) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(time.time(), tz)


def _utcnow(_: type) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(time.time(), datetime.UTC).replace(tzinfo=None)


def install() -> None:
    """From now on this process lives by the stepped clock.

    The class itself gets other methods, since libraries tell types by it: its dictionary is reached by the
    way that the garbage collector knows.
    """
    time.time = lambda: _time() + offset()
    time.time_ns = lambda: _time_ns() + int(offset() * 1_000_000_000)
    methods: dict[str, Any] = gc.get_referents(datetime.datetime.__dict__)[0]
    methods["now"] = methods["today"] = classmethod(_now)
    methods["utcnow"] = classmethod(_utcnow)
    ctypes.pythonapi.PyType_Modified(ctypes.py_object(datetime.datetime))


if FILE:
    install()
