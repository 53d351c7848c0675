"""The swap: another pair takes the live one's place, in one transaction.

Promises: names change, nothing else: no reader waits or is stopped. From the lock on `position` to the commit
no fold and no claim writes (each takes that lock first), and no nudge is appended, so what the incoming pair
is brought to is exactly what it takes over: offsets, epochs, owners, nudges, what is due. A statement that
waited for the lock finds the new pair by name. Folding stays shut until sessions that stand idle inside a
transaction have heard of the names: until then both pairs say the same, so no statement sees a mix. A swap
that does not get its locks in 2 s gives way and tries again; one whose client stands still is ended by the
server after 5 s.
Limits: pairs of one revision; the caller holds the lock of replays.
Called by: `heed replay`, `heed replay --back`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Final

import psycopg

from projections import database, engagement, halving, nudges, pairs, positions
from projections.migrations import apply, sql
from schemas import errors, topics

Offsets = dict[positions.TP, int]
LOG: Final = [topics.FACTS, topics.REGISTRY]
NAME: Final = "heed replay swap"
TRIES: Final = 60
PAUSE: Final = (0.2, 2.0)  # seconds between tries: first and longest
STEP: Final = 5000
ASIDE: Final = sql.Pair("heed_data_leaving", "heed_read_leaving")

# Purpose: a session whose client was killed ends within a second, also inside a statement.
ENDS: Final = "set client_connection_check_interval = '1s'"
LIMITS: Final = """
select set_config(name, value, true) from (values ('lock_timeout', '2s'), ('statement_timeout', '30s'),
    ('idle_in_transaction_session_timeout', '5s')) as v(name, value)
"""
# `exclusive` lets everybody read on, and nobody else past: also those who read `position` for update.
LOCK_POSITIONS: Final = "lock table heed_data.position in exclusive mode"
# What others than the owners of homes write into: nudges, and who is to be computed anew.
LOCK_ASKED: Final = """
lock table heed_data.nudge, heed_data.recalculation, heed_data.recalculation_cause in exclusive mode
"""
SHUT: Final = "lock table position in exclusive mode"

UP_TO: Final = """
select topic, part, next_offset from heed_data.position
where reader = 'fold' and topic = any(%s) order by topic, part
"""
# Purpose: an instant that no row of either pair was brought past. The incoming pair's are brought to the
# clock: what ran out since live was last brought it holds no more, and no command has told of it yet.
INSTANT: Final = """
select greatest(max(l.as_of), max(p.as_of), date_trunc('milliseconds', clock_timestamp())),
    array_agg(distinct l.part)
from heed_data.position l left join position p using (reader, topic, part) where reader = 'fold'
"""

# Purpose: a pair that was folded up to here takes the positions of live over, whole: it stands exactly there.
TAKE_POSITIONS: Final = """
insert into position select * from heed_data.position
on conflict (reader, topic, part) do update set epoch = excluded.epoch, next_offset = excluded.next_offset,
    last_record = excluded.last_record, as_of = excluded.as_of, read_at = excluded.read_at,
    log_end = excluded.log_end, log_end_at = excluded.log_end_at, backend = excluded.backend,
    owner = excluded.owner, claimed_at = excluded.claimed_at
"""
NOT_LIVE: Final = """
delete from position p where not exists (select from heed_data.position l
    where (l.reader, l.topic, l.part) = (p.reader, p.topic, p.part))
"""
ELSEWHERE: Final = """
select count(*) from heed_data.position l left join position p using (reader, topic, part)
where topic = any(%s) and p.next_offset is distinct from l.next_offset
"""
OWN_ERRORS: Final = """
delete from nudge n where n.error is not null and exists (
    select from heed_data.nudge l where l.subject = n.subject and l.error is not null)
