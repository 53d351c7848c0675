"""Whose a subject is, as the specification says it: by the links that stand at an instant.

Promises: depends on the set of what was told alone. Of a subject's links those count that nothing told until
then takes back; of these the latest by (time, id). Who follows them comes to an end, or round to where he has
been: then the smallest id of those he passed in between.

Whoever is erased is linked to nobody, and nobody to him, whenever that was told; what was told of him is not
there (`without_erased`).

Limits: merges of contacts and links of sessions; follows every subject anew.

Called by `oracle.model`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from tests.oracle import instants

MERGED, UNMERGED = "contact.merged", "contact.unmerged"
LINKED, UNLINKED = "session.linked", "session.unlinked"
TYPES = frozenset({MERGED, UNMERGED, LINKED, UNLINKED})
ERASED = "contact.erased"


class Link(NamedTuple):
    """What counts of an envelope; one of `to` and `takes_back` is there."""

    subject: str
    source: str
    id: str
    time: int
    digest: str
    to: str | None
    takes_back: tuple[str, str] | None


def read(envelope: Mapping[str, Any]) -> Link:
    """The link, or the undoing of one, that an envelope tells of."""
    data, type_ = envelope["data"], envelope["type"]
    to = data["into"] if type_ == MERGED else data["contact_id"] if type_ == LINKED else None
    named = data["link"] if to is None else None
    return Link(
        subject=envelope["subject"],
        source=envelope["source"],
        id=envelope["id"],
        time=instants.instant(envelope["time"]),
        digest=envelope["digest"],
        to=None if to is None else f"contact:{to}",
        takes_back=None if named is None else (named["source"], named["id"]),
    )


def erased(envelopes: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """Every subject that an erasure covers."""
    return frozenset(
        subject for one in envelopes if one["type"] == ERASED for subject in one["data"]["covers"]
    )


def without_erased(envelopes: Iterable[Mapping[str, Any]]) -> tuple[list[Mapping[str, Any]], frozenset[str]]:
    """What was told of those who are not erased, and who is."""
    told = list(envelopes)
    gone = erased(told)
    return [one for one in told if one["type"] != ERASED and one["subject"] not in gone], gone


def roots(
    links: Iterable[Link], upto: int | None = None, gone: frozenset[str] = frozenset()
) -> Callable[[str], str]:
    """Whose each subject is, by what was told until an instant; `gone` are the erased."""
    held: dict[tuple[str, str, str], Link] = {}
    for link in links:
        name = (link.subject, link.source, link.id)
        if name not in held or (link.time, link.digest) < (held[name].time, held[name].digest):
            held[name] = link
    known = [link for link in held.values() if upto is None or link.time <= upto]
    undone = {(link.subject, *link.takes_back) for link in known if link.takes_back is not None}
    latest: dict[str, Link] = {}
    for link in sorted(known, key=lambda link: (link.time, link.id, link.source)):
        if link.to is not None and link.to not in gone and (link.subject, link.source, link.id) not in undone:
            latest[link.subject] = link

    def root(subject: str) -> str:
        passed = [subject]
        while passed[-1] in latest:
            following = latest[passed[-1]].to
            assert following is not None
            if following in passed:
                return min(passed[passed.index(following) :])
            passed.append(following)
        return passed[-1]

    return root
