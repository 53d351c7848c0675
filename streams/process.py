"""A process of Heed: how it logs, and how it ends.

Promises: one JSON object a line on stderr, never an address, a name or a payload; the last line says why the
process ended. What libraries say over and over (a broker that is away) is let through once in a minute.
Limits: exit codes are those of names.md: 0 done, 2 usage, 3 stopped on doubt, 69 a server cannot be reached.
Called by: every entry point, and by lanes when they stop on doubt.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
import traceback
from pathlib import Path
from typing import NoReturn

import aiokafka.errors
import prometheus_client
import psycopg
import structlog

from projections import database, positions
from schemas import errors, metrics

QUIET_SECONDS = 60.0

_fences: Path | None = None


def set_up_logs(level: str, **bound: str) -> None:
    """JSON lines on stderr, ours and the libraries'; `bound` stands in every line, whatever its thread."""
    structlog.configure(
        processors=[
            lambda _, __, event: {**bound, **event},
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level.upper()),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers = [_Handler()]
    root.setLevel(logging.WARNING)


class _Handler(logging.Handler):
    """Libraries' records as ours, each message once in a minute and its first line only: what follows it, and
    what asyncio tells of tasks, may hold anything."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[tuple[str, str], float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        key = (record.name, str(record.msg))
        now = time.monotonic()
        if now - self._said.get(key, -QUIET_SECONDS) < QUIET_SECONDS:
            return
        self._said[key] = now
        if len(self._said) > 1000:
            self._said.clear()
        structlog.get_logger().log(
            record.levelno, "library", logger=record.name, message=record.getMessage().split("\n", 1)[0][:300]
        )


def serve_metrics(port: int | None) -> None:
    """Serve /metrics on loopback, if a port is given."""
    if port is not None:
        prometheus_client.start_http_server(port, addr="127.0.0.1")


def recall_fences(file: Path) -> None:
    """Count on from what earlier processes of this name left there: a fence ends its process unscraped."""
    global _fences
    _fences = file
    metrics.FENCED.inc(_fenced())


def _fenced() -> int:
    try:
        return int(_fences.read_text()) if _fences is not None else 0
    except (OSError, ValueError):  # none yet, or torn by the end of the machine
        return 0


def _note_fence() -> None:
    metrics.FENCED.inc()
    if _fences is not None:
        with contextlib.suppress(OSError):  # the last line says why it ended, with or without the number
            _fences.write_text(str(_fenced() + 1))


def die(error: BaseException) -> NoReturn:
    """End this process at once, without committing anything; the last line says why."""
    if isinstance(error, positions.Fenced):
        _note_fence()
    code = error.exit_code if isinstance(error, errors.HeedError) else errors.Doubt.exit_code
    if not isinstance(error, errors.HeedError):
        where = [place(frame) for frame in traceback.extract_tb(error.__traceback__)[-6:]]
        structlog.get_logger().error("unexpected error", where=where)
    structlog.get_logger().error("stopped", why=told(error), exit=code)
    sys.stderr.flush()
    os._exit(code)


def leave(why: str) -> NoReturn:
    """End this process at once, as it was asked to, with what cannot be waited for left undone."""
    structlog.get_logger().info("stopped", why=why, exit=0)
    sys.stderr.flush()
    os._exit(0)


def told(error: BaseException) -> str:
    """An error in one line: its name and, where its text can hold no value that was sent, the first line.

    Texts of ours name no values. Of others' only those of servers that are away are known not to.
    """
    name = type(error).__name__
    if isinstance(error, psycopg.Error) and not database.is_away(error):
        return f"{name}: SQLSTATE {error.sqlstate}" if error.sqlstate else name
    if not isinstance(error, errors.HeedError | psycopg.Error | OSError | aiokafka.errors.KafkaError):
        return name
    lines = str(error).strip().splitlines()
    return f"{name}: {lines[0][:400]}" if lines else name


def place(frame: traceback.FrameSummary) -> str:
    """A place in the code."""
    return f"{'/'.join(frame.filename.rsplit('/', 2)[-2:])}:{frame.lineno} {frame.name}"
