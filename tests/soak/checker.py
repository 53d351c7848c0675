"""Holds a history against the final state: pure functions, each naming one kind of violation.

Promises: each answers sentences, none when nothing is wrong; what is uncertain (an event whose teller never
heard) is held against Heed only where both outcomes are wrong. What a row should be, the oracle says.
Limits: engagement of contacts; sees what the readers saw, so a wrong row that nobody read and that was right
again before the end goes unseen.
Called by: `tests.soak.__main__`; proved by `tests/unit/test_soak_checker.py`, which has a history for each
violation.
"""

from __future__ import annotations

import bisect
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from tests.oracle import model
from tests.soak import history

Key = tuple[str, str, str]
AWAY = (
    "08",
    "25006",
    "25P03",
    "53",
    "57",
    "58",
    "XX000",
)  # SQLSTATEs of a server that is down, or its disk full
AWAY_HTTP = ("429", "503")
TELLERS = ("burst", "kafka")  # what their library says is for the report: the event counts as unknown
RULE = model.Rule()


@dataclass(slots=True)
class State:
    """What stood there at the end, at rest: the log, the facts kept, the rows, the commands.

    `log` has each record's (home, offset, fact); `kept` each fact's key and time in `fact`; `commands` the
    (contact, due in ms, command id) of every item on the topic.
    """

    at: datetime
    log: Sequence[tuple[int, int, model.Fact]]
    kept: Sequence[tuple[Key, int]]
    rows: Mapping[str, model.Row]
    commands: Sequence[tuple[str, int, str]]


def lost(told: Iterable[history.Told], state: State) -> list[str]:
    """Acknowledged as accepted, and not in the log as it was told."""
    there = {fact for _, _, fact in state.log}
    return [
        f"{one.way} {one.number}: {one.fact.subject} {one.fact.id} was acknowledged and is not in the log"
        for one in told
        if one.outcome == history.OK and one.fact is not None and one.fact not in there
    ]


def invented(told: Iterable[history.Told], state: State) -> list[str]:
    """In the log, and nobody told it so: not even one whose teller never heard."""
    said = {one.fact for one in told if one.fact is not None and one.outcome != history.REFUSED}
    return [
        f"home {home} offset {offset}: {fact.subject} {fact.id} was told by nobody"
        for home, offset, fact in state.log
        if fact not in said
    ]


def taken(told: Iterable[history.Told]) -> list[str]:
    """Accepted by the API, though no reader may fold it."""
    return [
        f"{one.way} {one.number}: a bad event was accepted"
        for one in told
        if one.fact is None and one.outcome == history.OK and one.way.startswith("http")
    ]


def doubled(state: State) -> list[str]:
    """A fact kept twice, kept with another time than the one that stands, or kept though it is not in the
    log.
    """
    standing = {_key(fact): fact.time for facts in histories(state).values() for fact in facts}
    counted = Counter(key for key, _ in state.kept)
    wrong = [f"{' '.join(key)}: kept {count} times" for key, count in counted.items() if count > 1]
    wrong += [f"{' '.join(key)}: kept and not in the log" for key in counted.keys() - standing.keys()]
    wrong += [f"{' '.join(key)}: in the log and not kept" for key in standing.keys() - counted.keys()]
    return wrong + [
        f"{' '.join(key)}: kept with another time than the one that stands"
        for key, time in state.kept
        if standing.get(key, time) != time
    ]


def differing(state: State) -> list[str]:
    """A row that is not what the facts of the log say at the final instant."""
    wrong = []
    facts = histories(state)
    for contact in sorted(facts.keys() | state.rows.keys()):
        right = model.row(contact, facts.get(contact, []), state.at, RULE)
        if state.rows.get(contact) != right:
            wrong.append(f"{contact}: is {_words(state.rows.get(contact))}, should be {_words(right)}")
    return wrong


def commands_lost(reads: Iterable[history.Read], state: State, timers: str) -> list[str]:
    """A row was seen that ran out before the end, and no command told of it.

    Held for contacts whose id begins with `timers`: those have one fact, so nothing but time moves their row.
    """
    there = {(contact, due) for contact, due, _ in state.commands}
    end = _ms(state.at)
    seen = {(one.contact, one.due) for one in reads if one.due is not None and one.contact.startswith(timers)}
    return [
        f"{contact}: its row ran out at {due} and no command tells of it"
        for contact, due in sorted(seen)
        if due < end and (contact, due) not in there
    ]


