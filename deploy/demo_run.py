"""The demo as a process of its own, so that the supervisor goes on watching while it plays.

Takes what it plays as one JSON argument and the stack from HEED_HOME; SIGTERM ends it between two batches,
and the next run goes on there. Started by `deploy.local` (`python -m deploy.demo_run`).
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path

from deploy import demo
from deploy.home import Home
from schemas import errors


def main() -> int:
    home = Home(Path(os.environ["HEED_HOME"]))
    asked = {name: value for name, value in json.loads(sys.argv[1]).items() if value is not None}
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    try:
        demo.play(home.stack() or {}, home.path, demo.Options(**asked), stop=stop)
    except errors.HeedError as error:
        print(f"The demo stopped: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
