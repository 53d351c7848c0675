"""The demo: plays a made-up history through the public doors of a running stack, and shows what came of it.

Promises: the history and its anchor instant are fixed at the first run and kept in `demo.json`, with marks
of what is acknowledged. Interrupted at any instant it goes on where it was; what is sent twice is the same
event. Played to its end it is never sent again, only shown.

Limits: one demo a home. Blocks until the rows are up to date, or raises errors.Away.

Called by `deploy.local` once the stack answers.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from deploy import demo_events, demo_history, demo_report, demo_send

Options = demo_history.Options

LOOK_SECONDS: Final = 0.2


class Marks(msgspec.Struct):
    """What `demo.json` keeps: which history it is, how much of it is acknowledged, what it came to."""

    anchor: datetime
    contacts: int
    mailings: int
    months: int
    seed: int
    edition: int = demo_events.EDITION
    http_batches: int = 0
    kafka_runs: int = 0
    counted: demo_report.Counted | None = None

    @property
    def options(self) -> Options:
        return Options(self.contacts, self.mailings, self.months, self.seed)


@dataclass(slots=True)
class Summary:
    """What one call of `play` did; `events` is 0 when there was nothing left to send."""

    events: int = 0
    seconds: float = 0.0
    rate: float = 0.0
    retries: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    report: demo_report.Report | None = None


def play(
    stack: dict[str, Any],
    home: Path,
    options: Options | None = None,
    *,
    console: Console | None = None,
    stop: threading.Event | None = None,
) -> Summary:
    """Send what is left of the history, wait for its rows, print the table; returns early on `stop`."""
    console, stop = console or Console(), stop or threading.Event()
    path = home / "demo.json"
    marks = read_marks(path) or _first(options or Options())
    save_marks(path, marks)
    summary = Summary()
    if marks.counted is None:
        _send(stack, home, marks, summary, console, stop)
        if stop.is_set():
            return summary
        marks.counted = demo_report.count(stack)
        save_marks(path, marks)
    summary.report = demo_report.gather(stack, marks.counted)
    demo_report.show(summary.report, stack, home, console)
    return summary


def read_marks(path: Path) -> Marks | None:
    """The marks of an earlier run, if there was one."""
    with contextlib.suppress(FileNotFoundError):
        return msgspec.json.decode(path.read_bytes(), type=Marks)
    return None


def save_marks(path: Path, marks: Marks) -> None:
    """Whole or not at all, whatever stops the process or the machine."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".json.new")
    with fresh.open("wb") as file:
        file.write(msgspec.json.encode(marks))
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def _first(options: Options) -> Marks:
    now = datetime.now(UTC)
    anchor = now.replace(microsecond=now.microsecond // 1000 * 1000)
    return Marks(anchor, options.contacts, options.mailings, options.months, options.seed)


def _send(
    stack: dict[str, Any], home: Path, marks: Marks, summary: Summary, console: Console, stop: threading.Event
) -> None:
    history = demo_history.tell(marks.options, marks.anchor)
    started = time.monotonic()
    ended = threading.Event()
    by_http = demo_send.ByHttp(
        _url(stack, home), history.by_http, marks.http_batches, ended, key=stack["key"]
    )
    by_kafka = demo_send.ByKafka(stack["bootstrap"], history.by_kafka, marks.kafka_runs, ended)
    watch = demo_report.Watch(stack)
    try:
        with _progress(console) as progress:
            bars = _Bars(progress, history, marks)
            for _ in _ticks(lambda: by_http.running or by_kafka.running):
                bars.sent(by_http, by_kafka)
                bars.folded(*demo_report.folded(watch.positions(), {}))
                _mark(marks, by_http, by_kafka, home / "demo.json")
                failure = by_http.failure or by_kafka.failure
                if failure is not None:
                    raise failure
                if stop.is_set():
                    return
            summary.events = by_http.sent + by_kafka.sent
            summary.seconds = time.monotonic() - started
            summary.rate = summary.events / max(summary.seconds, 0.001)
            summary.retries, summary.outcomes = by_http.retries, by_http.outcomes
            demo_report.wait_for_rows(watch, stop, bars.folded)
    finally:
        ended.set()
        watch.close()
        _mark(marks, by_http, by_kafka, home / "demo.json")
    if not stop.is_set():
        demo_report.show_sending(console, summary.events, summary.seconds, time.monotonic() - started)


def _mark(marks: Marks, by_http: demo_send.Way, by_kafka: demo_send.Way, path: Path) -> None:
    if (marks.http_batches, marks.kafka_runs) != (by_http.done, by_kafka.done):
        marks.http_batches, marks.kafka_runs = by_http.done, by_kafka.done
        save_marks(path, marks)


def _url(stack: dict[str, Any], home: Path) -> Callable[[], str]:
    """Where the API is now: a restarted one may have another port."""

    def url() -> str:
        with contextlib.suppress(FileNotFoundError, msgspec.DecodeError, KeyError):
            return str(msgspec.json.decode((home / "stack.json").read_bytes())["url"])
        return str(stack["url"])

    return url


def _ticks(going_on: Callable[[], bool]) -> Iterator[None]:
    """Some looks a second while something goes on, and one after."""
    while going_on():
        yield
        time.sleep(LOOK_SECONDS)
    yield


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description:<14}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:>9,.0f}/s"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


class _Bars:
    """Three bars: what went in by each way, and what has become of it."""

    def __init__(self, progress: Progress, history: demo_history.History, marks: Marks) -> None:
        self._progress = progress
        self._started = time.monotonic()
        self._before = {
            "by HTTP": marks.http_batches * demo_send.BATCH,
            "by Kafka": marks.kafka_runs * demo_send.RUN,
        }
        self._http = self._bar("by HTTP", len(history.by_http))
        self._kafka = self._bar("by Kafka", len(history.by_kafka))
        self._rows = progress.add_task("folded", total=None, rate=0.0)

    def _bar(self, name: str, total: int) -> TaskID:
        return self._progress.add_task(name, total=total, completed=self._before[name], rate=0.0)

    def sent(self, by_http: demo_send.Way, by_kafka: demo_send.Way) -> None:
        self._show(self._http, "by HTTP", by_http.sent)
        self._show(self._kafka, "by Kafka", by_kafka.sent)

    def folded(self, done: int, total: int) -> None:
        self._progress.update(self._rows, completed=done, total=total, rate=done / self._seconds())

    def _show(self, bar: TaskID, name: str, sent: int) -> None:
        self._progress.update(bar, completed=self._before[name] + sent, rate=sent / self._seconds())

    def _seconds(self) -> float:
        return max(time.monotonic() - self._started, 0.001)
