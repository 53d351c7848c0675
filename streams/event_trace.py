"""Where an event is: by which door it came, where it stands on the log, and what became of it.

Promises: every fact, parked record and copy of the id that is found, of every source, as stations in order of
time; what was searched is said, and what is not kept (events refused by HTTP) too. Never what an event says.
Facts are found by an index, whatever their number; topics are read only around the time of the event and
behind the readers' positions, at most `MOST_RECORDS` and `SECONDS` in all, and an answer that was cut short
says so. Without Kafka it answers what PostgreSQL knows.
Limits: parked records whose id could not be read are not found by it; a door keeps 14 days.
Called by: `heed trace`, the API.
"""

from __future__ import annotations

import dataclasses
import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from psycopg import rows

from projections import database
from schemas import envelope, settings, topics
from streams import event_search

SECONDS: Final = 5.0
MOST: Final = 100  # facts and parked records of one id
BEFORE: Final = timedelta(minutes=1)
AFTER: Final = timedelta(minutes=2)
LATELY: Final = timedelta(minutes=10)  # where nothing tells the time of the event

# Purpose: the facts of an id. `id` has a Bloom filter for each megabyte of the table, which costs an insert
# nothing that can be measured; a tree over 20 million ids took 1.2 GB and 10 µs an insert.
FACTS: Final = """
select subject, source, type, time, digest, accepted, part, off from fact
where id = %(id)s and (%(source)s::text is null or source = %(source)s) limit %(most)s
"""
REGISTERED: Final = """
select subject, source, type, time, digest, accepted, 0 as part, off from registry
where id = %(id)s and (%(source)s::text is null or source = %(source)s) limit %(most)s
"""
PARKED: Final = """
select reason, detail, type, source, topic, part, off, parked_at from parked
where event_id = %(id)s and (%(source)s::text is null or source is null or source = %(source)s)
order by id limit %(most)s
"""
POSITIONS: Final = """
select topic, part, next_offset from position where reader = 'fold'
union all select topic, part, next_offset from heed_ops.position
"""

# In the order in which they follow each other.
STATIONS: Final = ("door", "http", "log", "waiting", "parked", "folded", "duplicate", "conflict")
_NO_TIME: Final = datetime.max.replace(tzinfo=UTC)
_FIRST: Final = datetime(1971, 1, 1, tzinfo=UTC)  # Kafka knows no time before 1970
_is_uuid7: Final = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE
).fullmatch


@dataclasses.dataclass(frozen=True, slots=True)
class Station:
    """One place or fate of an event: `station` is one of `STATIONS`."""

    station: str
    says: str
    at: datetime | None = None
    topic: str | None = None
    partition: int | None = None
    offset: int | None = None
    source: str | None = None
    subject: str | None = None
    type: str | None = None
    reason: str | None = None
    traceparent: str | None = None


@dataclasses.dataclass(slots=True)
class Trace:
    """What is known of an id; `searched` says which parts of which topics were read."""

    id: str
    stations: list[Station]
    searched: list[str]

    @property
    def found(self) -> bool:
        return bool(self.stations)

    @property
    def says(self) -> str:
        if not self.stations:
            return (
                "Nothing is known of this id. It was never sent; or refused by HTTP (its sender was told "
                "why; it is counted in heed_refused_total and not kept); or it lies where was not searched: "
                "give the time at which it was sent."
            )
        return f"It is {', '.join(sorted({one.station for one in self.stations} - {'door', 'http', 'log'}))}."

    def as_dict(self) -> dict[str, Any]:
        stations = [
            {**dataclasses.asdict(one), "at": one.at and envelope.format_time(one.at.astimezone(UTC))}
            for one in self.stations
        ]
        told = {"id": self.id, "found": self.found, "says": self.says}
        return {**told, "stations": stations, "searched": self.searched}


def find(chosen: settings.Settings, id: str, source: str | None = None, at: datetime | None = None) -> Trace:
    """Everything that is known of an event id; blocks for some seconds at most; raises `errors.Away`."""
    asked = {"id": id, "source": source, "most": MOST}
    with database.connect(chosen.postgres, database.LIVE_PATH, "heed trace") as connection:
        connection.execute("set enable_seqscan = off")
        ask = connection.cursor(row_factory=rows.dict_row)
        facts = [{**row, "topic": topics.FACTS} for row in ask.execute(FACTS, asked).fetchall()]
        facts += [{**row, "topic": topics.REGISTRY} for row in ask.execute(REGISTERED, asked).fetchall()]
        parked = ask.execute(PARKED, asked).fetchall()
        positions = {(r["topic"], r["part"]): r["next_offset"] for r in ask.execute(POSITIONS).fetchall()}
    told: list[datetime | None] = [at, told_by(id)]
    told += [*(fact["accepted"] for fact in facts), *(one["parked_at"] for one in parked)]
    now = datetime.now(UTC)
    instants = [min(max(when, _FIRST), now) for when in told if when is not None]
    around = [(when - BEFORE, when + AFTER) for when in instants] or [(now - LATELY, now)]
    wanted = event_search.Wanted(
        id, source, tuple((fact["topic"], fact["part"], fact["off"]) for fact in facts), tuple(around)
    )
    seen = event_search.look(chosen, wanted, positions, SECONDS)
    return Trace(id, stations(facts, parked, seen.records, positions), seen.searched)


