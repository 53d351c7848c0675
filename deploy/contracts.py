"""The contracts as files: a JSON Schema of every event type, and AsyncAPI 3 of every topic.

`python -m deploy.contracts` writes docs/schemas/<type>.<version>.json and docs/asyncapi.json; with `--check`
it writes nothing and exits 1 when a file is not what it would write. Files of older versions are left as
they are: they describe what producers may still send.
Called by hand, and by a test that keeps the files fresh.
"""

import json
import sys
from pathlib import Path

from schemas import asyncapi, contracts, events

DOCS = Path(__file__).parent.parent / "docs"


def files() -> dict[Path, str]:
    """Every file as it must stand."""
    wanted = {
        DOCS / "schemas" / f"{event.name}.{event.version}.json": contracts.file_schema(event)
        for event in events.built()
    }
    wanted[DOCS / "asyncapi.json"] = asyncapi.document()
    return {path: json.dumps(whole, indent=2) + "\n" for path, whole in wanted.items()}


def stale() -> list[Path]:
    """The files that are missing or differ."""
    return [path for path, text in files().items() if not path.exists() or path.read_text() != text]


def main(arguments: list[str]) -> int:
    """Write the files, or with `--check` say which are not fresh."""
    old = stale()
    if "--check" in arguments:
        for path in old:
            sys.stderr.write(f"{path.name} is not fresh: run `python -m deploy.contracts`.\n")
        return 1 if old else 0
    for path in old:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(files()[path])
        sys.stdout.write(f"{path.name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
