"""Whose an identifier is, and whose a set of them, as the specification says it (IDN-1, IDN-3).

Promises: depends on the set of what was told alone. An identifier is linked to every contact that it was told
of, but for what was taken back. Of a contact's primary addresses the latest by (time, id) of what told it is
the primary one. Whose an identifier is: the roots of those whose primary one it is, else of all that it is
linked to, the smallest. A set is that of its first member which is a contact's.

Limits: follows every subject anew.

Called by `oracle.model`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from tests.oracle import instants, links

LINKED, UNLINKED = "identifier.linked", "identifier.unlinked"
TYPES = frozenset({LINKED, UNLINKED})
REGISTERED = links.TYPES | TYPES  # what stands in the registry, and not among the facts


class Link(NamedTuple):
    subject: str
    told: tuple[str, str]  # source and id of the event that told of it, or that is taken back
    time: int
    to: str | None
    primary: bool


def roots(
    envelopes: Iterable[Mapping[str, Any]],
    contact_root: Callable[[str], str],
    upto: int | None = None,
    gone: frozenset[str] = frozenset(),
) -> Callable[[str], str]:
    """Whose each subject is; `contact_root` says it of contacts and sessions, `gone` are the erased."""
    members: dict[str, list[str]] = {}
    standing: dict[tuple[str, str, str], tuple[int, str, Link]] = {}
    for one in envelopes:
        if one["subject"].startswith("set:"):
            members[one["subject"]] = one["members"].split(",")
        if one["type"] in TYPES:
            name = (one["subject"], one["source"], one["id"])
            time, digest = instants.instant(one["time"]), one["digest"]
            if name not in standing or (time, digest) < standing[name][:2]:
                standing[name] = (time, digest, _read(one, time))
    known = [link for time, _, link in standing.values() if upto is None or time <= upto]
    undone = {(link.subject, link.told) for link in known if link.to is None}
    held = [
        link
        for link in known
        if link.to is not None and link.to not in gone and (link.subject, link.told) not in undone
    ]

    primary: dict[str, str] = {}
    order = sorted(held, key=lambda link: link.subject, reverse=True)
    for link in sorted(order, key=lambda link: (link.time, link.told[1], link.told[0])):
        if link.primary:
            assert link.to is not None
            primary[link.to] = link.subject

    def root(subject: str) -> str:
        if subject in members:
            found = [root(one) for one in members[subject]]
            return next((one for one in found if one.startswith("contact:")), subject)
        if subject.startswith(("email:", "phone:", "custom:")):
            mine = [link for link in held if link.subject == subject]
            first = [
                contact_root(link.to or "")
                for link in mine
                if primary.get(link.to or "") == subject
                and any(one.primary for one in mine if one.to == link.to)
            ]
            return min(first or [contact_root(link.to or "") for link in mine], default=subject)
        return contact_root(subject)

    return root


def _read(envelope: Mapping[str, Any], time: int) -> Link:
    data = envelope["data"]
    told = data["told"] if envelope["type"] == LINKED else data["link"]
    to = f"contact:{data['contact_id']}" if envelope["type"] == LINKED else None
    return Link(envelope["subject"], (told["source"], told["id"]), time, to, data.get("primary") is True)
