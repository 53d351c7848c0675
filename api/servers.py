"""The two servers the API leans on, the log and the database, each of which may be away at any time.

Promises: the API starts without them, tries again by itself, and works as soon as they are back. Whoever
waits for one of them waits a bounded time and then gets `errors.Away`.

Limits: one producer and at most `POOL_SIZE` database connections a process; a request past that waits its
turn.

Started and stopped by `api.app`; called by what the routes call.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar

import aiokafka
import aiokafka.errors
import psycopg
import psycopg_pool
import structlog
from psycopg import rows
from sqlalchemy.dialects.postgresql import psycopg as dialects
from sqlalchemy.sql import ClauseElement

from api import problems
from projections import database
from schemas import errors, topics
from streams import broker, log, producer

T = TypeVar("T")

POOL_SIZE: Final = 6
APPEND_SECONDS: Final = 4.0
QUERY_SECONDS: Final = 4.0
BOUNDED_SECONDS: Final = 3.0
LOOK_SECONDS: Final = 1.0
RETRY_SECONDS: Final = 1.0
STOP_SECONDS: Final = 5.0

_DIALECT: Final = dialects.dialect()  # type: ignore[no-untyped-call]
_CONNECTION: Final[dict[str, Any]] = {
    "row_factory": rows.dict_row,
    "autocommit": True,
    "application_name": "heed-api",
    "connect_timeout": 2,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "options": f"-c timezone=UTC -c statement_timeout={QUERY_SECONDS:.0f}s",
}
# Compiling a plan would take longer than most answers.
_BOUNDED: Final = (
    f"select set_config('statement_timeout', '{BOUNDED_SECONDS:.0f}s', true), set_config('jit', 'off', true)"
)
# A database that was not migrated yet is away, too: it is a matter of waiting.
_NOT_THERE: Final = (
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedFunction,
    psycopg.errors.InvalidSchemaName,
)
_log = structlog.get_logger("api")


class Producer(Protocol):
    """What the API needs of `streams.producer.LogProducer`; tests put their own in its place."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    async def append(self, records: Sequence[producer.Record], timeout: float = ...) -> None: ...


class _Presence:
    """Says in the log when a server goes and when it is back, once each."""

    def __init__(self, server: str) -> None:
        self._server = server
        self._away = False

    def gone(self, error: BaseException) -> None:
        if not self._away:
            self._away = True
            why = str(error) if isinstance(error, errors.Refused) else type(error).__name__
            _log.warning("away", server=self._server, error=why)

    def here(self) -> None:
        if self._away:
            self._away = False
            _log.info("back", server=self._server)


class Log:
    """The way to the topics. Usable as a context manager; the producer connects, and again, by itself."""

    def __init__(self, kafka: broker.Broker, way: Producer) -> None:
        self._kafka = kafka
        self._producer = way
        self._presence = _Presence("kafka")
        self._starting: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Log:
        self._starting = asyncio.create_task(self._start())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._starting is not None
        self._starting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._starting
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                await self._producer.stop()

    async def append(self, records: Sequence[producer.Record]) -> None:
        """Returns when all are acknowledged. Raises `errors.Away` after `APPEND_SECONDS` at the latest."""
        try:
            await self._producer.append(records, timeout=APPEND_SECONDS)
        except errors.Away as away:
            self._gone(away)
            raise
        self._presence.here()

    async def reachable(self) -> bool:
        """Whether a broker lets us in now. Never raises; takes `LOOK_SECONDS` a server at the most."""
        return await self._kafka.reachable(LOOK_SECONDS)

    async def end_of_registry(self) -> int:
        """Where the registry ends now. Raises `errors.Away`."""
        place = aiokafka.TopicPartition(topics.REGISTRY, 0)
        try:
            async with asyncio.timeout(QUERY_SECONDS), log.reading(self._kafka) as consumer:
                return int((await consumer.end_offsets([place]))[place])
        except (aiokafka.errors.KafkaError, TimeoutError, OSError) as error:
            raise errors.Away("Kafka does not answer.") from error

    async def _start(self) -> None:
        """Connects before the first request needs it; if that fails, the first request tries again."""
        try:
            await self._producer.start()
        except errors.Away as away:
            self._gone(away)

    def _gone(self, away: errors.Away) -> None:
        refused = isinstance(away, errors.Refused)
        self._presence.gone(away if refused else away.__cause__ or away)


