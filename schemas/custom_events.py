"""What happens on a site: pages viewed.

A page view is history of whoever it is told of (EVT-15). Fields stand in alphabetical order, the canonical
one.
Called by events.
"""

from typing import Annotated

import msgspec

PageUrl = Annotated[
    str, msgspec.Meta(min_length=1, max_length=2048, description="The page that was looked at.")
]
Title = Annotated[str, msgspec.Meta(min_length=1, max_length=512, description="The title of the page.")]
Referrer = Annotated[str, msgspec.Meta(min_length=1, max_length=2048, description="The page that led to it.")]


class PageViewed(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """A page was looked at."""

    referrer: Referrer | None = None
    title: Title | None = None
    url: PageUrl