"""
TAKE_NUDGES: Final = """
insert into nudge overriding system value select * from heed_data.nudge on conflict (id) do nothing
"""
NUMBER_ON: Final = """
select setval(pg_get_serial_sequence('nudge', 'id'), greatest(own.last_value, live.last_value))
from nudge_id_seq own, heed_data.nudge_id_seq live
"""
# Purpose: who is to be computed anew stays so.
TAKE_QUEUE: Final = """
insert into recalculation select * from heed_data.recalculation on conflict (home, contact_id) do nothing
"""
# Purpose: so does the reason why. Of one that both pairs have the later holds: a pair that comes back knows
# nothing of what was asked for since.
TAKE_CAUSES: Final = """
insert into recalculation_cause as c select * from heed_data.recalculation_cause
on conflict (reason) do update set since = excluded.since, settled = null, after = '', queued = 0,
    finished = false
where excluded.since > c.since and not excluded.finished
"""

# Purpose: rows past their time that live has brought already: its commands told of them.
TOLD: Final = """
with s as materialized (
    select contact_id, home, valid_until from engagement where home = any(%(homes)s) and valid_until <= %(at)s
)
select s.contact_id, s.home from s left join heed_data.engagement l using (contact_id)
where s.contact_id > %(after)s and (l.contact_id is null or l.valid_until > s.valid_until)
order by s.contact_id limit %(most)s
"""
# Purpose: rows past their time that live has not brought yet: they stay due, so that a command tells of them.
UNTOLD: Final = """
insert into engagement as e ({columns})
select {live} from heed_data.engagement l left join engagement s using (contact_id)
where l.home = any(%(homes)s) and l.valid_until <= %(at)s
    and (s.contact_id is null or s.valid_until > l.valid_until)
