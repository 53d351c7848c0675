"""One contender in a process of its own: `python -m tests.bench.contender SPEC`, SPEC being JSON.

Promises: one JSON line on stdout, then the end; anything that goes wrong is an exit code and a trace on
stderr.
Limits: `kind` is ours, stock, handwritten or decode; the rest of SPEC is theirs.
Called by `tests.bench.__main__`.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from tests.bench import meter


def main(spec: dict[str, Any]) -> None:
    """Run what `spec` asks for."""
    counted = meter.Meter(spec["count"], *spec["pids"], warm=spec["warm"])
    if spec["kind"] == "ours":
        from tests.bench import ours

        ours.run(spec, counted)
    elif spec["kind"] == "stock":
        from tests.bench import stock

        stock.run(spec, counted)
    elif spec["kind"] == "handwritten":
        from tests.bench import handwritten

        handwritten.run(spec, counted)
    else:
        from tests.bench import decode

        decode.run(spec, counted)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
