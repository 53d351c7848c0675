"""What the doctor asks PostgreSQL: is it there, are the tables this version's, which settings hold, who owns
which home, what waits, what is parked, what time is it there, how full is its disk.

Promises: as `streams.doctor`; reads only.
Limits: the disk of a server on this machine, or of `HEED_HOME`, where the local stack has it.
Called by: `streams.doctors`.
"""

from __future__ import annotations

import platform
import shutil
from pathlib import Path
from typing import Any, Final

import psycopg

from projections import registry
from projections.migrations import sql
from schemas import errors, metrics, settings, topics
from streams import doctor, doctor_kafka

SECONDS: Final = 4
LAST: Final = 10_000  # records at the doors of which not more than a hundredth should be parked
SILENT: Final = 10

REVISION: Final = "select version_num from heed_ops.schema_version"
# Purpose: who owns how many partitions, by topic, and for how long they have said nothing.
OWNERS: Final = """
select topic, part, owner, epoch, extract(epoch from clock_timestamp() - as_of)::float8
from (select * from heed_data.position union all select * from heed_ops.position) p order by topic, part
"""
# Purpose: what is parked, by reason, and how much of the last records at each door.
PARKED: Final = "select reason, count(*) from heed_ops.parked group by reason order by 2 desc, 1"
RECENT: Final = """
select coalesce(sum(least(next_offset, %(each)s)), 0)::bigint, coalesce(sum((
    select count(*) from heed_ops.parked k
    where k.topic = p.topic and k.part = p.part and k.off >= p.next_offset - %(each)s)), 0)::bigint
from heed_ops.position p where p.reader = 'intake'
"""
IN_ERROR: Final = """
select count(distinct subject) filter (where error is not null), count(*) filter (where error is null
    and created_at < clock_timestamp() - interval '1 minute') from heed_data.nudge
"""
OUTBOX: Final = (
    "select count(*) from heed_ops.outbox where created_at < clock_timestamp() - interval '2 minutes'"
)
VERSIONS: Final = """
select distinct application_name from pg_stat_activity
where datname = current_database() and application_name ~ ' (intake|fold-[0-9]+|registry|keys) '
"""


def connect(patient: doctor.Patient) -> psycopg.Connection:
    """A connection that waits for nothing longer than a look may take; raises `errors.Away`."""
    try:
        return psycopg.connect(
            patient.chosen.postgres,
            autocommit=True,
            application_name="heed doctor",
            connect_timeout=SECONDS,
            options=f"-c timezone=UTC -c statement_timeout={SECONDS}s -c search_path=heed_data,heed_ops",
        )
    except psycopg.OperationalError as error:
        raise errors.Away(
            "PostgreSQL cannot be reached: is it running, is HEED_POSTGRES right, may this role log in?"
        ) from error


def database(patient: doctor.Patient) -> list[doctor.Finding]:
    """Whether it answers, may be written, and is recent enough."""
    with connect(patient) as asked:
        number = asked.info.server_version
        only_reads = doctor.first(
            asked.execute("select pg_is_in_recovery() or current_setting('transaction_read_only')::bool")
            .fetchall()
        )  # fmt: skip
    if number < 150_000:
        return [doctor.wrong("database", f"PostgreSQL {number // 10_000}", "Upgrade it to 15 or later.")]
    if only_reads:
        do = "HEED_POSTGRES leads to a standby: name the primary, or promote this one."
        return [doctor.wrong("database", "this PostgreSQL only reads", do)]
    return doctor.ok("database", f"PostgreSQL {number // 10_000}.{number % 10_000}")


def tables(patient: doctor.Patient) -> list[doctor.Finding]:
    """Whether the tables are those of this version of Heed."""
    ours = sql.revisions()
    with connect(patient) as asked:
        found = [row[0] for row in asked.execute(REVISION).fetchall()]
    if not found or found[0] < ours[-1]:
        says = f"the tables are of revision {found[0] if found else 'none'}, this Heed needs {ours[-1]}"
        return [doctor.wrong("tables", says, "Run `heed migrate`; workers may go on meanwhile.")]
    if found[0] > ours[-1]:
        says = f"the tables are of revision {found[0]}, newer than this Heed's {ours[-1]}"
        return [doctor.wrong("tables", says, "This Heed is old: install the version of the others.")]
    return doctor.ok("tables", f"revision {found[0]}")


def settings_in_force(patient: doctor.Patient) -> list[doctor.Finding]:
    """Settings that people change while Heed runs: what holds, against what this environment says."""
    with connect(patient) as asked:
        held = {name: settings.parse(name, value) for name, value in registry.values(asked).items()}
    missing = [name for name in settings.CHANGING if name not in held]
    if missing:
        do = "The worker that has the registry writes the first values: see `homes` and `lag`."
        return [doctor.wrong("settings", f"the registry has no value yet of {', '.join(missing)}", do)]
    return compare(patient, held)


def compare(patient: doctor.Patient, held: dict[str, Any]) -> list[doctor.Finding]:
    """One finding for each setting that this environment gives another value than the one that holds."""
    found = [
        doctor.wrong(
            "settings",
            f"{name} is {value} in force, and {getattr(patient.chosen, name)} in this environment",
            "The one in force holds. Take the variable out, or set it to the same value.",
        )
        for name, value in held.items()
        if name in patient.stated and getattr(patient.chosen, name) != value
    ]
    told = ", ".join(f"{name} {value}" for name, value in held.items())
    return found or doctor.ok("settings", f"in force: {told}")