def commands_without_reason(state: State) -> list[str]:
    """A command for an instant at which no fact of the contact left a window."""
    ends: dict[str, set[int]] = {}
    of: dict[str, list[model.Fact]] = defaultdict(list)
    for _, _, fact in state.log:
        of[fact.subject.removeprefix(model.CONTACT)].append(fact)
    for contact in {contact for contact, _, _ in state.commands}:
        ends[contact] = {_ms(one) for one in model.dropped_out(of.get(contact, []), model.EPOCH, RULE)}
    return [
        f"{contact}: a command for {due}, when nothing ran out"
        for contact, due, _ in sorted(set(state.commands))
        if due not in ends[contact]
    ]


def ran_back(stands: Iterable[history.Stand]) -> list[str]:
    """T, an epoch or an offset that went down, whichever tables are live; one epoch with two owners."""
    wrong = []
    last: dict[tuple[str, str, int], history.Stand] = {}
    owners: dict[tuple[str, str, int, int], str] = {}
    for one in sorted(stands, key=lambda one: one.seen):
        place = (one.reader, one.topic, one.part)
        name = " ".join(map(str, place))
        before = last.get(place)
        last[place] = one
        if owners.setdefault((*place, one.epoch), one.owner) != one.owner:
            wrong.append(f"{name}: epoch {one.epoch} has two owners")
        if before is None:
            continue
        wrong += [
            f"{name}: {what} ran back from {earlier} to {later}"
            for what, earlier, later in (
                ("T", before.as_of, one.as_of),
                ("the epoch", before.epoch, one.epoch),
                ("the offset", before.next_offset, one.next_offset),
            )
            if later < earlier
        ]
    return wrong


def past_its_time(reads: Iterable[history.Read]) -> list[str]:
    """A row shown though its window had ended by then."""
    wrong = []
    for one in reads:
        first = one.row and one.row.date_first_click
        if one.row is not None and first and model.plus_months(_ms(first), one.row.period_months) < one.at:
            wrong.append(f"{one.reader}: {one.contact} at {one.at} shows a click whose time was over")
    return wrong


def mixed(reads: Iterable[history.Read]) -> list[str]:
    """One statement that shows rows of two instants, two rules, or two states of one home's log."""
    found: dict[tuple[str, int], list[history.Read]] = defaultdict(list)
    for one in reads:
        found[one.reader, one.statement].append(one)
    wrong = []
    for (reader, number), rows in found.items():
        instants = {one.at for one in rows}
        months = {one.row.period_months for one in rows if one.row is not None}
        if len(instants) > 1 or len(months) > 1:
            wrong.append(
                f"{reader} statement {number}: rows of {len(instants)} instants, {len(months)} rules"
            )
    return wrong


def never_true(reads: Iterable[history.Read], state: State) -> list[str]:
    """A row that no state of the log explains, or only one older than a reader had seen already.

    A read with `upto` has to be the row of exactly the facts below that offset; one without, of some first
    part of them that is not shorter than what any reader saw before it began.
    """
    of: dict[str, list[tuple[int, model.Fact]]] = defaultdict(list)
    for _, offset, fact in state.log:
        of[fact.subject.removeprefix(model.CONTACT)].append((offset, fact))
    by_contact: dict[str, list[history.Read]] = defaultdict(list)
    for one in reads:
        by_contact[one.contact].append(one)
    wrong = []
    for contact, seen in by_contact.items():
        wrong += _of_one(contact, sorted(of[contact], key=lambda pair: pair[0]), seen)
    return wrong