on conflict (contact_id) do update set {updates}
"""
# Purpose: news of so many columns that PostgreSQL wakes who has not listened for long, to listen.
NEWS: Final = "create temp table heed_news ({})".format(", ".join(f"c{n} int" for n in range(1600)))
NO_NEWS: Final = "drop table heed_news"
ROUNDS: Final = 3


class Behind(Exception):
    """The incoming pair could not be brought to where live stands: not now."""


@dataclasses.dataclass(slots=True)
class Swapped:
    """What a swap did: how long nothing was folded, in how many tries, and what was carried over."""

    pause_seconds: float
    tries: int
    nudges: int = 0


def swap(
    dsn: str,
    incoming: sql.Pair,
    catch_up: Callable[[Offsets], None],
    *,
    asked: Callable[[], None] = lambda: None,
) -> Swapped:
    """Put `incoming` in the live pair's place; the live one becomes the old one.

    `catch_up` brings the incoming pair to exactly the offsets given, and may raise `Behind`. `asked` is
    called before each try, and may raise what ends it. Raises errors.Usage, errors.Away.
    """
    with (
        database.connect(dsn, "heed_ops", NAME, statement_seconds=0) as live,
        database.connect(dsn, f"{incoming.data}, heed_ops", NAME, statement_seconds=30) as other,
    ):
        for connection in (live, other):
            connection.execute(ENDS)
        for tries in range(1, TRIES + 1):
            asked()
            try:
                done = _try(live, other, incoming, catch_up)
            except (psycopg.errors.LockNotAvailable, Behind):
                time.sleep(min(PAUSE[1], PAUSE[0] * tries))
            else:
                done.tries = tries
                return done
    raise errors.Away(f"In {TRIES} tries the tables could not be locked: something holds them all the time.")


def _try(
    live: psycopg.Connection,
    other: psycopg.Connection,
    incoming: sql.Pair,
    catch_up: Callable[[Offsets], None],
) -> Swapped:
    with contextlib.ExitStack() as shut:
        with live.transaction():
            live.execute(LIMITS)
            live.execute("select pg_advisory_xact_lock(%s)", (apply.LOCK,))
            check_revision(live, incoming)
            began = time.monotonic()
            live.execute(LOCK_POSITIONS)
            live.execute(LOCK_ASKED)
            catch_up(read_up_to(live))
            carried = _take_over(other)
            # The incoming pair's own positions stay shut until everybody has heard.
            shut.enter_context(other.transaction())
            other.execute(SHUT)
            _exchange(live, incoming)
        _spread(live)
    return Swapped(time.monotonic() - began, 1, carried)


def check_revision(connection: psycopg.Connection, incoming: sql.Pair) -> None:
    """Raises errors.Usage unless the pair is there and of the revision that the database is migrated to."""
    found = pairs.find(connection, incoming)
    now = pairs.find(connection, pairs.LIVE)
    revision = now.revision if now else "none"
    if found is None:
        raise errors.Usage(f"There is no pair {incoming.data} to put in place.")
    if found.revision != revision:
        raise errors.Usage(
            f"{incoming.data} is of revision {found.revision or 'none'}, the live tables of {revision}: it "
            "cannot take their place. Replay anew (`heed replay --drop-old` or `--cancel` first)."
        )


def read_up_to(connection: psycopg.Connection) -> Offsets:
    """How far live has folded each partition of the log."""
    return {(topic, part): at for topic, part, at in connection.execute(UP_TO, (LOG,)).fetchall()}


def carry_due(other: psycopg.Connection) -> int:
    """Make due in the incoming pair what is due in live, and nothing else; answers how many rows changed.

    In steps, each a transaction. Contacts that cannot be computed get a nudge with their error.
    """
    [(at, homes)] = other.execute(INSTANT).fetchall()
    asked = {"at": at, "homes": homes, "after": "", "most": STEP}
    number = 0
    while found := other.execute(TOLD, asked).fetchall():
        number += len(found)
        asked["after"] = found[-1][0]
        _bring(other, found, at)
    columns = ", ".join(engagement.COLUMNS)
    named = {
        "columns": columns,
        "live": ", ".join(f"l.{name}" for name in engagement.COLUMNS),
        "updates": ", ".join(f"{name} = excluded.{name}" for name in engagement.COLUMNS[1:]),
    }
    return number + other.execute(UNTOLD.format(**named).encode(), asked).rowcount


def _bring(other: psycopg.Connection, asked: list[tuple[str, int]], at: datetime) -> None:
    with other.transaction():
        brought = halving.halve(other, asked, lambda some: engagement.bring(other, some, at), slow=True)
        for (contact, home), error in brought.failed:
            nudges.keep_error(other, home, f"contact:{contact}", halving.told(error), 0, at)


def _take_over(other: psycopg.Connection) -> int:
    """Positions, nudges, who waits and what is due, while live stands still; answers how many nudges."""
    carry_due(other)
    with other.transaction():
        [(apart,)] = other.execute(ELSEWHERE, (LOG,)).fetchall()
        if apart:
            raise Behind
        other.execute(NOT_LIVE)
        other.execute(TAKE_POSITIONS)
        other.execute(OWN_ERRORS)
        carried = other.execute(TAKE_NUDGES).rowcount
        other.execute(NUMBER_ON)
        other.execute(TAKE_QUEUE)
        other.execute(TAKE_CAUSES)
    return carried


def _exchange(live: psycopg.Connection, incoming: sql.Pair) -> None:
    pairs.mark(live, pairs.LIVE, live=False)
    pairs.mark(live, incoming, live=True)
    live.execute(f"drop table if exists {incoming.data}.replay".encode())
    pairs.rename(live, pairs.LIVE, ASIDE)
    pairs.rename(live, incoming, pairs.LIVE)
    pairs.rename(live, ASIDE, pairs.OLD)


def _spread(live: psycopg.Connection) -> None:
    """Have sessions hear of the new names that stand idle inside a transaction.

    PostgreSQL tells a session of them when it next locks something it has not locked yet; until then it
    finds what it has read before under the old names. One that is very far behind with such news is woken.
    """
    for _ in range(ROUNDS):
        live.execute(NEWS)
        live.execute(NO_NEWS)


def sizes(connection: psycopg.Connection) -> Iterator[tuple[str, int]]:
    """The pairs that are there, with their size in bytes."""
    for names in (pairs.LIVE, pairs.NEXT, pairs.OLD):
        found = pairs.find(connection, names)
        if found is not None:
            yield names.data, found.size
