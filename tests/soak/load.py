"""The load: events by Kafka and by HTTP, with copies, contradictions, late ones, deletions and rubbish.

Promises: event `number` is a function of the seed, the number and the instant the load began; what each
teller learned goes into the history. A request that got no answer, or 503, is told again until one comes
(the same ids, so it counts once); each try is an operation of its own.
Limits: open-loop by the clock, and closed-loop where a server is away: what was not told then is told later.
Called by: `tests.soak.__main__`.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from confluent_kafka import Producer

from tests import traffic
from tests.laws import generator
from tests.oracle import model
from tests.soak import history

TIMERS = "timer-"  # contacts with a single click whose window ends during the run
KINDS = (*["mail.clicked"] * 8, *["mail.delivered"] * 6, "mail.opened", "mail.sent", "mail.bounced",
         "contact.deleted", "contact.restored", "contact.restored")  # fmt: skip
WAYS = ("kafka",) * 6 + ("http-0",) * 2 + ("http-1",) * 2  # by the last digit of the number
BATCH = 20
SPAN_MS = 400 * 24 * 3600 * 1000
TRIES = 240


@dataclass(frozen=True, slots=True)
class Event:
    """One event of the load as it goes out; `fact` is None for rubbish."""

    number: int
    door: str
    raw: bytes
    fact: model.Fact | None


@dataclass(frozen=True, slots=True)
class Told:
    """What the load is made from: the same three give the same events."""

    seed: int
    began: datetime
    rate: float
    contacts: int = 20_000

    def event(self, number: int) -> Event:
        """The event of this number; some are copies or contradictions of an earlier one."""
        dice = random.Random(f"{self.seed} {number}")
        luck = dice.random()
        if luck < 0.01:
            bad = dice.choice(_bad_by_every_way(self.began))
            return Event(number, bad.door, bad.raw, None)
        if luck < 0.07 and number > 100:
            earlier = number - dice.randrange(1, 100)
            told = self._plain(earlier)
            if luck < 0.02 and not told.contact.startswith(TIMERS):
                moved = told.time + dice.choice((-1, 1, 60_000)) * generator.MS
                told = replace(told, time=moved, mailing="m-other")
        else:
            told = self._plain(number)
        return Event(number, told.door, generator.write(told), _fact(told))

    def _plain(self, number: int) -> generator.Told:
        dice = random.Random(f"{self.seed} {number} plain")
        now = self.began + timedelta(seconds=int(number / self.rate))
        if number % 200 == 7:
            ends = now + timedelta(seconds=dice.randrange(20, 120))
            time = _a_year_before(ends)
            return generator.Told("mail.clicked", f"{TIMERS}{number}", time, f"e{number}")
        late = dice.random() < 0.3
        back = dice.randrange(SPAN_MS) if late else dice.randrange(60_000)
        return generator.Told(
            kind=dice.choice(KINDS),
            contact=self.contact(dice),
            time=now - back * generator.MS,
            id=f"e{number}",
            mailing=f"m{dice.randrange(40)}",
            test=True if dice.random() < 0.02 else None,
            style=dice.randrange(generator.STYLES),
        )

    def contact(self, dice: random.Random) -> str:
        """A contact; a few have many events, most have few."""
        return f"c{int(self.contacts * dice.random() ** 2)}"


def _bad_by_every_way(now: datetime) -> list[generator.Sent]:
    """Rubbish that HTTP refuses too: there is no door to be wrong, and the API gives ids and times."""
    found = [one for one in generator.rubbish(now) if one.reason not in ("future", "wrong_door")]
    return [one for one in found if one.reason != "invalid" or (b'"id"' in one.raw and b'"time"' in one.raw)]


def _a_year_before(moment: datetime) -> datetime:
    """The click whose window of twelve months ends then; 29 February has none, the day before stands in."""
    try:
        return moment.replace(year=moment.year - 1)
    except ValueError:
        return (moment - timedelta(days=1)).replace(year=moment.year - 1)


def _fact(told: generator.Told) -> model.Fact:
    data = told.data
    return model.Fact(
        subject=f"contact:{told.contact}",
        source=told.source,
        id=told.id,
        type=told.kind,
        time=(told.time - model.EPOCH) // model.MILLISECOND,
        digest=generator.digest(told.kind, data),
        mailing=data.get("mailing_id"),
        test=data.get("test") is True,
    )


class Load:
    """The tellers, each a thread, from event `first` on until they are asked to stop."""

    def __init__(self, told: Told, bootstrap: str, url: str, write: history.Writer) -> None:
        self.told = told
        self._bootstrap, self._url, self._write = bootstrap, url, write
        self._stopping = threading.Event()
        self._counts = dict.fromkeys(set(WAYS), 0)
        self._threads: list[threading.Thread] = []
        self.errors: list[BaseException] = []

    @property
    def count(self) -> int:
        """Events told so far, also those nobody has acknowledged."""
        return sum(self._counts.values())

    def burst(self, numbers: range) -> None:
        """Tell these by Kafka as fast as may be, and wait for the acknowledgements."""
        self._by_kafka("burst", (self.told.event(number) for number in numbers), paced=False)

    def start(self, first: int) -> None:
        """Tell from this number on, which is due now."""
        self._first, self._started = first, time.monotonic()
        for way in sorted(set(WAYS)):
            thread = threading.Thread(target=self._run, args=(way,), name=f"load-{way}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self, timeout: float) -> None:
        """Tell nothing more, and wait until what was told is answered or given up."""
        self._stopping.set()
        until = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
            assert not thread.is_alive(), f"{thread.name} does not end"
        assert not self.errors, self.errors

    def _run(self, way: str) -> None:
        try:
            if way == "kafka":
                self._by_kafka(way, self._events(way), paced=True)
            else:
                self._by_http(way)
        except BaseException as error:
            self.errors.append(error)

    def _events(self, way: str) -> Any:
        number = self._first
        while not self._stopping.is_set():
            if WAYS[number % len(WAYS)] == way:
                yield self.told.event(number)
            number += 1

    def _ahead(self, number: int) -> float:
        return self._started + (number - self._first) / self.told.rate - time.monotonic()

    def _by_kafka(self, way: str, events: Any, *, paced: bool) -> None:
        producer = self._producer()
        waiting: set[int] = set()
        fatal = threading.Event()

        def answer(one: Event, invoked: float) -> Callable[[Any, object], None]:
            def answered(error: Any, _: object) -> None:
                outcome = history.OK if error is None else history.INFO
                self._write.write(history.Told(one.number, way, invoked, time.time(), outcome, one.fact))
                if error is not None:
                    self._write.write(history.Trouble(way, time.time(), error.name()))
                    if error.fatal():
                        fatal.set()
                waiting.discard(one.number)

            return answered

        for one in events:
            if paced and (ahead := self._ahead(one.number)) > 0:
                self._stopping.wait(ahead)
            if fatal.is_set():  # an idempotent producer that lost count never sends again: take another
                producer.flush(10)
                producer = self._producer()
                fatal.clear()
            waiting.add(one.number)
            traffic.send(producer, one.door, one.raw, answer(one, time.time()))
            self._counts[way] = self._counts.get(way, 0) + 1
            producer.poll(0)
        producer.flush(150)
        assert not waiting, f"{len(waiting)} events were neither acknowledged nor given up"

    def _producer(self) -> Producer:
        return traffic.plain_producer(self._bootstrap, **{"message.timeout.ms": 120_000})

    def _by_http(self, way: str) -> None:
        with httpx.Client(timeout=10) as client:
            batch: list[Event] = []
            for one in self._events(way):
                batch.append(one)
                if len(batch) < BATCH:
                    continue
                if (ahead := self._ahead(one.number)) > 0:
                    self._stopping.wait(ahead)
                self._tell(client, way, batch)
                self._counts[way] += len(batch)
                batch = []

    def _tell(self, client: httpx.Client, way: str, batch: Sequence[Event]) -> None:
        """Tell a batch until it is answered; each try is written down."""
        # rubbish that is no JSON cannot stand in an array: it goes as an empty object, refused as well
        body = b"[" + b",".join(one.raw if _is_json(one.raw) else b"{}" for one in batch) + b"]"
        for _ in range(TRIES):
            invoked = time.time()
            outcomes = self._post(client, body)
            for index, one in enumerate(batch):
                outcome = history.INFO if outcomes is None else outcomes[index]
                self._write.write(history.Told(one.number, way, invoked, time.time(), outcome, one.fact))
            if outcomes is not None:
                return
            time.sleep(0.25)

    def _post(self, client: httpx.Client, body: bytes) -> list[str] | None:
        """An outcome for each event; None when nobody knows."""
        try:
            answer = client.post(
                f"{self._url}/v1/events", content=body, headers={"Content-Type": "application/json"}
            )
        except httpx.TransportError:
            return None
        if answer.status_code in (202, 400):
            names = {"accepted": history.OK, "parked": history.PARKED, "refused": history.REFUSED}
            return [names[one["status"]] for one in answer.json()["outcomes"]]
        assert answer.status_code in (429, 503), f"{answer.status_code}: {answer.text[:300]}"
        return None


def _is_json(raw: bytes) -> bool:
    try:
        json.loads(raw)
    except (ValueError, RecursionError):
        return False
    return b"NaN" not in raw


def began_now() -> datetime:
    """The instant a load begins, to the second."""
    return datetime.now(UTC).replace(microsecond=0)
