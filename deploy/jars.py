"""Kafka's jars: exactly the files of `kafka.lock`, each checked by its SHA-256.

The lock names every jar by its Maven coordinate, so nothing is resolved at a start: what is missing is
fetched by jgo's resolver, what is damaged is fetched again. A file gets its place in the folder only when it
is whole and right, by a rename: a download that breaks off leaves nothing that could be taken for a jar, and
two stacks may fill one folder at the same time.

Limits: about 45 MB from a Maven repository at the first start; later ones read (and check) the folder alone.
Another repository than Maven Central is set in jgo's own config file. Called by `deploy.kafka`; maintainers
write the lock anew with `python -m deploy.jars`.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from schemas import errors

if TYPE_CHECKING:  # jgo takes a tenth of a second, and every command of `heed` would wait for it
    from jgo.maven import MavenContext, PythonResolver

ENDPOINT = "org.apache.kafka:kafka_2.13:4.3.1+org.slf4j:slf4j-simple:1.7.36"
VERSION = "4.3.1"
LOCK = Path(__file__).with_name("kafka.lock")

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Jar:
    """One line of the lock: what a jar is called in a Maven repository, and what must be in it."""

    coordinate: str
    sha256: str

    @property
    def filename(self) -> str:
        _, artifact, version = self.coordinate.split(":")
        return f"{artifact}-{version}.jar"


def locked(lock: Path = LOCK) -> tuple[Jar, ...]:
    """The jars of the lock file."""
    lines = (line.split() for line in lock.read_text().splitlines() if line and not line.startswith("#"))
    return tuple(Jar(coordinate, sha256) for coordinate, sha256 in lines)


def ensure(
    folder: Path, say: Say, lock: Path = LOCK, remotes: Mapping[str, str] | None = None
) -> tuple[Path, ...]:
    """Makes the folder hold every jar of the lock and gives their paths; raises errors.Away.

    `remotes` names the Maven repositories by their URLs; without it, jgo's own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    jars = locked(lock)
    missing = [jar for jar in jars if not _is_right(folder / jar.filename, jar)]
    if missing:
        say(_what_is_fetched(missing, folder, len(jars)))
        _fetch(missing, folder, say, remotes)
    return tuple(folder / jar.filename for jar in jars)


def _is_right(path: Path, jar: Jar) -> bool:
    return path.is_file() and _sha256(path) == jar.sha256


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _what_is_fetched(missing: list[Jar], folder: Path, total: int) -> str:
    damaged = sum((folder / jar.filename).exists() for jar in missing)
    mend = f", {damaged} of them damaged" if damaged else ""
    return f"Kafka {VERSION}: fetching {len(missing)} of {total} jars{mend}"


def _fetch(missing: list[Jar], folder: Path, say: Say, remotes: Mapping[str, str] | None) -> None:
    from jgo.maven import PythonResolver

    began, size = time.monotonic(), 0
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=folder) as scratch:
        context = _maven(Path(scratch), PythonResolver(progress_callback=_progress(say)), remotes)
        for jar in missing:
            fetched = _download(context, jar)
            size += fetched.stat().st_size
            fetched.replace(folder / jar.filename)
    say(f"Kafka {VERSION}: {size / 1e6:.1f} MB in {time.monotonic() - began:.1f} s")


def _download(context: MavenContext, jar: Jar) -> Path:
    """Fetches one jar, a second and third time if the line breaks or other bytes come."""
    group, artifact, version = jar.coordinate.split(":")
    wanted = context.project(group, artifact).at_version(version).artifact()
    trouble = ""
    for _ in range(3):
        try:
            fetched: Path = wanted.resolve()
            if not jar.sha256 or _sha256(fetched) == jar.sha256:
                return fetched
            trouble = "its SHA-256 is not the lock's"
        except (RuntimeError, OSError) as error:  # what requests raises is an OSError
            trouble = type(error).__name__
        if wanted.cached_path:
            wanted.cached_path.unlink(missing_ok=True)
    raise errors.Away(
        f"{jar.filename} cannot be fetched ({trouble}): Kafka's jars come from a Maven repository at the "
        "first start; connect to the network, or name a mirror in jgo's config file, and run it again."
    )


def _maven(cache: Path, resolver: PythonResolver, remotes: Mapping[str, str] | None = None) -> MavenContext:
    from jgo.config import GlobalSettings
    from jgo.constants import MAVEN_CENTRAL_URL
    from jgo.maven import MavenContext

    if remotes is None:
        remotes = {"central": MAVEN_CENTRAL_URL} | GlobalSettings.load().repositories
    return MavenContext(resolver=resolver, repo_cache=cache, remote_repos=dict(remotes), timeout=60)


def _progress(say: Say) -> Callable[[str, int], AbstractContextManager[Callable[[int], None]]]:
    @contextmanager
    def report(filename: str, size: int) -> Iterator[Callable[[int], None]]:
        say(f"  {filename}  {size / 1e6:.2f} MB")
        yield lambda _: None

    return report


def write_lock(lock: Path = LOCK) -> int:
    """Resolves Kafka anew and writes the lock; for maintainers, when Kafka's version changes."""
    import jgo
    from jgo.maven import PythonResolver

    lines = [f"# Kafka {VERSION} and what it needs, by Maven coordinate and SHA-256 (python -m deploy.jars)"]
    with tempfile.TemporaryDirectory() as scratch:
        context = _maven(Path(scratch), PythonResolver())
        for artifact in sorted(jgo.resolve(ENDPOINT), key=lambda each: (each.groupId, each.artifactId)):
            if artifact.classifier or artifact.packaging != "jar":
                raise errors.Usage(f"{artifact}: the lock knows plain jars only")
            coordinate = f"{artifact.groupId}:{artifact.artifactId}:{artifact.version}"
            lines.append(f"{coordinate} {_sha256(_download(context, Jar(coordinate, '')))}")
    lock.write_text("\n".join(lines) + "\n")
    return len(lines) - 1


if __name__ == "__main__":
    print(f"{write_lock()} jars in {LOCK.name}", file=sys.stderr)