def told_by(id: str) -> datetime | None:
    """The time that a UUIDv7 carries, where it is one that a clock could have shown."""
    if _is_uuid7(id) is None:
        return None
    milliseconds = int(id[:8] + id[9:13], 16)
    return datetime.fromtimestamp(milliseconds / 1000, UTC) if milliseconds < 4_102_444_800_000 else None


def stations(
    facts: list[dict[str, Any]],
    parked: list[dict[str, Any]],
    seen: list[event_search.Seen],
    positions: dict[tuple[str, int], int],
) -> list[Station]:
    """What was found, as stations in order of time; pure."""
    found: list[Station] = []
    held = {(fact["topic"], fact["part"], fact["off"]): fact for fact in facts}
    places = {(one["topic"], one["part"], one["off"]) for one in parked}
    by_place = {one.place: one for one in seen}
    for place, fact in held.items():
        found += _of_fact(fact, by_place.get(place))
    found += [_of_parked(one) for one in parked]
    known = {(one.topic, one.partition, one.offset) for one in found}
    for one in seen:
        if one.place in held or (one.place in known and one.place not in places):
            continue
        found += _of_copy(one, facts, positions, parked=one.place in places)
    return sorted(
        set(found), key=lambda one: (one.at or _NO_TIME, STATIONS.index(one.station), one.offset or 0)
    )


def _of_fact(fact: dict[str, Any], record: event_search.Seen | None) -> list[Station]:
    named = {name: fact[name] for name in ("source", "subject", "type")}
    told = record.headers if record is not None else {}
    traced: Any = {**named, "traceparent": told.get("traceparent")}
    found = []
    if record is not None and "door" in told:
        found.append(_came(fact, told, traced))
    where: Any = {"topic": fact["topic"], "partition": fact["part"], "offset": fact["off"]}
    at = record.at if record is not None else fact["accepted"]
    says = "stands on the log" if record is not None else "stood on the log when it was folded; not read now"
    found.append(Station("log", says, at, **where, **traced))
    says = "is the fact that holds, once for ever; rows are counted by it where its type counts"
    return [*found, Station("folded", says, at, **where, **traced)]


def _came(fact: dict[str, Any], told: dict[str, str], traced: Any) -> Station:
    if "partition" in told and "offset" in told:
        part, off = int(told["partition"]), int(told["offset"])
        return Station("door", "came by this door", fact["accepted"], told.get("door"), part, off, **traced)
    return Station("http", "was accepted by HTTP", fact["accepted"], **traced)


def _of_parked(one: dict[str, Any]) -> Station:
    return Station(
        "parked", f"is parked ({one['reason']}): {one['detail']}", one["parked_at"], one["topic"],
        one["part"], one["off"], one["source"], None, one["type"], one["reason"],
    )  # fmt: skip


def _of_copy(
    one: event_search.Seen,
    facts: list[dict[str, Any]],
    positions: dict[tuple[str, int], int],
    *,
    parked: bool,
) -> list[Station]:
    """A record with this id that is no fact's own: at a door, waiting, or a copy on the log."""
    topic, part, offset = one.place
    named: Any = {
        "at": one.at, "topic": topic, "partition": part, "offset": offset, "source": one.source,
        "subject": one.subject, "type": one.type, "traceparent": one.headers.get("traceparent"),
    }  # fmt: skip
    at_door = topic in topics.DOORS
    place = Station(
        "door" if at_door else "log", f"stands {'at this door' if at_door else 'on the log'}", **named
    )
    if parked:
        return [place]
    if offset >= positions.get((topic, part), 0):
        reader = "intake has not read it yet" if at_door else "the fold has not read it yet"
        return [place, Station("waiting", f"waits: {reader}", **named)]
    if at_door:
        return [place]
    same = [f for f in facts if (f["source"], f["subject"]) == (one.source, one.subject)]
    if not same:
        return [place]
    if any((f["time"], f["digest"].hex) == (one.time, one.digest) for f in same):
        return [place, Station("duplicate", "is a copy of the fact that holds; it changes nothing", **named)]
    says = "says something else than the fact that holds, which has the smaller (time, digest)"
    return [place, Station("conflict", says, **named)]
