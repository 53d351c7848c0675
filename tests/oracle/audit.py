"""Rows against the log, and the log against the doors: every difference, in words.

Promises: a difference is reported only if no instant and no order of commits can explain it; what is on its
way (facts not folded yet, nudges waiting, door records not taken in yet) is counted, not judged.

Called by `oracle.__main__` and by the fault tests.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from tests.oracle import doors, instants, keys, links, model
from tests.oracle.broker import Record
from tests.oracle.database import Shown, Snapshot, Stored

HASHED = re.compile(r"(email|phone|custom|set):[0-9a-f]{64}")


@dataclass(slots=True)
class Log:
    """The facts behind a snapshot's rows, and what was found wrong with the log itself."""

    facts: list[model.Fact] = field(default_factory=list)
    links: list[links.Link] = field(default_factory=list)
    homes: dict[str, int] = field(default_factory=dict)
    doors: dict[tuple[str, int, int], model.Fact] = field(default_factory=dict)
    ahead: int = 0
    wrong: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Report:
    contacts: int = 0
    skipped: int = 0
    rows: list[str] = field(default_factory=list)
    differing: int = 0


def read_log(
    records: Iterable[Record], positions: Mapping[tuple[str, int], int], held: keys.Keys | None = None
) -> Log:
    """The log up to the folded offsets, links of the registry included; each envelope's key and home are
    proved on the way, and with `held` its sealed part and its digest.
    """
    log = Log()
    for record in records:
        place = f"{record.topic}/{record.partition}/{record.offset}"
        try:
            envelope = orjson.loads(record.value)
            if record.topic == "registry" and envelope["type"] not in links.TYPES:
                continue
            fact = model.read(envelope)
            link = links.read(envelope) if fact.type in links.TYPES else None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            log.wrong.append(f"{place}: no envelope ({type(error).__name__})")
            continue
        door = _door(record)
        if door is not None:
            log.doors[door] = fact
        if record.offset >= positions.get((record.topic, record.partition), 0):
            log.ahead += 1
            continue
        if link is None:
            log.facts.append(fact)
        else:
            log.links.append(link)
        if held is not None and (fault := held.fault(envelope)):
            log.wrong.append(f"{place}: {fault}")
        if record.key != fact.subject.encode():
            log.wrong.append(f"{place}: the record's key is not the subject")
        if not fact.subject.startswith((model.CONTACT, "session:")) and not HASHED.fullmatch(fact.subject):
            log.wrong.append(f"{place}: the subject is neither a contact nor a session")
        if link is None and log.homes.setdefault(fact.subject, record.partition) != record.partition:
            log.wrong.append(f"{place}: another partition than the subject's other facts")
    return log


def compare(snapshot: Snapshot, log: Log) -> Report:
    """Each contact with facts or a row: as the view shows it, and as it stands in the table."""
    histories = model.histories(log.facts, links.roots(log.links))
    contacts = histories.keys() | snapshot.stored.keys() | snapshot.shown.keys()
    report = Report(skipped=len(contacts & snapshot.nudged))
    calculated = max((row.date_calculated for row in snapshot.shown.values()), default=snapshot.at)
    for contact in sorted(contacts - snapshot.nudged):
        report.contacts += 1
        history = histories.get(contact, [])
        found = [
            *_view_differs(history, contact, snapshot.shown.get(contact), snapshot, calculated),
            *_table_differs(history, contact, snapshot.stored.get(contact), snapshot),
        ]
        stored = snapshot.stored.get(contact)
        home = log.homes.get(f"{model.CONTACT}{contact}")
        if stored is not None and home is not None and stored.home != home:
            found.append(f"{contact}: home is {stored.home}, its facts lie in {home} (table)")
        report.rows += found
        report.differing += bool(found)
    return report


