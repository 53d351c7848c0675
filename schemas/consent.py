"""Consent: what a contact allows Heed to keep of what it does (IDN-6).

Of a contact's words on it the latest by (time, id) holds. Of all that belongs to one contact the most
restrictive holds (IDN-5), whoever is deleted: a wish does not end with the row. While it withholds, opens,
clicks and page views, past ones too, are in no row and no timeline; deliveries count. None recorded withholds
nothing.
Limits: what is withheld is hidden, not erased, and returns when consent is given again.
Called by events; the SQL of `projections` says `WITHHOLDING` in its own words, and a test compares them.
"""

from typing import Annotated, Final, Literal

import msgspec

Level = Annotated[
    Literal["refused", "aggregate", "individual"],
    msgspec.Meta(
        description="refused: nothing; aggregate: numbers of many alone; individual: what this contact does."
    ),
]
WITHHOLDING: Final = ("refused", "aggregate")


class ConsentChanged(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A contact gave, narrowed or refused its consent; whoever tells of it is the event's source."""

    level: Level
