"""The fold under everything that can happen to it, as a machine for hypothesis.

Promises: two workers read any split of a log of facts, copies, contradictions, strays and rubbish; they crash
at any statement, lose connections, take homes from each other and go on as zombies; timers come early, late,
twice or not at all; anyone nudges and commands; single contacts raise. After every step positions and
commands are exact, and at every look the tables equal the oracle's word.
Limits: T is far in the future, where no clock but the machine's decides; 3 homes, 4 contacts, no links.
Called by `tests.laws.test_fold_machine`.
"""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from projections import fold, nudges, positions, records
from schemas import commands, topics
from tests import oracle
from tests.laws import generator, machine_told, world

CONTACTS = 4
BASES = (
    datetime(2048, 2, 29, 12, tzinfo=UTC),
    datetime(2049, 2, 28, 9, tzinfo=UTC),
    datetime(2049, 3, 1, 0, 0, 0, 1000, tzinfo=UTC),
    datetime(2050, 3, 31, 23, 59, 59, 999000, tzinfo=UTC),
    datetime(2052, 2, 29, tzinfo=UTC),
    datetime(2061, 11, 22, 14, 39, 47, 123000, tzinfo=UTC),
)
STEPS = tuple(timedelta(milliseconds=n) for n in (0, 1, 2, 3_600_000)) + tuple(
    timedelta(days=n) for n in (1, 28, 31)
)
seeds = st.integers(0, 2**20)
workers = st.integers(0, 1)
homes = st.integers(0, world.HOMES - 1)
contacts = st.sampled_from([f"c{n}" for n in range(CONTACTS)])


