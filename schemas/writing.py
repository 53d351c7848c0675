"""What admission puts on the log: the record of a fact, and of each link that an identification makes.

Promises: equal arguments give equal bytes; a time stands in canonical form, whatever it was told in.
Limits: what is personal is not among `data` (`admission.sealed`).
Called by admission.
"""

from datetime import datetime

import msgspec

from schemas import codec, envelope, events, identified, identifiers, identity, links


class Link(msgspec.Struct, frozen=True, gc=False):
    """A link that an identification makes: a record of the registry, keyed by the identifier's subject."""

    subject: str
    value: bytes


def links_of(
    kind: events.EventType, data: bytes, id: str, source: str, subject: str, text: str, time: datetime,
    at: datetime, actor: str | None, secret: bytes,
) -> tuple[Link, ...]:  # fmt: skip
    """One link for each identifier that an identification tells of; raises codec.Unreadable."""
    if kind.name != "contact.identified":
        return ()
    content = kind.decode(data)
    assert isinstance(content, identified.Identified)
    linked = events.EVENTS["identifier.linked"]
    found = []
    for named, primary in identifiers.told_of(content, secret).items():
        told = links.Link(id=id, source=source)
        link = codec.canonical(identified.IdentifierLinked(subject[len(identity.CONTACT) :], told, primary))
        digest = codec.digest(linked.name, link, secret)
        name = identified.link_id(source, id)
        found.append(
            Link(named, written(linked, link, digest, name, source, named, text, time, at, actor, ""))
        )
    return tuple(found)


def written(
    kind: events.EventType, data: bytes, digest: str, id: str, source: str, subject: str,
    text: str, time: datetime, at: datetime, actor: str | None, members: str,
) -> bytes:  # fmt: skip
    """The record of the log."""
    if not envelope.is_canonical(text):
        text = envelope.format_time(time)
    return envelope.write_fact(
        envelope.Written(
            id, source, kind.name, subject, text, kind.dataschema, msgspec.Raw(data), digest,
            envelope.format_time(at), actor, members or None,
        )
    )  # fmt: skip
