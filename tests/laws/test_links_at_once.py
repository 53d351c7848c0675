"""A fact and a link told at the same time: each stops before every one of its statements, the other goes by.

Whichever of the two comes between, and wherever, and though others have looked at once at what that left them
to look at: when everyone has, every row is what the oracle says.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from schemas import topics
from tests import oracle
from tests.laws import generator, registrar, test_identifiers, world
from tests.oracle import identifiers

NOW = generator.NOW
Envelope = dict[str, Any]


def at_home(kind: str, home: int) -> str:
    """The id of a contact or a session whose home it is."""
    found = (f"{kind[0]}{n}" for n in itertools.count())
    return next(one for one in found if topics.home(f"{kind}:{one}", world.HOMES) == home)


A, B, C = at_home("contact", 0), at_home("contact", 1), at_home("contact", 2)
S = f"session:{at_home('session', 1)}"


def told(kind: str, contact: str, id: str, days: int = 1, **more: Any) -> Envelope:
    return generator.envelope(generator.Told(kind, contact, NOW - timedelta(days=days), id, **more), NOW)


def clicked(contact: str, id: str) -> Envelope:
    return told("mail.clicked", contact, id, mailing=f"mailing of {id}")


def merged(contact: str, into: str, id: str = "l1") -> Envelope:
    return told("contact.merged", contact, id, to=into)


ELSEWHERE = told("session.linked", S, "l2", 0, to=C)
LINK = told("session.linked", S, "l1", to=A)
UNLINK = told("session.unlinked", S, "u1", takes_back=("urn:a", "l1"))
UNMERGE = told("contact.unmerged", B, "u1", takes_back=("urn:a", "l1"))
HISTORY = [clicked(A, "a"), clicked(B, "b"), clicked(C, "c"), clicked(S, "s")]

E, P = test_identifiers.E, test_identifiers.P
BOTH, VISIT = test_identifiers.BOTH, test_identifiers.a_set(E, S)
YESTERDAY = NOW - timedelta(days=1)


def of_anybody(about: str, id: str) -> Envelope:
    return test_identifiers.event("mail.clicked", about, YESTERDAY, id, mailing=f"mailing of {id}")


def known(about: str, to: str, id: str, days: int = 1, primary: bool = False) -> Envelope:
    return test_identifiers.linked(about, to, NOW - timedelta(days=days), id, primary=primary)


# What was told and settled before; then what is told at once.
CASES: dict[str, tuple[list[Envelope], Envelope, Envelope]] = {
    "event and link": (HISTORY, clicked(S, "new"), LINK),
    "first event and link": ([], clicked(S, "new"), LINK),
    "event and link elsewhere": ([*HISTORY, LINK], clicked(S, "new"), ELSEWHERE),
    "event and unlink": ([*HISTORY, LINK], clicked(S, "new"), UNLINK),
    "event of who is merged": (HISTORY, clicked(B, "new"), merged(B, A)),
    "event of who is merged into": (HISTORY, clicked(A, "new"), merged(B, A)),
    "event and un-merge": ([*HISTORY, merged(B, A)], clicked(B, "new"), UNMERGE),
    "event and merge of its contact's contact": ([*HISTORY, LINK], clicked(S, "new"), merged(A, C, "l2")),
    "event in a chain that is cut": (
        [*HISTORY, LINK, merged(A, B, "l2"), merged(B, C, "l3")], clicked(S, "new"),
        told("contact.unmerged", B, "u3", takes_back=("urn:a", "l3")),
    ),
    "event and a circle that closes": ([*HISTORY, merged(A, B, "l2")], clicked(A, "new"), merged(B, A, "l3")),
    "deletion of who is merged": (HISTORY, told("contact.deleted", B, "d"), merged(B, A)),
    "deletion of who is merged into": (HISTORY, told("contact.deleted", A, "d"), merged(B, A)),
    "event and refusal of its contact": (
        [*HISTORY, LINK], clicked(S, "new"), told("contact.consent_changed", A, "n", level="refused"),
    ),
    "event and consent of who belongs to its contact": (
        [*HISTORY, merged(B, A), told("contact.consent_changed", B, "n", 2, level="refused")],
        clicked(A, "new"), told("contact.consent_changed", B, "y", level="individual"),
    ),
    "refusal of who is merged": (
        HISTORY, told("contact.consent_changed", B, "n", level="refused"), merged(B, A),
    ),
    "refusal of who is merged into": (
        HISTORY, told("contact.consent_changed", A, "n", level="aggregate"), merged(B, A),
    ),
    "consent of who is merged": (
        [*HISTORY, told("contact.consent_changed", B, "n", 2, level="refused")],
        told("contact.consent_changed", B, "y", level="individual"), merged(B, A),
    ),
    "consent and un-merge": (
        [*HISTORY, merged(B, A), told("contact.consent_changed", B, "n", 2, level="refused")],
        told("contact.consent_changed", B, "y", level="individual"), UNMERGE,
    ),
    "event of an address and its contact": (HISTORY, of_anybody(E, "new"), known(E, A, "i1")),
    "event of an address and a merge": ([*HISTORY, known(E, B, "i1")], of_anybody(E, "new"), merged(B, A)),
    "event of an address and its primary owner": (
        [*HISTORY, known(E, A, "i1")], of_anybody(E, "new"), known(E, B, "i2", primary=True),
    ),
    "event of an address that is taken back": (
        [*HISTORY, known(E, A, "i1")], of_anybody(E, "new"),
        test_identifiers.unlinked(E, NOW, "u1", "i1"),
    ),
    "first event of a set and the contact of its second": (
        HISTORY, of_anybody(BOTH, "new"), known(P, A, "i1"),
    ),
    "event of a set and the contact of its first": (
        [*HISTORY, known(P, A, "i1"), of_anybody(BOTH, "old")], of_anybody(BOTH, "new"), known(E, B, "i2"),
    ),
    "first event of a set and the contact of its first": (
        [*HISTORY, known(P, A, "i1")], of_anybody(BOTH, "new"), known(E, B, "i2"),
    ),
    "event of a set and the contact of its session": (
        [*HISTORY, of_anybody(VISIT, "old")], of_anybody(VISIT, "new"), LINK,
    ),
    "event of a set and its session's next contact": (
        [*HISTORY, LINK, of_anybody(VISIT, "old")], of_anybody(VISIT, "new"), ELSEWHERE,
    ),
    "restoring and un-merge": (
        [*HISTORY, merged(B, A), told("contact.deleted", B, "d", 2)],
        told("contact.restored", B, "r"), UNMERGE,
    ),
}  # fmt: skip


class Stand:
    """The homes shared by two workers, and the registry's owner."""

    def __init__(self, dsn: str, observer: world.Observer, owner: registrar.Registrar) -> None:
        self.observer, self.registrar = observer, owner
        self.log = world.Log()
        self.workers = [world.Worker(f"w{n}", dsn, self.log) for n in range(2)]

    def close(self) -> None:
        for worker in self.workers:
            worker.close()

    def begin(self, ledger: list[Envelope]) -> None:
        """Everything of this ledger told and settled."""
        self.observer.clear()
        self.registrar.begin()
        self.log = world.Log()
        for worker, homes in zip(self.workers, ({0}, {1, 2}), strict=True):
            worker.log = self.log
            worker.held, worker.next = {}, {}
            worker.claim(name for name in self.log.entries if name[1] in homes)
        for one in ledger:
            if one["type"] not in identifiers.REGISTERED:
                self.log.tell(one)
        for worker in self.workers:
            worker.advance(at=NOW)
        self.registrar.fold(*(world.encode(one) for one in ledger if one["type"] in identifiers.REGISTERED))
        self.settle()

    def tell(self, one: Envelope) -> Callable[[], None]:
        """What tells it: a transaction of whoever it concerns."""
        if one["type"] in identifiers.REGISTERED:
            return lambda: self._discard(self.registrar.fold(world.encode(one)))
        self.log.tell(one)
        return lambda: self._discard(self._owner(one).advance(at=NOW))

    def statements(self, one: Envelope) -> world.Fuse:
        return self.registrar.fuse if one["type"] in identifiers.REGISTERED else self._owner(one).fuse

    def settle(self) -> None:
        for _ in range(6):
            for worker in self.workers:
                worker.advance(at=NOW)
            if not self.observer.nudged():
                return
        raise AssertionError(self.observer.nudged())

    def pass_by(self, busy: world.Fuse, other: Callable[[], None]) -> None:
        """The other has his turn, and everyone whose hands are free takes the nudges that are there then."""
        other()
        for worker in self.workers:
            if worker.fuse is not busy:
                worker.advance(at=NOW)

    def _owner(self, one: Envelope) -> world.Worker:
        return self.workers[0 if topics.home(one["subject"], world.HOMES) == 0 else 1]

    def _discard(self, _: object) -> None: ...


@pytest.fixture
def stand(module_database: str, observer: world.Observer, registrar: registrar.Registrar) -> Iterator[Stand]:
    made = Stand(module_database, observer, registrar)
    yield made
    made.close()


@pytest.mark.capability("LAW-1", "LAW-3", "IDN-4", "IDN-5")
@pytest.mark.parametrize("turned", [False, True], ids=["the fact stops", "the link stops"])
@pytest.mark.parametrize("case", CASES)
def test_a_fact_and_a_link_at_once(stand: Stand, case: str, turned: bool) -> None:
    before, fact, link = CASES[case]
    stops, passes = (link, fact) if turned else (fact, link)
    expected = oracle.expected([*before, fact, link], NOW)
    for place in itertools.count():
        stand.begin(before)
        fuse, first, other = stand.statements(stops), stand.tell(stops), stand.tell(passes)
        fuse.left, fuse.between = place, functools.partial(stand.pass_by, fuse, other)
        first()
        went_by = fuse.between is None
        fuse.left = fuse.between = None
        if not went_by:
            assert place > 3, "nothing was stopped"
            return
        stand.settle()
        rows = {contact: oracle.Row(*line[:7]) for contact, line in stand.observer.rows().items()}
        assert rows == expected, f"stopped before statement {place}"
