"""A model of the protocol by which rows follow facts and links, when several owners work at once.

Promises: owners of homes and the registry's one writer are interleaved statement by statement, READ
COMMITTED: a statement sees what was committed before it and what its own transaction wrote. Facts, links,
undos, deliveries in any order; subjects are contacts, sessions, identifiers, and sets of identifiers. At rest
every row is the facts of its contact's members, which `Model.truth` says in another way. Each part of the
protocol can be left out (`Part`), to see that it is needed.
Limits: statements are atomic, as in PostgreSQL; nobody crashes (a crash undoes a whole transaction, and what
it read is read again: the positions' matter, which `machine_fold` tries).
Called by: `tests.laws.test_protocol`.
"""

from __future__ import annotations

import dataclasses
import enum
import random
from collections.abc import Generator, Iterable

Step = Generator[None, None, None]

CONTACTS = ("A", "B", "C", "D")
SESSIONS = ("s", "t")
IDENTIFIERS = ("e", "f", "p")
LINKED = (*CONTACTS, *SESSIONS, *IDENTIFIERS)
SETS = {
    "ep": ("e", "p"),
    "fp": ("f", "p"),
    "es": ("e", "s"),
}  # in the order in which identifiers are asked for a contact
HOMES = 4


class Part(enum.Enum):
    """What the protocol does, each part of which is needed."""

    OLD_ROOT = "the old root of a subject that moves is nudged"
    MOVED = "a contact or an identifier that moves is nudged, in its own home"
    MOVED_TO = "where a session moves, its new root is nudged in the session's home"
    SEPARATE = "each nudge has an id of its own and is never merged with another"
    DELETED_FIRST = "a nudge is deleted before the facts are read that it speaks of"
    SETS_OF = "whoever takes a nudge for an identifier nudges the sets that it is in, in their homes"
    NEW_SET = "a set that is told of is nudged, so that it is looked at again after the commit"
    DROPPED = "the row of a contact that is no root any more is dropped"


@dataclasses.dataclass
class Transaction:
    """What one transaction wrote and nobody else sees yet."""

    facts: set[tuple[str, int]] = dataclasses.field(default_factory=set)
    sets: set[str] = dataclasses.field(default_factory=set)
    member: dict[str, str] = dataclasses.field(default_factory=dict)
    rows: dict[str, frozenset[int]] = dataclasses.field(default_factory=dict)
    appended: list[tuple[int, str]] = dataclasses.field(default_factory=list)
    taken: set[int] = dataclasses.field(default_factory=set)


