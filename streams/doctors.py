"""Every check of `heed doctor`, in the order in which it answers.

Called by: `heed doctor`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

from streams import doctor, doctor_kafka, doctor_postgres, log

LOOKS_APART: Final = 2.0
POSITIONS: Final = """
select reader, topic, part, next_offset from heed_data.position where reader = 'fold'
union all select reader, topic, part, next_offset from heed_ops.position order by 1, 2, 3
"""
Names = tuple[str, str, int]


def lag(patient: doctor.Patient) -> list[doctor.Finding]:
    """Whether every reader reads on: what stood on the log at one look has been read two seconds later."""
    before, ends = _positions(patient), doctor_kafka.ends(patient)
    time.sleep(LOOKS_APART)
    after = _positions(patient)
    return judge_lag(before, ends, after)


def judge_lag(
    before: Mapping[Names, int], ends: Mapping[tuple[str, int], log.Ends], after: Mapping[Names, int]
) -> list[doctor.Finding]:
    """What to say of positions at two looks and the ends of the log at the first; pure."""
    found = []
    for reader, topic in sorted({name[:2] for name in after}):
        mine = [name for name in after if name[:2] == (reader, topic)]
        gone = [name for name in mine if (end := ends.get(name[1:])) and after[name] < end.first]
        beyond = [name for name in mine if (end := ends.get(name[1:])) and before.get(name, 0) > end.end]
        left = {name: ends[name[1:]].end - after[name] for name in mine if name[1:] in ends}
        left = {name: number for name, number in left.items() if number > 0}
        read = sum(after[name] - before.get(name, 0) for name in mine)
        named = f"{reader} of {topic}"
        if beyond:
            says = f"{named}: {len(beyond)} partitions end before the position"
            found.append(doctor.wrong("lag", says, "Kafka's data was replaced or truncated: see `Replaced`."))
        elif gone and topic not in log.MAY_EXPIRE:
            says = f"{named}: records of {len(gone)} partitions were deleted unread"
            found.append(doctor.wrong("lag", says, f"See `heed topics accept-loss {topic}`."))
        elif left and not read:
            says = f"{named} stands still, {sum(left.values()):,} records to read"
            do = "See `homes`; a door that a sender's open transaction holds up goes on when that ends."
            found.append(doctor.wrong("lag", says, do))
        elif sum(left.values()) > 60 * read / LOOKS_APART:
            says = f"{named} is over a minute behind, {sum(left.values()):,} records to read"
            found.append(doctor.wrong("lag", says, "It reads; start more workers if it does not catch up."))
    return found or doctor.ok("lag", "everything that stood on the topics has been read")


def _positions(patient: doctor.Patient) -> dict[Names, int]:
    with doctor_postgres.connect(patient) as asked:
        return {(reader, topic, part): at for reader, topic, part, at in asked.execute(POSITIONS).fetchall()}


SERVERS: Final = {
    doctor.KAFKA: doctor.Check("broker", doctor_kafka.brokers),
    doctor.POSTGRES: doctor.Check("database", doctor_postgres.database),
}
ALL: Final = (
    doctor.Check("topics", doctor_kafka.topics_as_declared, (doctor.KAFKA,)),
    doctor.Check("append", doctor_kafka.append, (doctor.KAFKA,)),
    doctor.Check("tables", doctor_postgres.tables, (doctor.POSTGRES,)),
    doctor.Check("settings", doctor_postgres.settings_in_force, (doctor.POSTGRES,)),
    doctor.Check("homes", doctor_postgres.owners, (doctor.POSTGRES,)),
    doctor.Check("lag", lag, (doctor.KAFKA, doctor.POSTGRES)),
    doctor.Check("contacts", doctor_postgres.waiting, (doctor.POSTGRES,)),
    doctor.Check("parked", doctor_postgres.parked, (doctor.POSTGRES,)),
    doctor.Check("clock of PostgreSQL", doctor_postgres.clock, (doctor.POSTGRES,)),
    doctor.Check("disk of Kafka", doctor_kafka.disks, (doctor.KAFKA,)),
    doctor.Check("disk of PostgreSQL", doctor_postgres.disk, (doctor.POSTGRES,)),
    doctor.Check("versions", doctor_postgres.versions, (doctor.POSTGRES,)),
)
