"""One transaction of the fold: facts in, rows out, positions with them.

Promises: positions, facts, rows, nudges and outbox commit together or not at all (LAW-4). Everything that waits for
this client (COPY) comes before anything is locked; from the compare-and-set on, statements only. An error inside one
contact is found by halving, kept on its nudge, and stops no other. Folding is order-free: a row is what
`engagement_at` says of the facts, so neither order nor repetition of transactions matters (LAW-1).
Limits: the connection has search_path = <pair>, heed_ops and is in autocommit; one call at a time on a connection.
Called by: fold lanes (`streams.lanes`), replay, law tests.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

import psycopg

from projections import database, engagement, positions, records
from schemas import commands, errors, topics

READER: Final = "fold"
MOST: Final = 1000  # nudges, due rows and items of a command taken by one transaction

STAGE: Final = """
create temp table if not exists incoming (subject text, key uuid, source text, id text, type text, time timestamptz,
    version smallint, digest uuid, accepted timestamptz, test bool, part smallint, off bigint, mailing text, data text)
on commit delete rows
"""
COPY: Final = "copy incoming from stdin"

# Purpose: every fact once; of two contents under one key the smaller (time, digest) stands. Answers how many are
# new, by type, and the subjects of those that replaced another content.
MERGE: Final = """
with merged as (
    insert into fact as f
        (subject, key, source, id, type, time, version, digest, accepted, test, part, off, mailing, data)
    select subject, key, source, id, type, time, version, digest, accepted, test, part, off, mailing, data from incoming
    on conflict (subject, key) do update set type = excluded.type, time = excluded.time, version = excluded.version,
        digest = excluded.digest, accepted = excluded.accepted, test = excluded.test, part = excluded.part,
        off = excluded.off, mailing = excluded.mailing, data = excluded.data
    where (excluded.time, excluded.digest) < (f.time, f.digest)
    returning f.type, case when xmax = 0 then null else f.subject end as replaced
)
select type, replaced, count(*) from merged group by type, replaced
"""

# Purpose: of the staged facts that were there already, how many say something else.
CONFLICTING: Final = """
select count(*) from incoming i join fact f using (subject, key) where (i.time, i.digest) <> (f.time, f.digest)
"""

TAKE: Final = """
delete from nudge where id in (
    select id from nudge where home = any(%(homes)s::smallint[]) and retry_at <= %(at)s::timestamptz
    order by retry_at limit %(most)s)
returning subject, home, attempts
"""
ROOTS: Final = "select subject, root, home from member where subject = any(%s::text[])"
NUDGE: Final = """
insert into nudge (home, subject, reason) select u.home, u.subject, %(reason)s
from unnest(%(subjects)s::text[], %(homes)s::smallint[]) as u(subject, home)
"""
# Purpose: the error of one contact stays with it, to be tried again after 1 s, doubling to 1 h.
KEEP_ERROR: Final = """
with old as (
    delete from nudge where home = %(home)s and subject = %(subject)s and error is not null returning attempts)
insert into nudge (home, subject, reason, error, attempts, retry_at)
select %(home)s, %(subject)s, 'error', %(error)s, n.attempts,
    %(at)s::timestamptz + make_interval(secs => least(3600, 2 ^ least(n.attempts - 1, 12)))