def _view_differs(
    history: list[model.Fact], contact: str, shown: Shown | None, snapshot: Snapshot, calculated: datetime
) -> Iterator[str]:
    if shown is None:
        wanted = model.row(contact, history, calculated, snapshot.rule)
        if wanted is not None and model.row(contact, history, snapshot.at, snapshot.rule) is not None:
            yield f"{contact}: missing, should be {_words(wanted)} (view)"
        return
    at, when = shown.date_calculated, _say(shown.date_calculated)
    wanted = model.row(contact, history, at, snapshot.rule)
    if wanted is None:
        yield f"{contact}: is there, should not be (view at {when})"
        return
    for name, value, right in _columns(shown.row, wanted):
        yield f"{contact}: {name} is {_say(value)}, should be {_say(right)} (view at {when})"
    days = model.recency(wanted, at)
    if shown.recency != days:
        yield f"{contact}: recency is {shown.recency}, should be {days} (view at {when})"


def _table_differs(
    history: list[model.Fact], contact: str, stored: Stored | None, snapshot: Snapshot
) -> Iterator[str]:
    """A stored row has to hold now, unless it is overdue, and at the last millisecond it claims."""
    if stored is None:
        wanted = model.row(contact, history, snapshot.at, snapshot.rule)
        if wanted is not None:
            yield f"{contact}: missing, should be {_words(wanted)} (table)"
        return
    instants = [] if stored.valid_until and stored.valid_until <= snapshot.at else [snapshot.at]
    if stored.valid_until is not None:
        instants.append(stored.valid_until - model.MILLISECOND)
    for at in instants:
        wanted = model.row(contact, history, at, snapshot.rule)
        if wanted is None:
            yield f"{contact}: is there, should not be at {_say(at)} (table)"
            return
        differing = [
            f"{contact}: {name} is {_say(value)}, should be {_say(right)} at {_say(at)} (table)"
            for name, value, right in _columns(stored.row, wanted)
        ]
        if differing:
            yield from differing
            return


def account(
    records: Iterable[Record], snapshot: Snapshot, log: Log, ahead: timedelta
) -> tuple[int, int, list[str]]:
    """(records judged, records not taken in yet, what is wrong): each door record is in the log or parked."""
    judged, waiting, wrong = 0, 0, []
    for record in records:
        if record.offset >= snapshot.positions.get((record.topic, record.partition), 0):
            waiting += 1
            continue
        judged += 1
        place = (record.topic, record.partition, record.offset)
        name = "/".join(map(str, place))
        reason = snapshot.parked.get(place)
        fact = log.doors.get(place)
        appended = datetime.fromtimestamp(record.appended_ms / 1000, UTC)
        verdict = doors.judge(record.value, record.topic, appended, ahead)
        if fact is None and reason is None:
            wrong.append(f"{name}: neither in the log nor parked")
        elif verdict is doors.Verdict.GOOD and fact is None:
            wrong.append(f"{name}: a good event is parked as {reason}")
        elif verdict is doors.Verdict.BAD and fact is not None:
            wrong.append(f"{name}: stands in the log, which it never may")
        elif (
            verdict is doors.Verdict.GOOD and fact is not None and not _told(orjson.loads(record.value), fact)
        ):
            wrong.append(f"{name}: the log tells something else of it")
    return judged, waiting, wrong


def _told(event: dict[str, Any], fact: model.Fact) -> bool:
    """Whether the fact is what the event at the door said, as far as rows depend on it."""
    data = event.get("data") or {}
    return (
        (event["subject"], event["source"], event["id"], event["type"])
        == (fact.subject, fact.source, fact.id, fact.type)
        and instants.instant(event["time"]) == fact.time
        and (data.get("mailing_id"), data.get("test") is True) == (fact.mailing, fact.test)
    )


def _door(record: Record) -> tuple[str, int, int] | None:
    if not {"door", "partition", "offset"} <= record.headers.keys():
        return None
    headers = record.headers
    return headers["door"].decode(), int(headers["partition"]), int(headers["offset"])


def _columns(found: model.Row, wanted: model.Row) -> Iterator[tuple[str, object, object]]:
    for column in fields(model.Row):
        value, right = getattr(found, column.name), getattr(wanted, column.name)
        if value != right:
            yield column.name, value, right


def _words(row: model.Row) -> str:
    return f"frequency {row.frequency}, volume {row.volume}, last click {_say(row.date_last_click)}"


def _say(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds")
    return str(value)
