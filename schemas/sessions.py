"""Sessions: visits of somebody who need not be known yet (EVT-5).

What is told of a session is kept under `session:<id>`, and is a contact's while it is linked to one
(`schemas.links`), as often as it is created, started and linked.
Called by events.
"""

import msgspec


class Created(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A session came to be. Events may be told of it before, too."""


class Started(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A visit began in the session."""
