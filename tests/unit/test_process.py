"""What a process says of itself: never a value that was sent, never a flood."""

from __future__ import annotations

import io
import json
import logging

import psycopg
import pytest
import structlog

from schemas import errors
from streams import process, tracing

MARK = "ada@example.org"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (errors.Doubt("ours says what to do"), "Doubt: ours says what to do"),
        (psycopg.OperationalError("connection refused"), "OperationalError: connection refused"),
        (psycopg.errors.InvalidTextRepresentation(MARK), "InvalidTextRepresentation: SQLSTATE 22P02"),
        (psycopg.errors.UniqueViolation(MARK), "UniqueViolation: SQLSTATE 23505"),
        (KeyError(MARK), "KeyError"),
        (ValueError(MARK), "ValueError"),
        (UnicodeDecodeError("utf-8", MARK.encode(), 0, 1, MARK), "UnicodeDecodeError"),
        (ConnectionRefusedError(111, "refused"), "ConnectionRefusedError: [Errno 111] refused"),
    ],
    ids=lambda one: type(one).__name__,
)
def test_an_error_is_told_without_values(error: BaseException, told: str) -> None:
    assert process.told(error) == told


def test_what_libraries_repeat_comes_once_and_only_its_first_line(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(process.sys, "stderr", out)  # type: ignore[attr-defined]
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    try:
        process.set_up_logs("info", worker="worker-1")
        for number in range(500):
            logging.getLogger("aiokafka").warning("no node %s", number)
            logging.getLogger("asyncio").error("a task failed\nfuture: <Task KeyError('%s')>", MARK)
            logging.getLogger("faust").warning("other\n%s", MARK)
    finally:
        root.handlers, root.level = before, level
        structlog.reset_defaults()
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [line["message"] for line in lines] == ["no node 0", "a task failed", "other"]
    assert {line["worker"] for line in lines} == {"worker-1"}


def test_traces_of_events_are_sampled_and_read_only_in_their_form() -> None:
    class Record:
        def __init__(self, number: int) -> None:
            self.headers = [("door", b"x"), ("traceparent", f"00-{number:032x}-b7ad6b7169203331-01".encode())]

    found = list(tracing.of_records([Record(number) for number in range(8000)]))
    assert len(found) == tracing.LOOKED_AT
    assert len(list(tracing._contexts([*found, *found]))) == tracing.LINKS
    assert list(tracing._contexts(["", MARK, "00-" + "0" * 32 + "-b7ad6b7169203331-01"])) == []
    assert tracing.trace_id(f"00-{7:032x}-b7ad6b7169203331-01") == f"{7:032x}"
    assert tracing.trace_id(MARK) is None


def test_without_an_endpoint_nothing_is_traced() -> None:
    tracing.start("", "heed-worker", "worker-1")
    assert not tracing.on()
    assert tracing.current() is None
    with tracing.span("request", "server", MARK) as one, tracing.batch("intake", [1]) as other:
        one.tell({"records": 1}, MARK)
        other.link([MARK])
    tracing.done("fold", 1.0, [MARK], records=1)
