"""One transaction of the fold: facts in, rows out, positions with them.

Promises: positions, facts, rows, nudges and outbox commit together or not at all (LAW-4). Everything that
waits for this client (COPY) comes before anything is locked; from the compare-and-set on, statements only.
An error inside one contact is found by halving, kept on its nudge, and stops no other; on a slow server what
is left is nudged, so that no transaction lasts (`projections.halving`). Folding is order-free: a row is what
`engagement_at` says of the facts, so neither order nor repetition of transactions matters (LAW-1).
Limits: the connection has search_path = <pair>, heed_ops and is in autocommit; one call at a time on a
connection.
Called by: fold lanes (`streams.fold_loop`), replay, law tests.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final

import psycopg

from projections import (
    database,
    engagement,
    erasure,
    facts,
    halving,
    nudges,
    outbox,
    parked,
    parked_again,
    positions,
    recalculation,
    records,
)
from schemas import identity, topics

READER: Final = "fold"
ASKED: Final = 8000  # contacts of commands in one question

# Purpose: of these subjects, those that belong to another contact, with that contact and its home.
ROOTS: Final = "select subject, root, home from member where subject = any(%s::text[])"
# Purpose: of these sets, the contacts that any member of theirs belongs to: it may have been any one's.
SETS: Final = """
select distinct m.root, m.home from set_member s join member m on m.subject = s.member
where s.subject = any(%s::text[])
"""
# Purpose: the sets that these identifiers are in.
SETS_OF: Final = "select distinct subject from set_member where member = any(%s::text[])"

# Purpose: every statement of the fold finds rows by index, so its plan may be kept whatever a table's size.
PLAN: Final = """
select set_config(name, 'off', false)
from unnest(array['enable_hashjoin', 'enable_mergejoin', 'enable_seqscan', 'jit']) as u(name)
"""


@dataclasses.dataclass(slots=True)
class Batch:
    """What one transaction reads: decoded facts, commands read back, what was parked and is among them
    again, and how far each partition moves."""

    moves: dict[positions.TP, positions.Move]
    facts: records.Decoded = dataclasses.field(default_factory=records.Decoded)
    read_back: list[str] = dataclasses.field(default_factory=list)
    named: list[str] = dataclasses.field(default_factory=list)
    again: parked_again.Again | None = None


@dataclasses.dataclass(slots=True)
class Done:
    """What one transaction did."""

    at: datetime
    folded: dict[str, int] = dataclasses.field(default_factory=dict)
    duplicates: int = 0
    conflicts: int = 0
    contacts: int = 0
    failed: list[str] = dataclasses.field(default_factory=list)
    expired: list[datetime] = dataclasses.field(default_factory=list)
    commands: int = 0
    more: bool = False


@dataclasses.dataclass(slots=True)
class _Work:
    """Contacts to bring and nudges to append, collected through a transaction."""

    mine: frozenset[int]
    contacts: dict[str, int] = dataclasses.field(default_factory=dict)
    attempts: dict[str, int] = dataclasses.field(default_factory=dict)
    queued: dict[str, recalculation.Taken] = dataclasses.field(default_factory=dict)
    others: dict[str, int] = dataclasses.field(default_factory=dict)

    def bring(self, subject: str, home: int) -> None:
        contact = identity.contact_id(subject)
        if contact is not None:
            self.contacts[contact] = home


class Fold:
    """The fold of the homes that one lane owns, on one connection."""

    def __init__(
        self,
        connection: psycopg.Connection,
        homes: int,
        *,
        timers: bool = True,
        recalculate: bool = True,
        rows: bool = True,
        live: bool = True,
    ) -> None:
        """`timers` off leaves what is due alone, `recalculate` off those who are queued (CEE-9); `rows` off
        takes in facts only (replay brings rows last); `live` off keeps out of what is not the pair's own:
        nothing is parked, nothing is sent."""
        self.connection = connection
        self.homes = homes
        self.timers = timers
        self.recalculate = recalculate
        self.rows = rows
        self.live = live
        self._take_from = self._taken_to = recalculation.START
        self._front = engagement.Front()
        facts.prepare(connection)
        if rows:
            connection.execute(PLAN)

    def advance(self, batch: Batch, at: datetime | None = None) -> Done:
        """Fold a batch (which may be empty), the waiting nudges and what is due, in one transaction.

        Blocks for the database only. `at` is a lower bound of T. Raises `positions.Fenced`; psycopg.Error
        when the server is away or refuses.
        """
        connection = self.connection
        with connection.transaction():
            facts.stage(connection, batch.facts)
            instant = positions.move(connection, READER, batch.moves, at)
            merged = facts.merge(connection, batch.facts)
            done = Done(instant, merged.folded, merged.duplicates, merged.conflicts)
            front = self._rows(batch, merged, done) if self.rows else self._front
        self._front = front
        return done

    def waiting(self, mine: Iterable[int]) -> bool:
        """Whether a nudge or a due row waits in these homes: one cheap read, outside any transaction."""
        home, contact = self._taken_to
        asked = [nudges.WAITING, *([engagement.WAITING] if self.timers else ())]
        asked += [recalculation.WAITING] if self.recalculate else []
        homes = frozenset(mine)
        named = {"homes": list(homes), "home": home, "contact": contact, "since": self._front.begin(homes)}
        found = self.connection.execute(f"select {' or '.join(asked)}".encode(), named).fetchone()
        return bool(found and found[0])

    def sift(self, batch: records.Decoded) -> None:
        """Take out of a batch what PostgreSQL refuses to keep; see `facts.sift`."""
        facts.sift(self.connection, batch)

    def _rows(self, batch: Batch, merged: facts.Merged, done: Done) -> engagement.Front:
        """Rows, and how far the due ones have been taken once this commits."""
        connection = self.connection
        work = _Work(frozenset(part for topic, part in batch.moves if topic == topics.FACTS))
        touched = batch.facts.touched | {one: topics.home(one, self.homes) for one in merged.replaced}
        self._route(touched, work, drop=False)
        # What a link that is just being folded did not see of a set is looked at again after this commits.
        work.others |= {one: home for one, home in touched.items() if one.startswith(identity.SET)}
        if self.live:
            if batch.again is not None:
                parked_again.settle(connection, batch.again)
            parked.park(connection, batch.facts.asides)
            outbox.read_back(connection, batch.read_back)
        self._route(self._overdue(batch.named, done.at), work, drop=True)
        taken = nudges.take(connection, work.mine, done.at)
        done.more = len(taken) == nudges.MOST
        taken = self._purge(taken, done)
        for subject, _, attempts in taken:
            work.attempts[subject] = max(attempts, work.attempts.get(subject, 0))
        self._route({one: topics.home(one, self.homes) for one, _, _ in taken}, work, drop=True)
        since = self._front.sweep(work.mine, done.at)
        due = engagement.due(connection, work.mine, since, done.at) if self.timers else []
        work.contacts.update((contact, home) for contact, home, _ in due)
        done.more |= len(due) == engagement.MOST
        if self.recalculate:
            busy = bool(batch.facts.lines or taken or due)
            done.more |= self._take_queued(work, recalculation.BESIDE if busy else recalculation.ALONE)
        self._bring(work, done)
        nudges.append(connection, work.others, "linked")
        return self._front.moved(work.mine, since, done.at, due) if self.timers else self._front

    def _purge(self, taken: list[tuple[str, int, int]], done: Done) -> list[tuple[str, int, int]]:
        """Let go of what is held of those who are erased; answers the nudges of the others."""
        gone = erasure.here(self.connection, {subject for subject, _, _ in taken})
        if gone:
            left = erasure.purge(self.connection, gone, live=self.live)
            erasure.tell(self.connection, left, self.homes)
            done.more |= bool(left)
        return [one for one in taken if one[0] not in gone]

    def _take_queued(self, work: _Work, most: int) -> bool:
        """Contacts that wait for recalculation, from where the last look ended; whether there may be more.

        From the queue's start again when its end was reached: with every heartbeat, for those behind.
        """
        found = recalculation.take(self.connection, work.mine, self._take_from, most)
        more = len(found) == most
        if found:
            self._taken_to = (found[-1][1], found[-1][0])
        self._take_from = self._taken_to if more else recalculation.START
        work.queued = {one[0]: one for one in found}
        work.contacts.update({contact: home for contact, home, _, _ in found})
        return more

    def _route(self, subjects: Mapping[str, int], work: _Work, *, drop: bool) -> None:
        """Each subject's root: brought here if its home is ours, else nudged where its owner looks.

        `drop`: a subject of ours that is no root any more is looked at too, so that its row goes, and the
        sets that an identifier is in are nudged, whose contact it may have changed.
        """
        if not subjects:
            return
        self._route_sets(subjects, work, drop=drop)
        linked = {
            subject: (root, home)
            for subject, root, home in self.connection.execute(ROOTS, (database.array(subjects),)).fetchall()
        }
        for subject, home in subjects.items():
            root, root_home = linked.get(subject, (subject, home))
            if drop and subject in linked and home in work.mine:
                work.bring(subject, home)
            if root_home in work.mine:
                work.bring(root, root_home)
            elif root.startswith(identity.CONTACT):
                work.others[root] = root_home

    def _route_sets(self, subjects: Mapping[str, int], work: _Work, *, drop: bool) -> None:
        sets = [one for one in subjects if one.startswith(identity.SET)]
        if sets:
            for root, home in self.connection.execute(SETS, (database.array(sets),)).fetchall():
                if home in work.mine:
                    work.bring(root, home)
                else:
                    work.others[root] = home
        moved = [one for one in subjects if drop and one.startswith(identity.IDENTIFIERS)]
        if moved:
            for (found,) in self.connection.execute(SETS_OF, (database.array(moved),)).fetchall():
                work.others[found] = topics.home(found, self.homes)

    def _overdue(self, named: list[str], at: datetime) -> dict[str, int]:
        """Of the contacts that commands name, those that are really due, as subjects with their homes."""
        asked = sorted(set(named))
        found: list[str] = []
        for first in range(0, len(asked), ASKED):  # a stranger's commands may name millions
            found += engagement.overdue(self.connection, asked[first : first + ASKED], at)
        return {subject: topics.home(subject, self.homes) for subject in (f"contact:{one}" for one in found)}

    def _bring(self, work: _Work, done: Done) -> None:
        if not work.contacts:
            return
        found = halving.halve(
            self.connection,
            [(contact, work.contacts[contact]) for contact in sorted(work.contacts)],
            lambda some: engagement.bring(self.connection, some, done.at),
            slow=True,
        )
        self._keep_errors(found.failed, work, done.at)
        nudges.append(self.connection, {f"contact:{one}": home for one, home in found.left}, "left")
        done.more = done.more or bool(found.left)
        done.contacts = len(work.contacts) - len(found.left)
        done.failed = [contact for (contact, _), _ in found.failed]
        overdue = [one for answer in found.answers for one in answer]
        done.expired = [due for _, _, due in overdue]
        if overdue and self.live:
            done.commands = outbox.send(self.connection, engagement.COMMAND, overdue, done.at)

    def _keep_errors(
        self, failed: list[tuple[tuple[str, int], psycopg.Error]], work: _Work, at: datetime
    ) -> None:
        """Who failed keeps a nudge with the error, and the place in the queue; who was mended leaves both."""
        for (contact, home), error in failed:
            subject = f"contact:{contact}"
            attempts = work.attempts.get(subject, 0)
            nudges.keep_error(self.connection, home, subject, halving.told(error), attempts, at)
        contacts = {contact for (contact, _), _ in failed}
        queued = [(work.queued[one], halving.told(error)) for (one, _), error in failed if one in work.queued]
        if queued:
            recalculation.keep(self.connection, queued)
        tried = {subject.removeprefix("contact:") for subject, attempts in work.attempts.items() if attempts}
        mended = [(one, home) for one, home in work.contacts.items() if one in tried - contacts]
        if mended:
            recalculation.mended(self.connection, mended)