from (select greatest(%(attempts)s, coalesce(max(attempts), 0)) + 1 as attempts from old) n
"""
PARK: Final = """
insert into parked (reason, detail, type, source, event_id, door, topic, part, off, event_time, bytes)
values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) on conflict (topic, part, off) do nothing
"""
SEND: Final = "insert into outbox (home, event_id, topic, key, body) values (%s, %s, %s, %s, %s)"
READ_BACK: Final = "delete from outbox where event_id = any(%s::uuid[])"
OVERDUE: Final = """
select contact_id from engagement where contact_id = any(%s::text[]) and valid_until <= %s
"""


@dataclasses.dataclass(slots=True)
class Batch:
    """What one transaction reads: decoded facts, commands read back, and how far each partition moves."""

    moves: dict[positions.TP, positions.Move]
    facts: records.Decoded = dataclasses.field(default_factory=records.Decoded)
    read_back: list[str] = dataclasses.field(default_factory=list)
    named: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(slots=True)
class Done:
    """What one transaction did."""

    at: datetime
    folded: dict[str, int] = dataclasses.field(default_factory=dict)
    duplicates: int = 0
    conflicts: int = 0
    contacts: int = 0
    failed: int = 0
    expired: list[datetime] = dataclasses.field(default_factory=list)
    commands: int = 0
    more: bool = False


@dataclasses.dataclass(slots=True)
class _Work:
    """Contacts to bring and nudges to append, collected through a transaction."""

    mine: frozenset[int]
    contacts: dict[str, int] = dataclasses.field(default_factory=dict)
    attempts: dict[str, int] = dataclasses.field(default_factory=dict)
    others: dict[str, int] = dataclasses.field(default_factory=dict)


class Fold:
    """The fold of the homes that one lane owns, on one connection."""

    def __init__(self, connection: psycopg.Connection, homes: int, *, timers: bool = True, rows: bool = True) -> None:
        """`timers` off leaves what is due alone; `rows` off takes in facts only (a replay brings rows at its end)."""
        self.connection = connection
        self.homes = homes
        self.timers = timers
        self.rows = rows
        connection.execute(STAGE)

    def advance(self, batch: Batch, at: datetime | None = None) -> Done:
        """Fold a batch (which may be empty), the waiting nudges and what is due, in one transaction.

        Blocks for the database only. Raises `positions.Fenced`; psycopg.Error when the server is away or refuses.
        """
        connection = self.connection
        with connection.transaction():
            self._stage(batch.facts)
            instant = positions.move(connection, READER, batch.moves, at)
            done = Done(instant)
            work = _Work(frozenset(part for topic, part in batch.moves if topic == topics.FACTS))
            self._merge(batch.facts, work, done)
            if not self.rows:
                return done
            self._park(batch.facts.asides)
            self._read_back(batch, work, instant)
            self._take_nudges(work, done)
            if self.timers:
                self._take_due(work, done)
            self._bring(work, done)
            self._append_nudges(work.others, "linked")
        return done

    def waiting(self, mine: Iterable[int]) -> bool:
        """Whether a nudge or a due row waits in these homes: one cheap read, outside any transaction."""
        due = "or exists (select from engagement where home = any(%(h)s::smallint[]) and valid_until <= now())"
        found = self.connection.execute(
            "select exists (select from nudge where home = any(%(h)s::smallint[]) and retry_at <= now()) "
            + (due if self.timers else ""),
            {"h": list(mine)},
        ).fetchone()
        return bool(found and found[0])

    def sift(self, facts: records.Decoded) -> None:
        """Take out of a batch what PostgreSQL refuses to keep, line by line; it is set aside as unstorable.

        For lines that admission would never have let through: a stranger wrote on the log.
        """
        for name, (_, _, line, origin) in list(facts.lines.items()):
            try:
                with self.connection.transaction(force_rollback=True):
                    with self.connection.cursor().copy(COPY) as copy:
                        copy.write(line)
                    self.connection.execute(MERGE)
            except psycopg.Error as error:
                if database.is_away(error):
                    raise
                del facts.lines[name]
                facts.asides.append(records.refused(origin))

    def _stage(self, facts: records.Decoded) -> None:
        if facts.lines:
            with self.connection.cursor().copy(COPY) as copy:
                copy.write(facts.text())

    def _merge(self, facts: records.Decoded, work: _Work, done: Done) -> None:
        done.duplicates, done.conflicts = facts.duplicates, facts.conflicts
        touched = dict(facts.touched)
        if facts.lines:
            merged = self.connection.execute(MERGE).fetchall()
            replaced = 0
            for type_, subject, number in merged:
                if subject is None:
                    done.folded[type_] = number
                else:
                    replaced += number
                    touched[subject] = topics.home(subject, self.homes)
            again = len(facts.lines) - sum(done.folded.values()) - replaced
            lost = self._count(CONFLICTING) if again else 0
            done.conflicts += lost + replaced
            done.duplicates += again - lost
        if self.rows:
            self._route(touched, work, drop_if_no_root=False)

    def _count(self, statement: str) -> int:
        row = self.connection.execute(statement).fetchone()
        assert row is not None
        return int(row[0])

    def _route(self, subjects: Mapping[str, int], work: _Work, *, drop_if_no_root: bool) -> None:
        """Each subject's root: brought here if its home is ours, else nudged where its owner looks."""
        if not subjects:
            return
        linked = {
            subject: (root, home)
            for subject, root, home in self.connection.execute(ROOTS, (list(subjects),)).fetchall()
        }
        for subject, home in subjects.items():
            root, root_home = linked.get(subject, (subject, home))
            if subject in linked and drop_if_no_root and home in work.mine:
                _ask(work.contacts, subject, home)
            if root_home in work.mine:
                _ask(work.contacts, root, root_home)
            else:
                work.others[root] = root_home

    def _park(self, asides: Sequence[records.Aside]) -> None:
        if asides:
            park(self.connection, asides)

    def _read_back(self, batch: Batch, work: _Work, at: datetime) -> None:
        if batch.read_back:
            self.connection.execute(READ_BACK, (batch.read_back,))
        if batch.named:
            overdue = self.connection.execute(OVERDUE, (batch.named, at)).fetchall()
            subjects = {f"contact:{contact}": topics.home(f"contact:{contact}", self.homes) for (contact,) in overdue}
            self._route(subjects, work, drop_if_no_root=True)

    def _take_nudges(self, work: _Work, done: Done) -> None:
        taken = self.connection.execute(TAKE, {"homes": list(work.mine), "at": done.at, "most": MOST}).fetchall()
        done.more = len(taken) == MOST
        subjects = {}
        for subject, home, attempts in taken:
            subjects[subject] = home
            work.attempts[subject] = max(attempts, work.attempts.get(subject, 0))
        self._route(subjects, work, drop_if_no_root=True)

    def _take_due(self, work: _Work, done: Done) -> None:
        due = self.connection.execute(
            engagement.DUE, {"homes": list(work.mine), "at": done.at, "most": MOST}
        ).fetchall()
        done.more = done.more or len(due) == MOST
        work.contacts.update(due)

    def _bring(self, work: _Work, done: Done) -> None:
        if not work.contacts:
            return
        asked = sorted(work.contacts.items())
        done.contacts = len(asked)
        overdue, failed = self._bring_halving(asked, done.at)
        done.failed = len(failed)
        for contact, error in failed.items():
            subject = f"contact:{contact}"
            named = {"home": work.contacts[contact], "subject": subject, "error": error[:500], "at": done.at}
            self.connection.execute(KEEP_ERROR, named | {"attempts": work.attempts.get(subject, 0)})
        done.expired = [due for _, _, due in overdue]
        if overdue:
            done.commands = self._send(overdue, done.at)

    def _bring_halving(
        self, asked: list[tuple[str, int]], at: datetime
    ) -> tuple[list[tuple[int, str, datetime]], dict[str, str]]:
        named = {"contacts": [contact for contact, _ in asked], "homes": [home for _, home in asked], "at": at}
        try:
            with self.connection.transaction():
                return self.connection.execute(engagement.BRING, named).fetchall(), {}
        except psycopg.Error as error:
            if database.is_away(error) and not isinstance(error, psycopg.errors.QueryCanceled):
                raise
            if len(asked) == 1:
                return [], {asked[0][0]: f"{type(error).__name__}: {error.diag.message_primary}"}
        middle = len(asked) // 2
        first, failed_first = self._bring_halving(asked[:middle], at)
        second, failed_second = self._bring_halving(asked[middle:], at)
        return first + second, failed_first | failed_second

    def _send(self, overdue: list[tuple[int, str, datetime]], at: datetime) -> int:
        """Commands for what went past its time, batched per home, at most 1,000 items each."""
        by_home: dict[int, list[tuple[str, datetime]]] = {}
        for home, contact, due in overdue:
            by_home.setdefault(home, []).append((contact, due))
        made = [
            commands.make("engagement.expire", home, items[i : i + MOST], at)
            for home, items in sorted(by_home.items())
            for i in range(0, len(items), MOST)
        ]
        with self.connection.cursor() as cursor:
            cursor.executemany(
                SEND, [(c.home, c.id, topics.COMMANDS, commands.subject(c.home), c.body) for c in made]
            )
        return len(made)

    def _append_nudges(self, others: Mapping[str, int], reason: str) -> None:
        if others:
            named = {"subjects": list(others), "homes": list(others.values()), "reason": reason}
            self.connection.execute(NUDGE, named)


