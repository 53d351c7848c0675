"""What `heed replay` answers, for people and as JSON, whichever way it was asked.

Promises: a replay or a return that finds contacts which cannot be computed, and a check that finds
differences, are not clean.
Called by: `streams.cli`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from schemas import settings
from streams import replay, replay_old, replay_swap


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """An answer: as a JSON document, as a sentence, and whether all is well."""

    told: dict[str, Any]
    sentence: str
    clean: bool = True


def run(
    chosen: settings.Settings, *, check: bool, cancel: bool, back: bool, drop_old: bool, quiet: bool
) -> Answer:
    """One of the four, or a replay; raises what they raise."""
    if check:
        found = replay.check(chosen, quiet=quiet)
        return Answer(found.as_dict(), found.sentence(), found.clean)
    if cancel:
        freed = replay_old.cancel(chosen)
        return Answer({"freed_bytes": freed}, f"Nothing of a replay is left ({freed / 1e6:.1f} MB freed).")
    if drop_old:
        freed = replay_old.drop_old(chosen)
        return Answer({"freed_bytes": freed}, f"The old tables are gone ({freed / 1e6:.1f} MB freed).")
    if back:
        returned = replay_old.back(chosen, quiet=quiet)
        return Answer(returned.as_dict(), returned.sentence(), not returned.errors)
    done = replay_swap.run(chosen, quiet=quiet)
    return Answer(done.as_dict(), done.sentence(), not done.errors)
