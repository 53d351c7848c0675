"""Prometheus over the local stack: finds the program, gives it Heed's configuration, and becomes it.

`python -m deploy.watch` (`make watch`) scrapes whatever runs in HEED_HOME, follows it through restarts, and
judges the alerts of `deploy/prometheus`. Promises: loopback only; data and configuration in
HEED_HOME/prometheus, where the stack keeps `targets.json`; nothing of the system is changed. Where
`prometheus` and `promtool` are not on the PATH, Debian's package is fetched into the cache (`deploy.debian`).

Limits: fetching needs apt; elsewhere a sentence says what to install. The fetched one answers queries (of
Grafana, promtool, curl), but has no pages: Debian's program looks for those in /usr/share. Called by
hand, by `deploy.local` (which says how) and by the tests.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

from deploy import debian, kafka, processes
from deploy.home import Home
from deploy.jars import Say
from schemas import errors
from schemas.settings import Settings

SHIPPED: Final = Path(__file__).with_name("prometheus")
CONFIGURATION: Final = "prometheus.yml"
FILES: Final = (CONFIGURATION, "rules.yml", "alerts.yml")
PORT: Final = 9090
FIRING: Final = 'ALERTS{alertstate="firing"}'
_NAMES: Final = ("prometheus", "promtool")


@dataclass(frozen=True, slots=True)
class Programs:
    """The two programs of Prometheus."""

    prometheus: Path
    promtool: Path


def find(say: Say, cache: Path | None = None) -> Programs:
    """The programs: of the PATH, else of the cache, else fetched into it. Blocks; raises errors.Away."""
    on_path = [shutil.which(name) for name in _NAMES]
    if all(on_path):
        return Programs(*(Path(str(found)) for found in on_path))
    folder = debian.unpacked(
        "prometheus", [f"usr/bin/{name}" for name in _NAMES],
        (cache or kafka.default_cache()) / "prometheus", say,
        "install `prometheus` and `promtool`, 2.42 or later, and put both on the PATH.",
    )  # fmt: skip
    return Programs(*(folder / "usr/bin" / name for name in _NAMES))


def lay_out(home: Home) -> Path:
    """Links Heed's configuration beside the targets of a home (its paths are relative); gives the folder."""
    folder = home.path / "prometheus"
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "targets.json").exists():
        home.write_targets([])
    for name in FILES:
        fresh = folder / f".{name}.new"
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(SHIPPED / name)
        fresh.replace(folder / name)
    return folder


def command(programs: Programs, folder: Path, port: int, configuration: str = CONFIGURATION) -> list[str]:
    """The one command that scrapes what `targets.json` of this folder names."""
    return [
        str(programs.prometheus),
        f"--config.file={folder / configuration}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={processes.LOOPBACK}:{port}",
        "--log.level=warn",
    ]


def told(home: Home) -> str:
    """What to type, in the folder of the project, to have Prometheus over the stack of this home."""
    elsewhere = "" if home.path == Path(".heed").resolve() else f"HEED_HOME={shlex.quote(str(home.path))} "
    return f"{elsewhere}make watch"


def main() -> NoReturn:
    """Become Prometheus."""
    home = Home(Settings.load().home)
    try:
        programs = find(lambda line: print(line, flush=True))
    except errors.HeedError as error:
        print(f"heed: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    (port,) = processes.free_ports(1, [PORT])
    line = command(programs, lay_out(home), port)
    print(shlex.join(line))
    print(f"Prometheus answers on http://{processes.LOOPBACK}:{port}; Ctrl-C stops it. What fires now:")
    print(f"{programs.promtool} query instant http://{processes.LOOPBACK}:{port} '{FIRING}'", flush=True)
    os.execv(line[0], line)  # noqa: S606 - no shell: this process becomes it


if __name__ == "__main__":
    main()
