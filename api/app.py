"""The API as a process: the Litestar application, what it holds open, and the server in front of it.

Promises: it starts and answers without Kafka and PostgreSQL; SIGTERM and Ctrl-C let the requests under way
finish; every request is measured under its route's template, never under an address; no address and no body
is logged.

Limits: one process, one event loop. Where it does not listen on loopback, it asks for keys.

Called by the CLI (`heed api`) and by tests.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import ipaddress
import logging
import signal
import socket
import ssl
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any, Final, cast

import structlog
import uvicorn
from litestar import Litestar, Request, Response
from litestar.enums import ScopeType
from litestar.types import (
    HTTPScope,
    LifeSpanReceive,
    LifeSpanScope,
    LifeSpanSend,
    Message,
    Receive,
    Scope,
    Send,
)

from api import (
    auth,
    bodies,
    erased,
    event_trace,
    holds,
    ingest,
    operations,
    parked,
    problems,
    protocol,
    routes,
    routing,
    servers,
)
from api.console import flow, pages, sessions
from api.console import routes as console
from schemas import errors, metrics, settings
from streams import broker, master_key, process, producer, tracing, vault, watchdog

GRACE_SECONDS: Final = 10
KEEP_ALIVE_SECONDS: Final = (
    60  # above the idle time of usual clients, so that none writes into a closing socket
)
BACKLOG: Final = 2048
LINGER_MS: Final = 10  # requests that come together share a trip to Kafka

_log = structlog.get_logger("api")
_PARENT: Final = tracing.TRACEPARENT.encode()
_METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})


class Api(Litestar):
    """Litestar with a stop-watch around all of it: unknown addresses and mistakes are measured too."""

    async def __call__(
        self, scope: Scope | LifeSpanScope, receive: Receive | LifeSpanReceive, send: Send | LifeSpanSend
    ) -> None:
        if scope["type"] != ScopeType.HTTP:
            await super().__call__(scope, receive, send)
            return
        request = cast("HTTPScope", scope)
        routing.keep_segments(request)
        began = time.perf_counter()
        status = 500

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)  # type: ignore[arg-type]

        with _traced(request) as told:
            try:
                await super().__call__(scope, receive, watch)
            finally:
                method, route = _named(request)
                answered: dict[str, int | str] = {"http.request.method": method, "http.route": route}
                told.tell(answered | {"http.response.status_code": status}, f"{method} {route}")
                seconds = time.perf_counter() - began
                metrics.HTTP_REQUEST_SECONDS.labels(route, method, str(status)).observe(seconds)


def _named(request: HTTPScope) -> tuple[str, str]:
    """The method, and the route's template: never the path."""
    method = request["method"] if request["method"] in _METHODS else "other"
    return method, request.get("path_template") or "none"


def _traced(request: HTTPScope) -> contextlib.AbstractContextManager[tracing.Span]:
    """A span of this request, below that of its caller; none of those who only look whether we live."""
    if not request["path"].startswith("/v1/"):
        return tracing.batch("request", None)
    parent = next((value.decode("latin-1") for name, value in request["headers"] if name == _PARENT), None)
    return tracing.span("request", "server", parent)


