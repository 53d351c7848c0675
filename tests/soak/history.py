"""The history of a run: what was told and answered, what was seen, what broke; one JSON array a line.

Promises: a line is written when its operation has ended, with both its times (seconds since 1970); one that
never ended is written as `info` at the end of the run. A history can be checked again, later and elsewhere.
Limits: times are those of the machine of the soak; threads may write at once.
Called by: the parts of a soak that write it, `tests.soak.checker`'s callers who read it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import orjson

from tests.oracle import instants, model

OK, PARKED, REFUSED, INFO = "ok", "parked", "refused", "info"


@dataclass(frozen=True, slots=True)
class Told:
    """One event and what its teller learned: `ok` acknowledged, `parked`, `refused`, or `info`: nobody knows.

    `fact` is None for an event that no reader may fold.
    """

    number: int
    way: str
    invoked: float
    ended: float
    outcome: str
    fact: model.Fact | None


@dataclass(frozen=True, slots=True)
class Read:
    """One contact as a reader saw it; `upto` is the offset that its home had folded in the same statement.

    `statement` tells which rows came by one statement; `due` is the stored row's `valid_until`.
    """

    reader: str
    statement: int
    invoked: float
    ended: float
    contact: str
    at: int
    row: model.Row | None
    upto: int | None = None
    due: int | None = None


@dataclass(frozen=True, slots=True)
class Stand:
    """Where a partition stood when its row of `position` was seen changed; `as_of` in milliseconds."""

    seen: float
    reader: str
    topic: str
    part: int
    epoch: int
    owner: str
    next_offset: int
    as_of: int


@dataclass(frozen=True, slots=True)
class Trouble:
    """A reader's statement that failed: its SQLSTATE or HTTP status, empty when nobody answered."""

    reader: str
    at: float
    code: str


@dataclass(frozen=True, slots=True)
class Broken:
    """A fault as it was inflicted: when it took hold and when it was mended; None: it did not come to it."""

    number: int
    kind: str
    target: str
    hit: float | None
    healed: float | None
    note: str


@dataclass(frozen=True, slots=True)
class Step:
    """Something an operator did meanwhile: replay, swap, back."""

    name: str
    began: float
    ended: float
    code: int
    note: str


Line = Told | Read | Stand | Trouble | Broken | Step
KINDS: dict[str, type[Any]] = {
    "told": Told,
    "read": Read,
    "stand": Stand,
    "trouble": Trouble,
    "broken": Broken,
    "step": Step,
}
TAGS = {kind: tag for tag, kind in KINDS.items()}


class Writer:
    """A history being written."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._file.close()

    def write(self, *lines: Line) -> None:
        """Append; nothing after the writer was closed."""
        raw = b"".join(encode(line) + b"\n" for line in lines)
        with self._lock:
            if not self._file.closed:
                self._file.write(raw)


def encode(line: Line) -> bytes:
    values: list[Any] = [TAGS[type(line)]]
    for name in line.__slots__:
        value = getattr(line, name)
        if isinstance(value, model.Fact):
            value = list(value)
        elif isinstance(value, model.Row):
            value = [getattr(value, column) for column in model.Row.__slots__]
        values.append(value)
    return orjson.dumps(values)


def decode(raw: bytes) -> Line:
    tag, *values = orjson.loads(raw)
    kind = KINDS[tag]
    named = dict(zip(kind.__slots__, values, strict=True))
    if named.get("fact") is not None:
        named["fact"] = model.Fact(*named["fact"])
    if named.get("row") is not None:
        contact, first, last, *rest = named["row"]
        named["row"] = model.Row(contact, _instant(first), _instant(last), *rest)
    line: Line = kind(**named)
    return line


def read(path: Path) -> Iterator[Line]:
    """Every line of a history."""
    with path.open("rb") as file:
        for raw in file:
            yield decode(raw)


def _instant(text: str | None) -> Any:
    return None if text is None else model.EPOCH + instants.instant(text) * model.MILLISECOND