class Model:
    """Tables, logs still to be read, and who owns which home."""

    def __init__(self, seed: int, without: Part | None = None) -> None:
        self.random = random.Random(seed)
        self.without = without
        self.facts: set[tuple[str, int]] = set()
        self.sets: set[str] = set()
        self.edge: dict[
            str, str
        ] = {}  # what the registry's writer has read of links so far, subject to target
        self.member: dict[str, str] = {}
        self.rows: dict[str, frozenset[int]] = {}
        self.nudges: dict[int, tuple[int, str]] = {}
        self.number = 0
        subjects = [*LINKED, *SETS]
        self.home = {subject: self.random.randrange(HOMES) for subject in subjects}
        self.owners = [frozenset({0, 1}), frozenset({2}), frozenset({3})]
        told = [(self.random.choice(subjects), number) for number in range(self.random.randrange(1, 7))]
        self.log = {owner: [fact for fact in told if self.home[fact[0]] in owner] for owner in self.owners}
        self.links = self._links(self.random.randrange(1, 6))

    def _links(self, count: int) -> list[tuple[str, str | None]]:
        """Changes of what a subject is linked to now; None: undone, to nothing."""
        return [(self.random.choice(LINKED), self.random.choice([*CONTACTS, None])) for _ in range(count)]

    # The rule: who a subject's contact is.

    def truth(self) -> dict[str, frozenset[int]]:
        """Every contact's row, from the links and facts alone."""
        edge: dict[str, str | None] = {}
        for subject, target in self.all_links:
            edge[subject] = None if subject == target else target
        rows: dict[str, set[int]] = {}
        for subject, number in self.all_facts:
            for one in SETS.get(subject, (subject,)):
                path = [one]
                while (following := edge.get(path[-1])) is not None and following not in path:
                    path.append(following)
                root = path[-1] if following is None else min(path[path.index(following) :])
                if root in CONTACTS:
                    rows.setdefault(root, set()).add(number)
                    break
        return {contact: frozenset(numbers) for contact, numbers in rows.items()}

    # Statements.

    def root(self, subject: str, own: Transaction) -> str:
        """The contact of a contact or an identifier, by the table; itself, if it belongs to none."""
        return own.member.get(subject) or self.member.get(subject, subject)

    def root_of_set(self, subject: str, own: Transaction) -> str | None:
        roots = (self.root(one, own) for one in SETS[subject])
        return next((root for root in roots if root in CONTACTS), None)

    def recompute(self, root: str, own: Transaction) -> None:
        """One statement: the row of a root is the facts of whatever belongs to it."""
        if root in self.member:
            own.rows[root] = frozenset()
            return
        members = {root} | {subject for subject, of in self.member.items() if of == root}
        members |= {one for one in self.sets | own.sets if self.root_of_set(one, own) == root}
        own.rows[root] = frozenset(n for subject, n in self.facts | own.facts if subject in members)

    def append(self, subject: str, own: Transaction, home: int | None = None) -> None:
        """A nudge; in the subject's own home, unless another is given."""
        home = self.home[subject] if home is None else home
        if self.without is Part.SEPARATE and (home, subject) in self.nudges.values():
            return
        own.appended.append((home, subject))

    def commit(self, own: Transaction) -> None:
        self.facts |= own.facts
        self.sets |= own.sets
        for subject, root in own.member.items():
            self.member[subject] = root
            if root == subject:
                del self.member[subject]
        self.rows.update(own.rows)
        for one in own.taken:
            del self.nudges[one]
        for nudge in own.appended:
            self.number += 1
            self.nudges[self.number] = nudge

    # Transactions: every `yield` is a moment in which another may run a statement, or commit.

    def fold(self, owner: frozenset[int], fact: tuple[str, int]) -> Step:
        own, (subject, _) = Transaction(), fact
        own.facts.add(fact)
        if subject in SETS:
            own.sets.add(subject)
            if self.without is not Part.NEW_SET:
                self.append(subject, own)
        yield
        yield from self.route([subject], owner, own, drop=False)
        self.commit(own)

    def take(self, owner: frozenset[int]) -> Step:
        own = Transaction()
        seen = {number: subject for number, (home, subject) in self.nudges.items() if home in owner}
        subjects = sorted(set(seen.values()))
        if self.without is Part.DELETED_FIRST:
            yield from self.route(subjects, owner, own, drop=True)
            yield
            own.taken = {
                number for number, (home, one) in self.nudges.items() if home in owner and one in subjects
            }
        else:
            own.taken = set(seen)
            yield
            yield from self.route(subjects, owner, own, drop=True)
        self.commit(own)

    def route(self, subjects: Iterable[str], owner: frozenset[int], own: Transaction, *, drop: bool) -> Step:
        """Each subject's root: brought here if its home is ours, else nudged where its owner looks."""
        wanted: set[str] = set()
        for subject in subjects:
            if subject in SETS:
                wanted |= {root for one in SETS[subject] if (root := self.root(one, own)) in CONTACTS}
                continue
            root = self.root(subject, own)
            if root in CONTACTS:
                wanted.add(root)
            if drop and subject in CONTACTS and self.without is not Part.DROPPED:
                wanted.add(subject)
            if drop and subject in IDENTIFIERS and self.without is not Part.SETS_OF:
                for one in sorted(self.sets):
                    if subject in SETS[one]:
                        self.append(one, own)
        yield
        for root in sorted(wanted):
            if self.home[root] in owner:
                self.recompute(root, own)
            else:
                self.append(root, own)
            yield

    def link(self, subject: str, target: str | None) -> Step:
        """The registry's writer: who belongs to whom now, and whom to tell."""
        own = Transaction()
        if target is None or target == subject:
            self.edge.pop(subject, None)
        else:
            self.edge[subject] = target
        yield
        moved = []
        for one in LINKED:
            before, after = self.member.get(one, one), self._follow(one)
            if before != after:
                own.member[one] = after
                moved.append((one, before, after))
        yield
        for one, before, after in moved:
            if one in SESSIONS:
                if after in CONTACTS and self.without is not Part.MOVED_TO:
                    self.append(after, own, self.home[one])
            elif self.without is not Part.MOVED:
                self.append(one, own)
            if before in CONTACTS and self.without is not Part.OLD_ROOT:
                self.append(before, own)
            if after in CONTACTS:
                self.append(after, own)
        yield
        self.commit(own)

    def _follow(self, subject: str) -> str:
        seen: list[str] = []
        while subject in self.edge and subject not in seen:
            seen.append(subject)
            subject = self.edge[subject]
        return min(seen[seen.index(subject) :]) if subject in seen else subject

    # A run.

    def run(self) -> None:
        """Everything that is told, by everyone at once, until there is nothing left to do."""
        self.all_facts = [fact for facts in self.log.values() for fact in facts]
        self.all_links = list(self.links)
        under_way: dict[frozenset[int] | None, Step] = {}
        while True:
            for actor in (*self.owners, None):
                if actor not in under_way and (step := self._next(actor)) is not None:
                    under_way[actor] = step
            if not under_way:
                return
            actor = self.random.choice(sorted(under_way, key=str))
            try:
                next(under_way[actor])
            except StopIteration:
                del under_way[actor]

    def _next(self, actor: frozenset[int] | None) -> Step | None:
        if actor is None:
            return self.link(*self.links.pop(0)) if self.links else None
        waits = any(home in actor for home, _ in self.nudges.values())
        facts = self.log[actor]
        if facts and (not waits or self.random.random() < 0.5):
            return self.fold(actor, facts.pop(0))
        return self.take(actor) if waits else None


def wrong(seed: int, without: Part | None = None) -> bool:
    """Whether a run ends with rows that are not the truth."""
    model = Model(seed, without)
    model.run()
    rows = {contact: row for contact, row in model.rows.items() if row}
    return rows != model.truth()