class Database:
    """Short statements. Usable as a context manager; connects by itself, and again when a connection was
    lost.
    """

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._presence = _Presence("postgres")
        self._left: set[asyncio.Task[list[dict[str, Any]]]] = set()
        self._pool: psycopg_pool.AsyncConnectionPool[psycopg.AsyncConnection[rows.DictRow]] | None = None

    async def __aenter__(self) -> Database:
        self._pool = psycopg_pool.AsyncConnectionPool(
            self._dsn,
            connection_class=psycopg.AsyncConnection[rows.DictRow],
            kwargs=_CONNECTION,
            min_size=1,
            max_size=POOL_SIZE,
            timeout=QUERY_SECONDS / 2,
            reconnect_timeout=RETRY_SECONDS,
            check=psycopg_pool.AsyncConnectionPool.check_connection,
            open=False,
        )
        await self._pool.open(wait=False)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._pool is not None
        await self._pool.close(timeout=RETRY_SECONDS)

    async def rows(self, statement: ClauseElement, **values: object) -> list[dict[str, Any]]:
        """All rows of one SQLAlchemy Core statement. Raises `errors.Away` within `QUERY_SECONDS`."""
        return await self._wait(self._ask(statement, values))

    async def bounded(self, statement: ClauseElement, **values: object) -> list[dict[str, Any]]:
        """As `rows`, of a statement whose cost is up to who asks: it is planned for its own values.

        Raises `Problem` when it takes longer than `BOUNDED_SECONDS`, `errors.Away`.
        """
        return await self._wait(self._ask_bounded(statement, values))

    async def _wait(self, asking: Coroutine[Any, Any, list[dict[str, Any]]]) -> list[dict[str, Any]]:
        asked = asyncio.create_task(asking)
        try:
            # Not a timeout around the statement: cancelling one waits for the server, which may be frozen.
            await asyncio.wait({asked}, timeout=QUERY_SECONDS)
            if not asked.done():
                raise TimeoutError
            found = asked.result()
        except (TimeoutError, psycopg.Error) as error:
            if isinstance(error, psycopg.Error) and not (
                database.is_away(error) or isinstance(error, _NOT_THERE)
            ):
                raise
            self._presence.gone(error)
            raise errors.Away("PostgreSQL does not answer, or its tables are not there yet.") from error
        finally:
            if not asked.done():
                self._leave(asked)
        self._presence.here()
        return found

    async def work(self, name: str, do: Callable[[psycopg.Connection, Callable[[], bool]], T]) -> T:
        """What blocks, and may take long, in a thread on a connection of its own, told of its cancelling.

        `do` gets the connection and whether to stop. Raises what it raises; `errors.Away` for a lost server.
        """
        stopping = threading.Event()
        try:
            return await asyncio.to_thread(self._work, name, do, stopping.is_set)
        except psycopg.Error as error:
            if not database.is_away(error) and not isinstance(error, _NOT_THERE):
                raise
            self._presence.gone(error)
            raise errors.Away("PostgreSQL does not answer, or its tables are not there yet.") from error
        finally:
            stopping.set()

    def _work(
        self,
        name: str,
        do: Callable[[psycopg.Connection, Callable[[], bool]], T],
        stopping: Callable[[], bool],
    ) -> T:
        with database.connect(self._dsn, database.LIVE_PATH, f"heed-api {name}") as connection:
            return do(connection, stopping)

    async def _ask(self, statement: ClauseElement, values: Mapping[str, object]) -> list[dict[str, Any]]:
        assert self._pool is not None
        compiled = statement.compile(dialect=_DIALECT)
        async with self._pool.connection() as connection:
            cursor = await connection.execute(str(compiled).encode(), {**compiled.params, **values})
            return await cursor.fetchall()

    async def _ask_bounded(
        self, statement: ClauseElement, values: Mapping[str, object]
    ) -> list[dict[str, Any]]:
        assert self._pool is not None
        compiled = statement.compile(dialect=_DIALECT)
        text, named = str(compiled).encode(), {**compiled.params, **values}
        async with self._pool.connection() as connection, connection.transaction():
            await connection.execute(_BOUNDED)
            try:
                cursor = await connection.execute(text, named, prepare=False)
            except psycopg.errors.QueryCanceled:
                told = f"The answer would take longer than {BOUNDED_SECONDS:.0f} seconds."
                raise problems.Problem(problems.TOO_SLOW, told) from None
            return await cursor.fetchall()

    def _leave(self, asked: asyncio.Task[list[dict[str, Any]]]) -> None:
        """Cancels a statement that nobody waits for any more; it ends when the server lets it."""

        def forget(ended: asyncio.Task[list[dict[str, Any]]]) -> None:
            self._left.discard(ended)
            if not ended.cancelled():
                ended.exception()  # looked at, so that asyncio does not complain of it

        self._left.add(asked)
        asked.add_done_callback(forget)
        asked.cancel()
