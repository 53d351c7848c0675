"""Where an event is, by HTTP: what `heed trace` answers.

Promises: never what an event says; an id of which nothing is known is answered too, in words. At most
`TOGETHER` requests look at a time, each for some seconds; further ones wait their turn.

Route of `api.routes`.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any, Final

from api import problems
from schemas import codec, envelope, settings
from streams import event_trace

TOGETHER: Final = 2
LONGEST: Final = 256
STATION: Final = event_trace.Station


class Tracing:
    """Looks for events; one a process, since it counts those who look."""

    def __init__(self, chosen: settings.Settings) -> None:
        self._chosen = chosen
        self._turns = asyncio.Semaphore(TOGETHER)

    async def find(self, id: str, source: str | None, at: str | None) -> dict[str, Any]:
        """The answer; raises `Problem` for what is no id or no time, `errors.Away`."""
        if not 0 < len(id) <= LONGEST or (source is not None and len(source) > LONGEST):
            raise problems.Problem(problems.WRONG_PARAMETER, "id and source have 1 to 256 characters.")
        if "\0" in id + (source or ""):
            raise problems.Problem(problems.WRONG_PARAMETER, "id and source hold no NUL.")
        when = None if at is None else _time(at)
        async with self._turns:
            found = await asyncio.to_thread(event_trace.find, self._chosen, id, source, when)
        return found.as_dict()


def _time(text: str) -> datetime:
    try:
        return envelope.parse_time(text)
    except codec.Unreadable:
        raise problems.Problem(
            problems.WRONG_PARAMETER, "at is RFC 3339 with a zone, as 2026-01-31T09:00:00.000Z."
        ) from None
