"""How each fault of the plan is inflicted, and mended.

Promises: a fault is a generator that says how long to wait, or for what; several are under way at once.
Whatever it did is undone when it ends, also when it is closed half way. When it took hold and when it was
mended goes into the history; a fault that found nothing to befall says so.
Limits: in the main thread, between two looks of the supervisor.
Called by: `tests.soak.__main__`.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Generator, Sequence
from typing import Final

import psycopg

from tests.faults import brakes
from tests.soak import history, plan, proxy, rig

Pause = float | Callable[[], bool]
Course = Generator[Pause, None, None]

BRAKE_SECONDS: Final = 1.0
LOOKING_SECONDS: Final = 6.0  # how long a transaction at the moment asked for is waited for
CLOCK_SECONDS: Final = 600.0
MOMENTS: Final = {
    "freeze-in-copy": brakes.COPY,
    "freeze-after-set": brakes.CLAIMED,
    "freeze-before-commit": brakes.WRITTEN,
}


class Case:
    """One fault under way."""

    def __init__(self, stand: rig.Rig, fault: plan.Fault) -> None:
        self.rig, self.fault = stand, fault
        self.hit: float | None = None
        self.healed: float | None = None
        self.note = ""
        self._course = self._named()
        self._pause: Pause = 0.0
        self._since = time.monotonic()

    def _named(self) -> Course:
        name = self.fault.kind
        if name in MOMENTS:
            return self._freeze(MOMENTS[name])
        course: Course = getattr(self, f"_{name.replace('-', '_')}")()
        return course

    def step(self) -> bool:
        """Go on if it is time; answers whether the fault is still under way."""
        if callable(self._pause):
            if not self._pause() and time.monotonic() - self._since < LOOKING_SECONDS:
                return True
        elif time.monotonic() - self._since < self._pause:
            return True
        try:
            self._pause = next(self._course)
            self._since = time.monotonic()
            return True
        except StopIteration:
            return False
        except psycopg.OperationalError as error:
            self.note = self.note or f"the database was away: {str(error).splitlines()[0][:80]}"
            return False

    def close(self) -> history.Broken:
        """End it, undone; what is to be written of it."""
        self._course.close()
        return history.Broken(
            self.fault.number, self.fault.kind, self.fault.target, self.hit, self.healed, self.note
        )

    def _now(self) -> None:
        self.hit = time.time()

    def _mended(self) -> None:
        self.healed = time.time()

    def _signal(self, name: str, number: signal.Signals) -> bool:
        """Whether there was a process to get it."""
        process = self.rig.process(name)
        if process is None:
            self.note = f"{name} was not running"
            return False
        process.send_signal(number)
        return True

    # Processes.

    def _kill(self, name: str, number: signal.Signals, away: float = 0.0) -> Course:
        if away:
            self.rig.hold(name)
        try:
            if self._signal(name, number):
                self._now()
                yield away
        finally:
            self.rig.let_go(name)
        if self.hit:
            self._mended()

    def _kill_worker(self) -> Course:
        return self._kill(self.fault.target, signal.SIGKILL)

    def _stop_worker(self) -> Course:
        return self._kill(self.fault.target, signal.SIGTERM)

    def _kill_api(self) -> Course:
        return self._kill("api", signal.SIGKILL)

    def _postgres_kill(self) -> Course:
        return self._kill("postgres", signal.SIGKILL, self.fault.seconds)

    def _postgres_restart(self) -> Course:
        return self._kill("postgres", signal.SIGINT)

    def _kafka_kill(self) -> Course:
        return self._kill("kafka", signal.SIGKILL, self.fault.seconds)

    def _kafka_restart(self) -> Course:
        return self._kill("kafka", signal.SIGTERM)

    # Moments of a transaction.

    def _at(self, moment: brakes.Moment) -> Generator[Pause, None, dict[str, object] | None]:
        """The worker's transaction at this moment, once there is one; the brake stays pressed."""
        stops = self.rig.stops
        assert stops is not None
        stops.press(self.fault.target, moment, BRAKE_SECONDS)
        found: list[dict[str, object]] = []

        def there() -> bool:
            one = stops.at(self.fault.target, moment)
            found[:] = [one] if one else []
            return bool(found)

        yield there
        return found[0] if found else None

    def _release(self) -> None:
        assert self.rig.stops is not None
        try:
            self.rig.stops.release(self.fault.target)
        except psycopg.OperationalError as error:
            self.note += f" (brake not released: {str(error).splitlines()[0][:60]})"

    def _kill_in_transaction(self) -> Course:
        try:
            at = yield from self._at(brakes.WRITTEN)
            if at is None:
                self.note = "no transaction came by"
            elif self._signal(self.fault.target, signal.SIGKILL):
                self._now()
                self._mended()
                self.note = f"open transaction: {at['writes']}"
        finally:
            self._release()

    def _freeze(self, moment: brakes.Moment) -> Course:
        worker, frozen = self.fault.target, None
        try:
            at = yield from self._at(moment)
            frozen = self.rig.process(worker)
            if at is None or frozen is None:
                self.note, frozen = "no transaction came by", None
                return
            frozen.send_signal(signal.SIGSTOP)
            self._now()
            self._release()
            yield BRAKE_SECONDS + 0.3
            self.note = self._stands(at["pid"])
            yield self.fault.seconds
        finally:
            if frozen is not None:
                frozen.send_signal(signal.SIGCONT)
                self._mended()
            self._release()

    def _stands(self, pid: object) -> str:
        """How the server sees the transaction of the frozen client."""
        assert self.rig.stops is not None
        try:
            one = self.rig.stops.session(int(str(pid)))
        except psycopg.OperationalError:
            return "the database was away meanwhile"
        return f"{one['state']}, {one['wait_event']}" if one else "its session has ended"

    # Wires.

    def _wire(self, link: str, mode: str, seconds: float = 0.0) -> Course:
        wires = self.rig.wires
        assert wires is not None
        try:
            wires.set(link, mode, seconds)
            self._now()
            yield self.fault.seconds
        finally:
            # a cut may end by mending or by the routers' forgetting what went through
            forgets = mode == proxy.HOLE and self.fault.ahead
            wires.set(link, proxy.RESET if forgets else proxy.PASS)
            self._mended()
            self.note = "mended by a reset" if forgets else ""

    def _cut_postgres(self) -> Course:
        return self._wire(f"{self.fault.target} postgres", proxy.HOLE)

    def _cut_kafka(self) -> Course:
        return self._wire(f"{self.fault.target} kafka", proxy.HOLE)

    def _cut_api(self) -> Course:
        return self._wire("api kafka", proxy.HOLE)

    def _reset_postgres(self) -> Course:
        return self._wire(f"{self.fault.target} postgres", proxy.RESET)

    def _reset_kafka(self) -> Course:
        return self._wire(f"{self.fault.target} kafka", proxy.RESET)

    def _slow_postgres(self) -> Course:
        return self._wire(f"{self.fault.target} postgres", proxy.DELAY, 0.1)

    # Disks and clocks.

    def _disk_full(self, name: str) -> Course:
        try:
            self.rig.fill_disk(name)
            self._now()
            self.note = f"{self.rig.free_bytes(name):,} bytes free"
            yield self.fault.seconds
            self.note += ", the server went on" if self.rig.process(name) else ", the server ended"
        finally:
            self.rig.free_disk(name)
            self._mended()

    def _disk_full_postgres(self) -> Course:
        return self._disk_full("postgres")

    def _disk_full_kafka(self) -> Course:
        return self._disk_full("kafka")

    def _clock(self, name: str) -> Course:
        try:
            self.rig.set_clock(name, CLOCK_SECONDS if self.fault.ahead else -CLOCK_SECONDS)
            self._now()
            self.note = "ahead" if self.fault.ahead else "behind"
            yield self.fault.seconds
        finally:
            self.rig.set_clock(name, 0.0)
            self._mended()

    def _clock_worker(self) -> Course:
        return self._clock(self.fault.target)

    def _clock_api(self) -> Course:
        return self._clock("api")


class Breaker:
    """The plan under way: begins each fault when it is due, goes on with those that have begun."""

    def __init__(self, stand: rig.Rig, faults: Sequence[plan.Fault], write: history.Writer) -> None:
        self._rig, self._write = stand, write
        self._due = sorted(faults, key=lambda one: one.at)
        self._cases: list[Case] = []
        self._began = time.monotonic()
        self.broken: list[history.Broken] = []

    def step(self) -> None:
        """Begin what is due, go on with the rest."""
        while self._due and time.monotonic() - self._began >= self._due[0].at:
            fault = self._due.pop(0)
            self._rig.say(f"{fault.at:7.1f} s  {fault.kind} {fault.target} {fault.seconds or ''}")
            self._cases.append(Case(self._rig, fault))
        for case in list(self._cases):
            if not case.step():
                self._end(case)

    def close(self) -> None:
        """End what is under way; everything is mended."""
        for case in list(self._cases):
            self._end(case)

    def _end(self, case: Case) -> None:
        self._cases.remove(case)
        self.broken.append(case.close())
        self._write.write(self.broken[-1])
