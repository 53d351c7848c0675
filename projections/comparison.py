"""Two sides at one instant, column by column: live as its snapshot was, and the shadow that was replayed.

Promises: every column of every projection that does not say where a record lay (LAW-2): rows, who belongs to
whom, facts of the log and of the registry.
Limits: facts are compared by what was read from the log up to the snapshot's offsets.
Called by: `heed replay --check`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import psycopg

from projections import engagement, positions, registry, shadow
from schemas import topics

ROWS_DIFFER: Final = """
select coalesce(l.contact_id, s.contact_id), to_jsonb(l) - 'carried', to_jsonb(s)
from live_rows l full join {shadow}.engagement s using (contact_id)
where row({live_columns}) is distinct from row({shadow_columns})
order by 1
"""

MEMBERS_DIFFER: Final = """
select subject, to_jsonb(l), to_jsonb(s)
from live_members l full join {shadow}.member s using (subject)
where row(l.root, l.home) is distinct from row(s.root, s.home)
order by 1
"""
REGISTERED_DIFFER: Final = """
select coalesce(l.subject, s.subject), to_jsonb(l), to_jsonb(s)
from (select * from heed_data.registry where off < %(registered)s) l
full join {shadow}.registry s using (subject, key)
where row(l.source, l.id, l.type, l.time, l.version, l.digest, l.actor, l.target, l.undoes, l.data)
    is distinct from row(s.source, s.id, s.type, s.time, s.version, s.digest, s.actor, s.target, s.undoes,
        s.data)
order by 1
"""

# Purpose: facts that stand on one side only or say something else, among those read up to the offsets.
FACTS_DIFFER: Final = """
with read_to as (select * from unnest(%(parts)s::int[], %(offsets)s::bigint[]) as u(part, next_offset))
select coalesce(l.subject, s.subject), to_jsonb(l), to_jsonb(s)
from (select f.* from heed_data.fact f
    where not exists (select from heed_data.erased e where e.subject = f.subject)) l
full join {shadow}.fact s using (subject, key)
left join read_to r on r.part = l.part
where (l.subject is null or l.off < r.next_offset)
    and row(l.source, l.id, l.type, l.time, l.version, l.digest, l.test, l.mailing, l.data)
        is distinct from row(s.source, s.id, s.type, s.time, s.version, s.digest, s.test, s.mailing, s.data)
order by 1
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Difference:
    """A row or fact that is not the same on both sides: its columns as (live, replayed)."""

    table: str
    name: str
    columns: dict[str, tuple[Any, Any]]

    def __str__(self) -> str:
        if "row" in self.columns:
            _, replayed = self.columns["row"]
            return f"{self.table} {self.name}: {'only live' if replayed is None else 'only in the replay'}"
        told = ", ".join(f"{c}: live {a}, replayed {b}" for c, (a, b) in self.columns.items())
        return f"{self.table} {self.name}: {told}"


def compare(live: shadow.Live, told: Callable[[Difference], None]) -> tuple[int, int, int]:
    """Tell every difference; answers rows and facts compared, and how many differ."""
    differing = 0
    for table, statement, values in _questions(live.offsets):
        for name, left, right in live.connection.execute(statement.encode(), values):
            differing += 1
            told(Difference(table, name, _columns(left, right)))
    rows = _count(live.connection, "select count(*) from (select contact_id from live_rows union "
                                   f"select contact_id from {shadow.PAIR.data}.engagement) u")  # fmt: skip
    return rows, _count(live.connection, f"select count(*) from {shadow.PAIR.data}.fact"), differing


def _questions(offsets: Mapping[positions.TP, int]) -> Iterator[tuple[str, str, dict[str, Any] | None]]:
    """What is asked of each table: its name, the statement, its values."""
    columns = {side: ", ".join(f"{side}.{name}" for name in engagement.COLUMNS) for side in ("l", "s")}
    facts = {part: offset for (topic, part), offset in offsets.items() if topic == topics.FACTS}
    name = shadow.PAIR.data
    yield (
        "engagement",
        ROWS_DIFFER.format(shadow=name, live_columns=columns["l"], shadow_columns=columns["s"]),
        None,
    )
    yield "member", MEMBERS_DIFFER.format(shadow=name), None
    yield "registry", REGISTERED_DIFFER.format(shadow=name), {"registered": offsets.get(registry.TP, 0)}
    parts = {"parts": list(facts), "offsets": list(facts.values())}
    yield "fact", FACTS_DIFFER.format(shadow=name), parts


def _count(connection: psycopg.Connection, statement: str) -> int:
    row = connection.execute(statement.encode()).fetchone()
    return int(row[0]) if row else 0


def _columns(left: dict[str, Any] | None, right: dict[str, Any] | None) -> dict[str, tuple[Any, Any]]:
    if left is None or right is None:
        return {"row": (left, right)}
    ignored = {"part", "off", "accepted"}
    return {c: (left[c], right.get(c)) for c in left if c not in ignored and left[c] != right.get(c)}