class FoldMachine(RuleBasedStateMachine):
    """See the module."""

    dsn: ClassVar[str]
    observer: ClassVar[world.Observer]

    def __init__(self) -> None:
        super().__init__()
        self.log = world.Log()
        self.told: list[generator.Told] = []
        self.workers = [world.Worker(f"w{n}", self.dsn, self.log) for n in range(2)]
        self.read: dict[positions.TP, int] = {}
        self.epochs: dict[positions.TP, int] = {}
        self.as_of: dict[positions.TP, datetime] = {}
        self.commanded: set[tuple[str, datetime]] = set()
        self.broken: set[str] = set()
        self.untimed: set[int] = set()
        self.bodies: dict[str, bytes] = {}

    @initialize(
        seed=seeds,
        base=st.sampled_from(BASES),
        months=st.sampled_from([1, 2, 12]),
        keep=st.booleans(),
        alone=st.booleans(),
    )
    def begin(self, seed: int, base: datetime, months: int, keep: bool, alone: bool) -> None:
        self.now, self.rule = base, oracle.Rule(months, keep)
        self.observer.clear(months, keep)
        for part in range(world.HOMES):
            self._claim(self.workers[0 if alone else part % 2], [part])
        self.tell(seed, 20, 0, read=True)
        self.tell(seed + 1, 4, 1, read=True)

    def teardown(self) -> None:
        try:
            if hasattr(self, "now"):
                self._settle()
        finally:
            for worker in self.workers:
                worker.close()

    # What is told.

    @rule(seed=seeds, number=st.integers(1, 8), stray=st.sampled_from([0, 0, 1]), read=st.booleans())
    def tell(self, seed: int, number: int, stray: int, read: bool) -> None:
        dice = random.Random(seed)
        for event in machine_told.some(dice, self.now, self.rule.period_months, CONTACTS, number):
            self._append(event, stray)
        self._read_all(read)

    @rule(seed=seeds, number=st.integers(1, 2), read=st.booleans())
    def tell_again(self, seed: int, number: int, read: bool) -> None:
        """A copy, or the same key with another content: which of the two stands, content alone decides."""
        dice = random.Random(seed)
        for event in dice.sample(self.told, min(number, len(self.told))):
            self._append(dice.choice(machine_told.CONTRADICTIONS)(event), 0)
        self._read_all(read)

    def _read_all(self, now: bool = True) -> None:
        for worker in self.workers if now else ():
            self._advance(worker, None, self.now)

    def _append(self, event: generator.Told, stray: int) -> None:
        """As admission lets it through; `stray`: by a stranger, into a partition that is not its home's."""
        if event.time <= self.now + generator.AHEAD:
            self.told.append(event)
            self.log.tell(generator.envelope(event, self.now), stray)

    @rule(
        which=st.none() | st.integers(0, 8),
        part=homes,
        topic=st.sampled_from([topics.FACTS, topics.COMMANDS]),
    )
    def litter(self, which: int | None, part: int, topic: str) -> None:
        """Rubbish of a stranger, or a hole as control records leave it."""
        if which is None:
            self.log.hole((topic, part))
        else:
            value, reason = machine_told.rubbish(world.click(self.now, "c0"))[which]
            self.log.append(topics.FACTS, part, value, reason=reason)

    @rule(step=st.sampled_from(STEPS))
    def wait(self, step: timedelta) -> None:
        self.now += step

    @rule(which=workers, skip=st.integers(0, 3), short=st.sampled_from([0, 1]))
    def wait_for_an_edge(self, which: int, skip: int, short: int) -> None:
        """To the instant at which something leaves a window, or the millisecond before it; then a timer."""
        ends = self._edges()
        if ends:
            self.now = max(self.now, ends[min(skip, len(ends) - 1)] - short * generator.MS)
            self._advance(self.workers[which], {}, self.now)

    def _edges(self) -> list[datetime]:
        known = oracle.histories(map(oracle.read, self._told()))
        dropped = (oracle.dropped_out(facts, self.now, self.rule)[:4] for facts in known.values())
        return sorted({end for ends in dropped for end in ends})

    @rule(contact=contacts, home=st.none() | homes)
    def nudge(self, contact: str, home: int | None) -> None:
        """Anyone may ask to look again; a home that is not the contact's does no harm."""
        subject = f"contact:{contact}"
        there = topics.home(subject, world.HOMES) if home is None else home
        nudges.append(self.observer.connection, {subject: there}, "test")

    @rule(names=st.lists(contacts, max_size=4), part=homes)
    def command_as_a_stranger(self, names: list[str], part: int) -> None:
        body = commands.make("engagement.expire", part, [(name, self.now) for name in names], self.now).body
        self.log.append(topics.COMMANDS, part, body)

    @rule(times=st.integers(1, 2))
    def relay(self, times: int) -> None:
        """The outbox as the relay publishes it, at least once; only reading it back deletes it."""
        for home, body in self.observer.all("select home, body from heed_ops.outbox order by id"):
            for _ in range(times):
                self.log.append(topics.COMMANDS, home, body)

    # What workers do, and what becomes of them.

    @rule(which=workers, data=st.data(), early=st.booleans())
    def advance(self, which: int, data: st.DataObject, early: bool) -> None:
        worker = self.workers[which]
        most = data.draw(st.none() | st.fixed_dictionaries({name: st.integers(0, 8) for name in worker.held}))
        self._advance(worker, most, self.now - timedelta(days=40) if early else self.now)

    @rule(which=workers, fuse=st.integers(0, 12))
    def crash(self, which: int, fuse: int) -> None:
        """The connection is cut at a statement of the transaction, or the process dies after its commit."""
        worker = self.workers[which]
        if not worker.held or self._is_stale(worker):
            return
        before, overdue = self.observer.fingerprint(), self._overdue(worker)
        spans = {name: self.log.span(name, worker.next[name]) for name in worker.held}
        with contextlib.suppress(world.Crash):
            worker.advance(at=self.now, fuse=fuse)
        if worker.fuse.real.closed:
            assert self.observer.fingerprint() == before
        else:
            self._committed(worker, spans, self.now, overdue)
        worker.close()
        self._reclaim(worker)

    @rule(which=workers, unheard=st.integers(0, 2))
    def lose_connection(self, which: int, unheard: int) -> None:
        """The server may die with its answer to a claim again, after its COMMIT."""
        for heard in [False] * unheard + [True]:
            if self.workers[which].held:
                self._reclaim(self.workers[which], heard)

    @rule(which=workers, parts=st.sets(homes, min_size=1), at_once=st.booleans())
    def take_over(self, which: int, parts: set[int], at_once: bool) -> None:
        """The other goes on as a zombie until it is fenced."""
        self._claim(self.workers[which], sorted(parts))
        if at_once:
            self._advance(self.workers[1 - which], None, self.now)

    @rule(which=workers, on=st.booleans())
    def switch_timers(self, which: int, on: bool) -> None:
        self.workers[which].timers = on

    @precondition(lambda self: len(self.broken) < 2)
    @rule(contact=contacts, seed=seeds)
    def break_contact(self, contact: str, seed: int) -> None:
        self.broken.add(contact)
        shut = "insert into trial.broken values (%s) on conflict do nothing"
        self.observer.connection.execute(shut, (contact,))
        self.tell(seed, 6, 0, read=True)

    @rule()
    def mend(self) -> None:
        """The errors stand with their nudges until these are tried again."""
        self.observer.connection.execute("delete from trial.broken")

    # What has to hold.

    @rule(later=st.sampled_from(STEPS))
    def look(self, later: timedelta) -> None:
        self._check_machinery()
        self._check_facts()
        self._check_rows()
        self._check_view(max(self.as_of.values()) + later)

    def _told(self) -> list[dict[str, Any]]:
        return [entry.fact for entry in self.log.read(self.read) if entry.fact is not None]

    def _claim(self, worker: world.Worker, parts: Iterable[int]) -> None:
        names = [(topic, part) for part in parts for topic in (topics.COMMANDS, topics.FACTS)]
        worker.claim(names)
        for name in names:
            self.epochs[name] = self.epochs.get(name, 0) + 1
            self.read.setdefault(name, 0)
            self.as_of.setdefault(name, datetime(1970, 1, 1, tzinfo=UTC))
            assert worker.held[name].epoch == self.epochs[name]
            assert worker.next[name] == self.read[name]
            assert worker.held[name].last_record == self._last(name)

    def _reclaim(self, worker: world.Worker, heard: bool = True) -> None:
        stale = any(held.epoch + len(worker.tries) != self.epochs[n] for n, held in worker.held.items())
        try:
            worker.reclaim(heard)
        except positions.Fenced:
            assert stale
            worker.forget()
        else:
            assert not stale
            assert all(worker.next[name] == self.read[name] for name in worker.held)
        for name in worker.held:
            self.epochs[name] += 1

    def _is_stale(self, worker: world.Worker) -> bool:
        return any(held.epoch != self.epochs[name] for name, held in worker.held.items())

    def _last(self, name: positions.TP) -> str | None:
        below = [entry for entry in self.log.entries[name] if entry.offset < self.read[name]]
        return records.identity(below[-1]) if below else None

    def _advance(
        self, worker: world.Worker, most: dict[positions.TP, int] | None, at: datetime
    ) -> fold.Done | None:
        if not worker.held:
            return None
        spans = {
            n: self.log.span(n, worker.next[n], None if most is None else most.get(n, 0)) for n in worker.held
        }
        overdue = self._overdue(worker)
        if not self._is_stale(worker):
            done = worker.advance(most, at)
            assert self._committed(worker, spans, at, overdue) == sorted(done.expired)
            return done
        before = self.observer.fingerprint()
        try:
            worker.advance(most, at)
        except positions.Fenced:
            assert self.observer.fingerprint() == before
            worker.forget()
            return None
        raise AssertionError("a zombie has committed")

    def _overdue(self, worker: world.Worker) -> dict[str, datetime]:
        """Every row of the worker's homes, with its `valid_until`."""
        mine = {part for topic, part in worker.held if topic == topics.FACTS}
        return {contact: line[8] for contact, line in self.observer.rows().items() if line[7] in mine}

    def _committed(
        self,
        worker: world.Worker,
        spans: dict[positions.TP, records.Span],
        at: datetime,
        before: dict[str, datetime],
    ) -> list[datetime]:
        """Follow what a transaction did: T, positions, one command item for each overdue row it brought."""
        instant = max([at, *(self.as_of[name] for name in spans)])
        for name, span in spans.items():
            self.read[name], self.as_of[name] = span.end, instant
        self._check_machinery()
        rows = self.observer.rows()
        left = {c: due for c, due in before.items() if due <= instant and c in rows and rows[c][8] == due}
        brought = {(c, due) for c, due in before.items() if due <= instant and c not in left}
        mine = {part for topic, part in spans if topic == topics.FACTS}
        self.untimed = self.untimed - mine if worker.timers else self.untimed | mine
        if worker.timers:
            assert set(left) <= self.broken
        sent = self._sent()
        assert len(sent) == len(self.commanded) + len(brought), "a row past its time is commanded once"
        assert set(sent) == self.commanded | brought
        self.commanded |= brought
        return sorted(due for _, due in brought)

    def _sent(self) -> list[tuple[str, datetime]]:
        """Every item that ever stood in the outbox: those not read back yet, and those on the topic by us."""
        bodies = {
            str(id_): bytes(body)
            for id_, body in self.observer.all("select event_id, body from heed_ops.outbox")
        }
        self.bodies |= bodies
        items = [item for body in self.bodies.values() for item in json.loads(body)["data"]["items"]]
        return [(item["contact_id"], datetime.fromisoformat(item["due"])) for item in items]

    def _check_machinery(self) -> None:
        found = self.observer.all(
            "select topic, part, next_offset, epoch, as_of, last_record from heed_data.position"
        )
        for topic, part, next_offset, epoch, as_of, last in found:
            name = (topic, part)
            assert (next_offset, epoch, as_of, last) == (
                self.read[name], self.epochs[name], self.as_of[name], self._last(name),
            )  # fmt: skip
        assert len(found) == len(self.read)

    def _check_facts(self) -> None:
        assert self.observer.facts() == world.distinct(self._told())
        parked = self.observer.all("select topic, part, off, reason from heed_ops.parked")
        litter = [(e.topic, e.partition, e.offset, e.reason) for e in self.log.read(self.read) if e.reason]
        assert sorted(parked) == sorted(litter)

    def _check_rows(self) -> None:
        told, rows, nudged = self._told(), self.observer.rows(), self.observer.nudged()
        assert {contact for contact, error in nudged.items() if error} <= self.broken
        for part in range(world.HOMES):
            at = self.as_of[(topics.FACTS, part)]
            expected = oracle.expected(told, at, self.rule.period_months, self.rule.keep_row_without_clicks)
            for contact in (f"c{n}" for n in range(CONTACTS)):
                stored = rows.get(contact)
                if topics.home(f"contact:{contact}", world.HOMES) != part or contact in nudged:
                    continue
                if stored is not None and stored[8] <= at:
                    assert part in self.untimed or contact in self.broken
                    continue
                assert (None if stored is None else oracle.Row(*stored[:7])) == expected.get(contact)
                if stored is not None:
                    assert stored[7:] == (part, self._valid_until(told, contact, at))

    def _valid_until(self, told: list[dict[str, Any]], contact: str, at: datetime) -> datetime:
        facts = oracle.histories(map(oracle.read, told))[contact]
        return oracle.dropped_out(facts, at, self.rule)[0]

    def _check_view(self, at: datetime) -> None:
        """At any later instant the view says what is true then, whatever the timers did (CEE-8)."""
        nudged = self.observer.nudged()
        expected = oracle.expected(
            self._told(), at, self.rule.period_months, self.rule.keep_row_without_clicks
        )
        shown = {
            contact: (oracle.Row(*line[:7]), *line[7:])
            for contact, line in self.observer.shown(at).items()
            if contact not in nudged
        }
        assert shown == {
            contact: (row, oracle.recency(row, at), at)
            for contact, row in expected.items()
            if contact not in nudged
        }

    def _settle(self) -> None:
        """Mended, read to the end, nudges taken: every row is right, without exception."""
        self.observer.connection.execute("delete from trial.broken")
        for worker in self.workers:
            worker.forget()
        self._claim(self.workers[0], range(world.HOMES))
        self.workers[0].timers = True
        self.now = max([self.now, *self.as_of.values()]) + timedelta(hours=2)
        for _ in range(4):
            self._advance(self.workers[0], None, self.now)
        assert self.observer.nudged() == {}
        assert not self.untimed
        self.broken = set()
        self.look(timedelta(0))
        for _ in range(8):
            for end in self._edges()[:1]:
                self.now = end
                self._advance(self.workers[0], {}, end)
                self._advance(self.workers[0], {}, end)
        self.look(timedelta(0))