def _of_one(
    contact: str,
    log: Sequence[tuple[int, model.Fact]],
    seen: Sequence[history.Read],
) -> list[str]:
    wrong = []
    offsets = [offset for offset, _ in log]
    facts = [fact for _, fact in log]
    known: list[tuple[float, int]] = []  # (when a read ended, how many facts it had seen at least)
    for one in sorted(seen, key=lambda one: one.ended):
        if one.upto is not None:
            count = bisect.bisect_left(offsets, one.upto)
            if not _explains(contact, facts[:count], one):
                told = f"{one.reader}: {contact} at {one.at} with {count} facts is {_words(one.row)}"
                wrong.append(f"{told}, should be {_words(_row(contact, facts[:count], one.at))}")
                continue
            known.append((one.ended, count))
            continue
        least = max(
            (count for ended, count in known if ended <= one.invoked),
            default=0,
        )
        fitting = _fitting(contact, facts, one, least)
        if fitting is None:
            older = _fitting(contact, facts[: least - 1], one, 0) is not None if least else False
            why = "went back to an older state" if older else "is explained by no state of the log"
            wrong.append(f"{one.reader}: {contact} at {one.at} is {_words(one.row)}: it {why}")
            continue
        known.append((one.ended, fitting))
    return wrong


def _fitting(contact: str, facts: Sequence[model.Fact], one: history.Read, least: int) -> int | None:
    """The least number of facts, from `least`, whose row is the one read."""
    return next(
        (count for count in range(least, len(facts) + 1) if _explains(contact, facts[:count], one)),
        None,
    )


def troubled(troubles: Iterable[history.Trouble]) -> list[str]:
    """A reader met an error that no server's being away explains."""
    return [
        f"{one.reader} at {one.at:.1f}: {one.code}"
        for one in troubles
        if one.code
        and not one.code.startswith(AWAY)
        and one.code not in AWAY_HTTP
        and one.reader not in TELLERS
    ]


def failed(steps: Iterable[history.Step]) -> list[str]:
    """An operator's command that found a difference, or failed though no server was away."""
    return [f"{one.name}: exit {one.code}: {one.note}" for one in steps if one.code not in (0, 69)]


def check(lines: Iterable[history.Line], state: State, timers: str) -> dict[str, list[str]]:
    """Every kind of violation with what was found of it."""
    of: dict[type[object], list[object]] = defaultdict(list)
    for line in lines:
        of[type(line)].append(line)
    told = [one for one in of[history.Told] if isinstance(one, history.Told)]
    reads = [one for one in of[history.Read] if isinstance(one, history.Read)]
    stands = [one for one in of[history.Stand] if isinstance(one, history.Stand)]
    steps = [one for one in of[history.Step] if isinstance(one, history.Step)]
    troubles = [one for one in of[history.Trouble] if isinstance(one, history.Trouble)]
    return {
        "acknowledged event lost": lost(told, state),
        "event that nobody told": invented(told, state),
        "bad event accepted": taken(told),
        "fact doubled, lost or altered": doubled(state),
        "row differs from the oracle": differing(state),
        "command lost": commands_lost(reads, state, timers),
        "command without reason": commands_without_reason(state),
        "T, epoch or offset ran back": ran_back(stands),
        "value shown past its time": past_its_time(reads),
        "view of mixed versions": mixed(reads),
        "row that never was, or went back": never_true(reads, state),
        "reader met an error": troubled(troubles),
        "operator's command failed": failed(steps),
    }


def histories(state: State) -> dict[str, list[model.Fact]]:
    return model.histories(fact for _, _, fact in state.log)


def _explains(contact: str, facts: Sequence[model.Fact], one: history.Read) -> bool:
    """Whether the row read is that of these facts: at its instant, or at one before the read had ended.

    A fold may commit between the beginning of a statement, which is its instant, and its snapshot.
    """
    if _row(contact, facts, one.at) == one.row:
        return True
    standing = model.histories(facts).get(contact, [])
    began = model.EPOCH + one.at * model.MILLISECOND
    later = [at for end in model.dropped_out(standing, began, RULE) if (at := _ms(end)) <= one.ended * 1000]
    return any(_row(contact, facts, at) == one.row for at in later)


def _row(contact: str, facts: Sequence[model.Fact], at: int) -> model.Row | None:
    standing = model.histories(facts).get(contact, [])
    return model.row(contact, standing, model.EPOCH + at * model.MILLISECOND, RULE)


def _key(fact: model.Fact) -> Key:
    return fact.subject, fact.source, fact.id


def _ms(at: datetime) -> int:
    return (at - model.EPOCH) // model.MILLISECOND


def _words(row: model.Row | None) -> str:
    if row is None:
        return "no row"
    return (
        f"(frequency {row.frequency}, volume {row.volume}, {row.volume_last_30}, last {row.date_last_click})"
    )
