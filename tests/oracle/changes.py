"""The audit log, as the specification says it: who changed what, and what held before and after.

Promises: depends on the set of what was told alone. Each change is told with what held of its subject by all
facts that lie before it in the order of (time, id), and by these and itself.

Limits: the types of the registry that there are; every state is worked out anew, fact by fact.

Called by the law tests.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from tests.oracle import links
from tests.oracle.instants import instant

Envelope = Mapping[str, Any]


class Change(NamedTuple):
    """A line of the log; times are milliseconds since 1970."""

    time: int
    actor: str
    type: str
    about: str
    before: str | None
    after: str | None
    source: str
    id: str


def log(envelopes: Iterable[Envelope]) -> list[Change]:
    """The changes that name their actor, the newest first."""
    standing: dict[tuple[str, str, str], Envelope] = {}
    for one in envelopes:
        name = (one["subject"], one["source"], one["id"])
        if name not in standing or _rank(one) < _rank(standing[name]):
            standing[name] = one
    about: dict[str, list[Envelope]] = {}
    for one in sorted(standing.values(), key=_place):
        about.setdefault(one["subject"], []).append(one)
    found = [
        _change(history[:number], one)
        for history in about.values()
        for number, one in enumerate(history)
        if one.get("actor")
    ]
    return sorted(found, key=lambda one: (one.time, one.id, one.source, one.about), reverse=True)


def _change(before: Sequence[Envelope], one: Envelope) -> Change:
    held = _held(before), _held([*before, one])
    if one["type"] == "parked.discarded":
        held = one["data"]["reason"], None
    return Change(
        instant(one["time"]), one["actor"], one["type"], one["subject"], *held, one["source"], one["id"]
    )


def _held(told: Sequence[Envelope]) -> str | None:
    """What holds of one subject by what was told of it, in order."""
    value: str | None = None
    ended = any(one["type"] == "key.revoked" for one in told)
    undone = {
        (one["data"]["link"]["source"], one["data"]["link"]["id"]) for one in told if "link" in one["data"]
    }
    for one in told:
        data = one["data"]
        match one["type"]:
            case "setting.changed":
                value = data["value"]
            case "key.created":
                value = None if ended else f"{data['name']} ({data['scopes']})"
            case links.MERGED | links.LINKED if (one["source"], one["id"]) not in undone:
                value = f"contact:{data.get('into') or data['contact_id']}"
    return value


def _rank(one: Envelope) -> tuple[int, str, bool, str]:
    actor = one.get("actor") or ""
    return instant(one["time"]), one["digest"], not actor, actor


def _place(one: Envelope) -> tuple[int, str, str]:
    return instant(one["time"]), one["id"], one["source"]
