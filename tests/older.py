"""A worker of an older Heed, which does not know some event types yet: `python -m tests.older mail.clicked`.

Promises: everything but the table of event types is this Heed's; the environment is that of `heed worker`.
Called by the tests of upgrades.
"""

from __future__ import annotations

import sys

from schemas import events


def forget(*names: str) -> None:
    """From here on these types are planned, and not built; before anything else is imported."""
    for name in names:
        known = events.EVENTS[name]
        events.EVENTS[name] = events.EventType(name, known.door, known.topic)


if __name__ == "__main__":
    forget(*sys.argv[1].split(","))
    sys.argv[1:] = ["worker"]
    from streams import cli

    cli.main()
