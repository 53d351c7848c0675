"""The demo's two ways in: JSON arrays by HTTP over several connections, and a plain Kafka producer.

Promises: each way counts a unit (a batch of HTTP, a run of Kafka records) only when Heed, or the broker,
has acknowledged it, and knows up to which unit everything is acknowledged. A server that is away is waited
for; what is sent again is the same bytes.

Limits: gives up (errors.Away) after five minutes without an answer. Blocks in threads of its own; `stop`
ends them.

Called by `deploy.demo`.
"""

from __future__ import annotations

import http.client
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import confluent_kafka
import orjson

from deploy import demo_client
from schemas import errors

BATCH: Final = 1_000
CONNECTIONS: Final = 4
RUN: Final = 2_000
PATIENCE_SECONDS: Final = 300.0
FIRST_WAIT_SECONDS: Final = 0.1
LONGEST_WAIT_SECONDS: Final = 5.0
BUSY: Final = frozenset({429, 502, 503, 504})


class Way(Protocol):
    """One way in, under way: `done` units are acknowledged without a gap, of `sent` events in this run."""

    @property
    def done(self) -> int: ...
    @property
    def sent(self) -> int: ...
    @property
    def running(self) -> bool: ...
    @property
    def failure(self) -> Exception | None: ...


class ByHttp:
    """Posts batches from `first` on; several are under way at a time."""

    def __init__(
        self,
        url: Callable[[], str],
        bodies: Sequence[bytes],
        first: int,
        stop: threading.Event,
        *,
        key: str | None = None,
    ) -> None:
        self.done = first
        self.sent = 0
        self.retries = 0
        self.outcomes: Counter[str] = Counter()
        self.failure: Exception | None = None
        self._url, self._bodies, self._stop, self._key = url, bodies, stop, key
        self._next, self._finished = first, set[int]()
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._work, name=f"demo-http-{n}", daemon=True)
            for n in range(CONNECTIONS)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def running(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    def _work(self) -> None:
        connection = _Connection(self._url, self._stop, self._key)
        try:
            while (unit := self._take()) is not None:
                batch = self._bodies[unit * BATCH : (unit + 1) * BATCH]
                outcomes = connection.post(b"[" + b",".join(batch) + b"]")
                self._acknowledged(unit, outcomes, connection)
        except _Stopped:
            pass
        except Exception as error:
            self.failure = error
        finally:
            connection.close()

    def _take(self) -> int | None:
        with self._lock:
            unit = self._next
            if self._stop.is_set() or self.failure is not None or unit * BATCH >= len(self._bodies):
                return None
            self._next += 1
            return unit

    def _acknowledged(self, unit: int, outcomes: list[dict[str, Any]], connection: _Connection) -> None:
        with self._lock:
            self.sent += len(outcomes)
            self.outcomes.update(outcome["status"] for outcome in outcomes)
            self.retries += connection.take_retries()
            self._finished.add(unit)
            while self.done in self._finished:
                self._finished.remove(self.done)
                self.done += 1


class _Stopped(Exception):
    """The demo was asked to stop."""


class _Connection:
    """One connection that is kept, and made anew when the API was away."""

    def __init__(self, url: Callable[[], str], stop: threading.Event, key: str | None) -> None:
        self._url, self._stop = url, stop
        self._head = {"Content-Type": "application/json"}
        if key is not None:
            self._head["Authorization"] = f"Bearer {key}"
        self._connection: http.client.HTTPConnection | None = None
        self._retries = 0

    def post(self, body: bytes) -> list[dict[str, Any]]:
        """The outcomes of a batch; waits while the API is away or busy, errors.Away after five minutes."""
        deadline, wait = time.monotonic() + PATIENCE_SECONDS, FIRST_WAIT_SECONDS
        while True:
            answer = self._try(body)
            if isinstance(answer, list):
                return answer
            if time.monotonic() > deadline:
                raise errors.Away(f"the API at {self._url()} takes no events: {answer}")
            self._retries += 1
            if self._stop.wait(wait):
                raise _Stopped
            wait = min(LONGEST_WAIT_SECONDS, wait * 2)

    def take_retries(self) -> int:
        retries, self._retries = self._retries, 0
        return retries

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _try(self, body: bytes) -> list[dict[str, Any]] | str:
        """The outcomes, or why it is to be tried again."""
        try:
            if self._connection is None:
                self._connection = http.client.HTTPConnection(urlsplit(self._url()).netloc, timeout=30)
            self._connection.request("POST", "/v1/events", body, self._head)
            response = self._connection.getresponse()
            text = response.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            return type(error).__name__
        if response.status in BUSY:
            return f"it answers {response.status}"
        if response.status in (401, 403):
            raise errors.Usage(
                "The API asks for a key, and the demo has none that it takes. On servers of yours"
                " `heed up` makes none: start it with --no-demo."
            )
        answer = orjson.loads(text)
        if response.status not in (202, 400) or "outcomes" not in answer:
            raise errors.Doubt(f"the API answered {response.status} to a batch of the demo's history.")
        outcomes: list[dict[str, Any]] = answer["outcomes"]
        return outcomes


class ByKafka:
    """Produces runs of records from `first` on, keys and partitions as any Kafka client has them."""

    def __init__(
        self,
        bootstrap: str,
        records: Sequence[tuple[str, bytes | None, bytes]],
        first: int,
        stop: threading.Event,
    ) -> None:
        self.done = first
        self.sent = 0
        self.failure: Exception | None = None
        self._records, self._stop = records, stop
        self._lost: list[confluent_kafka.KafkaError] = []
        self._producer = confluent_kafka.Producer(
            {
                **demo_client.configuration(bootstrap),
                "acks": "all",
                "enable.idempotence": True,
                "linger.ms": 20,
                "message.timeout.ms": int(PATIENCE_SECONDS * 1000),
                "delivery.report.only.error": True,
            },
            logger=silent(),
        )
        self._thread = threading.Thread(target=self._work, name="demo-kafka", daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def _work(self) -> None:
        try:
            while self.done * RUN < len(self._records) and not self._stop.is_set():
                self._run(self._records[self.done * RUN : (self.done + 1) * RUN])
        except _Stopped:
            self._producer.purge()
        except Exception as error:
            self.failure = error

    def _run(self, records: Sequence[tuple[str, bytes | None, bytes]]) -> None:
        for door, key, value in records:
            self._produce(door, key, value)
        while self._producer.flush(0.5):
            if self._stop.is_set():
                raise _Stopped
        if self._lost:
            raise errors.Away(f"the broker took no records: {self._lost[0].str()}")
        self.sent += len(records)
        self.done += 1

    def _produce(self, door: str, key: bytes | None, value: bytes) -> None:
        while True:
            try:
                self._producer.produce(door, value, key, on_delivery=self._delivered)
                return
            except BufferError:  # its queue is full: let it send
                self._producer.poll(0.1)
            if self._stop.is_set():
                raise _Stopped

    def _delivered(self, error: confluent_kafka.KafkaError | None, message: confluent_kafka.Message) -> None:
        del message
        if error is not None:
            self._lost.append(error)


def silent() -> logging.Logger:
    """For Kafka's client, which says many times a second that a broker is away; the demo just waits."""
    logger = logging.getLogger("heed.demo.kafka")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    return logger