def owners(patient: doctor.Patient) -> list[doctor.Finding]:
    """Whether every home and door has an owner that lives."""
    with connect(patient) as asked:
        rows = asked.execute(OWNERS).fetchall()
    return judge_owners(rows, patient.chosen.homes)


def judge_owners(rows: list[tuple[Any, ...]], homes: int) -> list[doctor.Finding]:
    """From (topic, part, owner, epoch, seconds of silence) what to say of the owners; pure."""
    start = "Start workers (`heed worker`), or see in their last lines why they stopped."
    if not rows:
        return [doctor.wrong("homes", "no worker has ever run on this database", start)]
    here = [row for row in rows if row[0] == topics.FACTS]
    found = []
    if len(here) < homes:
        says = f"{homes - len(here)} of {homes} homes were never owned"
        found.append(doctor.wrong("homes", says, start))
    silent: dict[str, list[str]] = {}
    longest: dict[str, float] = {}
    for topic, part, owner, _, age in rows:
        if age > SILENT:
            silent.setdefault(owner, []).append(f"{topic} {part}")
            longest[owner] = max(age, longest.get(owner, 0.0))
    for owner, owned in sorted(silent.items()):
        says = f"{owner} has said nothing for {longest[owner]:.0f} s; it owns {_some(owned)}"
        found.append(doctor.wrong("homes", says, f"Is it running, or suspended? {start}"))
    by_owner: dict[str, list[str]] = {}
    for _, part, owner, epoch, _ in here:
        by_owner.setdefault(owner, []).append(f"{part} (epoch {epoch})")
    told = "; ".join(f"{owner}: {', '.join(owned)}" for owner, owned in sorted(by_owner.items()))
    return found or doctor.ok("homes", told)


def parked(patient: doctor.Patient) -> list[doctor.Finding]:
    """What is parked, by reason; more than a hundredth of the last records at the doors is wrong."""
    with connect(patient) as asked:
        counts = asked.execute(PARKED).fetchall()
        doors = len(topics.DOORS) * patient.chosen.homes
        ((read, recent),) = asked.execute(RECENT, {"each": max(1, LAST // doors)}).fetchall()
    told = ", ".join(f"{reason} {number:,}" for reason, number in counts) or "nothing"
    if read >= LAST / 100 and recent > read / 100:
        says = f"{recent} of the last {read:,} records at the doors; in all: {told}"
        do = "A sender has changed: `heed parked list` says what is wrong with its events."
        return [doctor.wrong("parked", says, do)]
    return doctor.ok("parked", told)


def waiting(patient: doctor.Patient) -> list[doctor.Finding]:
    """Contacts in error, nudges nobody takes, commands nobody publishes."""
    with connect(patient) as asked:
        ((in_error, untaken),) = asked.execute(IN_ERROR).fetchall()
        unsent = doctor.first(asked.execute(OUTBOX).fetchall())
    found = []
    if in_error:
        do = "`error` in heed_data.nudge says why; each is tried again by itself."
        found.append(doctor.wrong("contacts", f"{in_error:,} cannot be brought", do))
    if untaken:
        do = "The owners of their homes stand still or have too much to do: see `homes` and `lag`."
        found.append(doctor.wrong("contacts", f"{untaken:,} nudges have waited for over a minute", do))
    if unsent:
        do = "The relay cannot publish, or the topic commands is not read: see `append` and `lag`."
        found.append(doctor.wrong("contacts", f"{unsent:,} commands have waited for over two minutes", do))
    return found or doctor.ok("contacts", "none in error, none waiting")


def clock(patient: doctor.Patient) -> list[doctor.Finding]:
    """PostgreSQL's clock against this machine's."""
    with connect(patient) as asked:
        began = patient.clock()
        theirs = doctor.first(asked.execute("select clock_timestamp()").fetchall())
        return [doctor_kafka.clock("clock of PostgreSQL", theirs, began, patient.clock())]


def disk(patient: doctor.Patient) -> list[doctor.Finding]:
    """The disk of the database, where it lies on this machine, and what the database takes of it."""
    with connect(patient) as asked:
        size = doctor.first(asked.execute("select pg_database_size(current_database())").fetchall())
        try:
            folder = Path(doctor.first(asked.execute("show data_directory").fetchall()))
        except psycopg.errors.InsufficientPrivilege:
            folder = patient.chosen.home
        local = asked.info.hostaddr in ("127.0.0.1", "::1", "") and folder.is_dir()
    if not local:
        says = f"not to be known from here; the database takes {size / 1e9:,.1f} GB"
        return doctor.ok("disk of PostgreSQL", says)
    usage = shutil.disk_usage(folder)
    return [doctor_kafka.disk("disk of PostgreSQL", usage.total, usage.free)]


def versions(patient: doctor.Patient) -> list[doctor.Finding]:
    """The version of Heed here, and of each worker that is connected."""
    with connect(patient) as asked:
        names = [row[0] for row in asked.execute(VERSIONS).fetchall()]
    workers = sorted({(name.split(" ")[0], name.rpartition(" ")[2]) for name in names})
    mine = metrics.version()
    told = ", ".join(f"{worker} {version}" for worker, version in workers) or "none connected"
    says = f"Heed {mine}, Python {platform.python_version()}; workers: {told}"
    if any(version != mine for _, version in workers):
        do = "Finish the upgrade: start the others again with one version."
        return [doctor.wrong("versions", says, do)]
    return doctor.ok("versions", says)


def _some(names: list[str], most: int = 4) -> str:
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")
