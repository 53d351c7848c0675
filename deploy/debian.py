"""Programs out of Debian's packages, unpacked into the cache: nothing of the system is changed.

Promises: apt fetches them and checks their signatures; a folder holds them whole or is not there; two that
fetch at once do no harm. Limits: needs apt; elsewhere the caller's sentence says what to install by hand.
Called by `deploy.watch` and by the tests.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from deploy import processes
from deploy.jars import Say
from schemas import errors

APT_SECONDS: Final = 300


def unpacked(
    package: str,
    programs: Sequence[str],
    folder: Path,
    say: Say,
    instead: str,
    *,
    libraries: bool = False,
    beside: Sequence[str] = (),
) -> Path:
    """`folder`, with the package's `programs` (paths in it), fetched where they are not there. Blocks.

    `libraries`: with those that it needs and this system has not; `beside`: with these packages, too. Raises
    errors.Away, with `instead` to do.
    """
    if all((folder / one).is_file() for one in programs):
        return folder
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise errors.Away(f"{package} is not installed, and there is no apt to fetch it with: {instead}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{package}-") as name:
        place = Path(name)
        say(f"fetching Debian's package {package} (20 to 100 MB; only once)")
        wanted = ["download", package, *beside]
        if isinstance(_apt(wanted, place), errors.Away):
            _apt(["update"], place)  # without root, or with fresh lists, it changes nothing
            trouble = _apt(wanted, place)
            if isinstance(trouble, errors.Away):
                raise errors.Away(f"{package} cannot be fetched ({trouble}): {instead}")
        if libraries and (missing := _libraries(package, place)):
            _apt(["download", *missing], place)  # what is then missing, the program itself will say
        for one in place.glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", one, place / "all"], check=True, timeout=APT_SECONDS)
        try:
            (place / "all").rename(folder)
        except OSError:  # somebody else was faster, or an older one is not whole
            if not all((folder / one).is_file() for one in programs):
                shutil.rmtree(folder)
                (place / "all").rename(folder)
    return folder


def _libraries(package: str, place: Path) -> list[str]:
    """The packages of libraries that installing this one would bring along."""
    told = _apt(["install", "-s", "--no-install-recommends", package], place)
    return [] if isinstance(told, errors.Away) else re.findall(r"(?m)^Inst (lib\S+)", told)


def _apt(arguments: Sequence[str], place: Path) -> str | errors.Away:
    """Runs apt-get; what it says when it went well, else its last word."""
    try:
        done = subprocess.run(
            ["apt-get", "-q", *arguments],
            cwd=place,
            capture_output=True,
            text=True,
            timeout=APT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return errors.Away("apt-get takes too long")
    if done.returncode == 0:
        return done.stdout
    return errors.Away(processes.telling_line(done.stderr) or f"apt-get ended with {done.returncode}")