def park(connection: psycopg.Connection, asides: Sequence[records.Aside]) -> None:
    """Set records aside with their reason and bytes; one that stands there already is left as it is."""
    with connection.cursor() as cursor:
        cursor.executemany(
            PARK,
            [
                (a.reason, a.detail, _plain(a.type), _plain(a.source), _plain(a.event_id), a.door, a.topic, a.part,
                 a.off, a.event_time, a.raw)
                for a in asides
            ],
        )  # fmt: skip


def _plain(text: str | None) -> str | None:
    """Text as PostgreSQL can keep it: without NUL and lone surrogates."""
    if text is None:
        return None
    return text.replace("\0", "").encode("utf-8", "replace").decode()[:256]


def _ask(contacts: dict[str, int], subject: str, home: int) -> None:
    kind, _, contact = subject.partition(":")
    if kind == "contact":
        contacts[contact] = home


class TooManyErrors(errors.Doubt):
    """More than 1 % of the last 10,000 contacts could not be brought: that is a bad deploy, not a bad contact."""


class ErrorRate:
    """Stops a process whose errors are not single contacts: over 1 % and at least 100 of the last 10,000."""

    def __init__(self, window: int = 10_000, most: float = 0.01, least: int = 100) -> None:
        self.window, self.most, self.least = window, most, least
        self._seen: list[tuple[int, int]] = []

    def add(self, contacts: int, failed: int) -> None:
        """Count a transaction; raises `TooManyErrors`."""
        if contacts:
            self._seen.append((contacts, failed))
        while self._seen and sum(c for c, _ in self._seen) - self._seen[0][0] >= self.window:
            self._seen.pop(0)
        bad = sum(f for _, f in self._seen)
        if bad >= self.least and bad > self.most * sum(c for c, _ in self._seen):
            raise TooManyErrors

