"""Everything that is held about one contact, with what is sealed opened: the right of access.

Promises: row, links, facts of the contact and of all that belongs to it, waiting nudges, and parked records
that name one of them, of one instant (a REPEATABLE READ snapshot). A personal field is either there, or the
fact says `erased`: its key was destroyed. A key that is merely missing is an error that says so, and so is a
sealed part that cannot be opened: never taken for erased.
Limits: holds the whole answer; parked records are looked for by the subject as it stands in JSON, among the
newest `PARKED`; a batch that could not be read is left out, since others' events are in it. Blocks.
Called by: `heed export`, and `GET /v1/contacts/{id}/export` in a thread; `api.holds` opens facts by it too.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec
import psycopg
from psycopg import rows

from projections import data_keys
from schemas import codec, errors, identity, sealing
from streams import installation, plain

PARKED: Final = 10_000

# Purpose: the contact that this one belongs to now; itself, if it belongs to none.
ROOT: Final = "select coalesce((select root from member where subject = %(subject)s), %(subject)s) as root"
# Purpose: the contact and all that belongs to it.
SUBJECTS: Final = (
    "select %(root)s as subject union select s from subjects_of(substr(%(root)s, 9), 'infinity') s"
)
ERASED: Final = "select from erased where subject = %(subject)s"
ROW: Final = "select * from heed_read.contact_engagement where contact_id = %(contact)s"
LINKS: Final = """
select subject, type, source, id, time, accepted, actor, data from registry
where subject = any(%(subjects)s) or target = any(%(subjects)s) order by time, id, source
"""
FACTS: Final = """
select subject, source, id, type, time, version, accepted, actor, data, sealed, kid from fact
where subject = any(%(subjects)s) order by time, id, source
"""
NUDGES: Final = """
select subject, reason, created_at, error from nudge where subject = any(%(subjects)s) order by id
"""
# Purpose: parked records that name one of the subjects, among the newest.
NAMED: Final = """
select id, reason, type, source, event_id, topic, part as partition, off as "offset", parked_at, bytes
from (select * from parked where not batch order by id desc limit %(newest)s) p
where exists (select from unnest(%(subjects)s::text[]) s
    where position(convert_to('"' || s || '"', 'UTF8') in bytes) > 0)
order by id
"""


class Erased(errors.Usage):
    """This contact is erased: nothing is held about it any more."""


class NotOpened(errors.Doubt):
    """What is held about this contact cannot be opened as a whole."""


def export(connection: psycopg.Connection, contact: str, master: sealing.MasterKey) -> dict[str, Any]:
    """What is held about a contact, ready for JSON; raises `Erased`, `NotOpened`, `sealing.Unopened`,
    `errors.Away`.

    The connection has search_path = heed_data, heed_ops and is in autocommit.
    """
    with connection.transaction(), connection.cursor(row_factory=rows.dict_row) as ask:
        ask.execute("set transaction isolation level repeatable read, read only")
        named: dict[str, Any] = {"subject": f"{identity.CONTACT}{contact}", "newest": PARKED}
        if _all(ask, ERASED, named):
            raise Erased
        named["root"] = _all(ask, ROOT, named)[0]["root"]
        named["contact"] = identity.contact_id(named["root"])
        named["subjects"] = [one["subject"] for one in _all(ask, SUBJECTS, named)]
        facts = _all(ask, FACTS, named)
        told = {
            "contact_id": contact,
            "merged_into": named["contact"] if named["contact"] != contact else None,
            "subjects": sorted(named["subjects"]),
            "row": next(iter(_all(ask, ROW, named)), None),
            "links": _all(ask, LINKS, named),
            "nudges": _all(ask, NUDGES, named),
            "parked": [_parked(one) for one in _all(ask, NAMED, named)],
        }
        kept = data_keys.of_kids(connection, {one["kid"] for one in facts if one["kid"] is not None})
    told["facts"] = _opened(facts, kept, master)
    answer: dict[str, Any] = plain.told(told)
    return answer


def _all(
    ask: psycopg.Cursor[dict[str, Any]], statement: str, named: Mapping[str, Any]
) -> list[dict[str, Any]]:
    return ask.execute(statement.encode(), named).fetchall()


def _parked(row: dict[str, Any]) -> dict[str, Any]:
    """A parked record; its bytes as text where they are UTF-8, else in base64."""
    raw = bytes(row.pop("bytes"))
    try:
        return row | {"text": raw.decode()}
    except UnicodeDecodeError:
        return row | {"base64": base64.b64encode(raw).decode()}


def keys_of(kept: Mapping[str, sealing.KeyRecord], master: sealing.MasterKey) -> dict[str, sealing.DataKey]:
    """Those of these keys that are not destroyed, by kid. Raises `sealing.Unopened`, `errors.Away`."""
    return {
        kid: sealing.DataKey(kid, installation.opened(one, master))
        for kid, one in kept.items()
        if one.wrapped is not None
    }


def whole(
    fact: Mapping[str, Any], kept: Mapping[str, sealing.KeyRecord], keys: Mapping[str, sealing.DataKey]
) -> bytes | None:
    """The data of a row of `fact` with what is sealed of it; None where its key was destroyed.

    Raises `NotOpened` for a key that is missing, and for a sealed part that was changed.
    """
    data, kid = fact["data"].encode(), fact["kid"]
    if kid is None:
        return bytes(data)
    if kid not in kept:
        raise NotOpened(
            "A key that a fact of this contact names is missing from heed_ops.data_key, so what is sealed "
            "with it cannot be told. It was not erased: let the topic keys be read to its end, or restore it."
        )
    if kid not in keys:
        return None
    try:
        return codec.joined(data, keys[kid].open(fact["source"], fact["id"], fact["sealed"]))
    except sealing.Tampered as error:
        raise NotOpened(
            f"The sealed part of fact {fact['id']} of {fact['source']} cannot be opened with its key: it was "
            "changed. `heed replay` reads it from the log again."
        ) from error


def _opened(
    facts: Iterable[dict[str, Any]], kept: Mapping[str, sealing.KeyRecord], master: sealing.MasterKey
) -> list[dict[str, Any]]:
    """The facts with their personal fields, or marked as erased where their key is destroyed."""
    keys = keys_of(kept, master)
    return [_fact(one, whole(one, kept, keys)) for one in facts]


def _fact(fact: dict[str, Any], whole: bytes | None) -> dict[str, Any]:
    told = {name: value for name, value in fact.items() if name not in ("sealed", "kid", "data")}
    if whole is None:
        return told | {"data": msgspec.json.decode(fact["data"]), "erased": True}
    return told | {"data": msgspec.json.decode(whole)}