def create_app(
    chosen: settings.Settings, way: servers.Producer | None = None, keys: vault.Vault | None = None
) -> Litestar:
    """The application; it connects while it runs. Raises `errors.Usage` when a setting is missing."""
    chosen.need("kafka", "postgres")
    held = keys or vault.Vault(master_key.of(chosen), chosen.postgres)
    kafka = broker.of(chosen)
    log = servers.Log(kafka, way or producer.LogProducer(kafka, "heed-api", linger_ms=LINGER_MS))
    database = servers.Database(chosen.postgres)
    ahead = timedelta(seconds=chosen.ahead_seconds)
    walks = parked.Walks(log, chosen.postgres, homes=chosen.homes, ahead=ahead, keys=held)
    readiness = operations.Readiness(log, database, chosen.homes)
    required = chosen.keys == "required" or not _is_loopback(chosen.api_host)
    callers = auth.Keys(database, log, required=required, rate=chosen.key_requests_per_second)
    flows = flow.Flow(database)
    gone = erased.Erased(database)

    @contextlib.asynccontextmanager
    async def connected(_: Litestar) -> AsyncIterator[None]:
        dog = watchdog.Watchdog(chosen.watchdog_seconds, list)
        dog.start()
        try:
            async with log, database, callers, flows:
                ways = (readiness.watch(), _opened(held, kafka, log), gone.watch())
                beside = [asyncio.create_task(way) for way in ways]
                try:
                    yield
                finally:
                    for task in beside:
                        task.cancel()
                    await walks.stop()
        finally:
            dog.stop()

    app = Api(
        route_handlers=[*routes.ALL, console.PAGES],
        guards=[auth.knows_who_asks],
        exception_handlers={Exception: _failed},
        before_request=routing.before,
        request_max_body_size=bodies.MAX_BYTES,
        lifespan=[connected],
        openapi_config=None,
        logging_config=None,
        debug=False,
    )
    app.state.parts = routing.Parts(
        ingest.Ingest(log, database, chosen.homes, ahead, held, gone), log, database, readiness,
        event_trace.Tracing(chosen), chosen.homes, walks, callers, held, holds.rules(chosen), ahead,
    )  # fmt: skip
    app.state.flow = flows
    secure = chosen.tls_certificate is not None or chosen.console_secure
    app.state.sessions = sessions.Sessions(callers, secure=secure)
    return app


def _failed(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    """Whatever was raised: a page below the console's address, else the API's one shape."""
    if pages.ours(request.scope["path"]):
        return pages.failed(request, error)
    return problems.handle(request, error)


async def _opened(held: vault.Vault, kafka: broker.Broker, log: servers.Log) -> None:
    """Fetch the installation's secret, once the servers are there; with the wrong master key this ends."""
    try:
        await held.wait(kafka, log.append)
    except errors.Doubt as doubt:
        process.die(doubt)


class _Server(uvicorn.Server):
    """Uvicorn that ends in order on a signal, instead of dying of it once it has ended in order."""

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        loop = asyncio.get_running_loop()
        signals = (signal.SIGTERM, signal.SIGINT)
        for number in signals:
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in signals:
                loop.remove_signal_handler(number)


def serve(chosen: settings.Settings) -> None:
    """Serves until SIGTERM or Ctrl-C; blocks.

    Raises `errors.Usage` for a port that is taken and for a certificate that cannot be used.
    """
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)  # api.servers says it, once
    config = uvicorn.Config(
        create_app(chosen),
        http=protocol.Protocol,
        access_log=False,
        proxy_headers=False,
        log_config=None,
        server_header=False,
        lifespan="on",
        timeout_graceful_shutdown=GRACE_SECONDS,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        ssl_certfile=chosen.tls_certificate,
        ssl_keyfile=chosen.tls_key,
    )
    try:
        config.load()
    except (OSError, ssl.SSLError) as error:
        raise errors.Usage(
            f"HEED_TLS_CERTIFICATE and HEED_TLS_KEY do not make a certificate ({type(error).__name__}): "
            "they name two files in PEM form, the second with the key of the first."
        ) from None
    tracing.start(chosen.otlp_endpoint, "heed-api", "api")
    gc.collect()
    gc.freeze()  # what was imported stays: a full collection would stop every request for 70 ms
    with listen(chosen.api_host, chosen.api_port) as listening:
        _log.info("listening", host=chosen.api_host, port=listening.getsockname()[1])
        _Server(config).run(sockets=[listening])
    tracing.stop()


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens: opened here, so that a taken port is one sentence and port 0 is known.

    Made with its protocol named: asyncio sets TCP_NODELAY only then, and without it answers wait 40 ms.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            told = f"HEED_API_PORT: port {port} is taken. Choose another, or 0 for a free one."
        else:
            told = "HEED_API_HOST takes an address of this machine, as 127.0.0.1, or 0.0.0.0 for all of them."
        raise errors.Usage(told) from None
    return listening


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
