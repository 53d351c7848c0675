"""What an operator does during a soak: replays, swaps, and goes back.

Promises: one command after the other, each at its time; again while a server is away, as an operator would;
how each ended goes into the history. After a swap the brakes are put on the tables that are live then.
Limits: `step` never waits; a command that runs on is seen to by the next one.
Called by: `tests.soak.__main__`.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Sequence
from typing import IO, Final

from deploy import processes
from tests import stack
from tests.soak import history, rig

AWAY: Final = 69
USAGE: Final = 2
# What an operator does meanwhile: at which share of the run, under which name, by which command.
STEPS: Final = (
    (0.15, "check", ("replay", "--check")),
    (0.35, "swap", ("replay",)),
    (0.55, "back", ("replay", "--back")),
    (0.65, "drop-old", ("replay", "--drop-old")),
    (0.70, "swap", ("replay",)),
    (0.90, "drop-old", ("replay", "--drop-old")),
)


class Operator:
    """Runs the steps when they are due, one after the other; again while a server is away."""

    def __init__(
        self,
        stand: rig.Rig,
        write: history.Writer,
        seconds: float,
        steps: Sequence[tuple[float, str, tuple[str, ...]]] | None = None,
    ) -> None:
        self._rig, self._write = stand, write
        self._due = [(share * seconds, name, command) for share, name, command in (steps or _known(stand))]
        self._began = time.monotonic()
        self._process: subprocess.Popen[bytes] | None = None
        self._output: IO[bytes] | None = None
        self._since = self._again = 0.0
        self._tries = 0

    @property
    def busy(self) -> bool:
        return self._process is not None or self._tries > 0

    def step(self) -> None:
        """Begin what is due; see to what runs."""
        if self._process is not None:
            if self._process.poll() is not None:
                self._ended(self._process.returncode)
        elif self._due and time.monotonic() - self._began >= max(self._due[0][0], self._again):
            self._begin()

    def _begin(self) -> None:
        command = self._due[0][2]
        if not self._tries:
            self._since = time.time()
            self._rig.say(f"heed {' '.join(command)}")
        self._tries += 1
        self._output = tempfile.TemporaryFile()  # noqa: SIM115
        env = stack.servers_env(self._rig.bootstrap, self._rig.dsn)
        self._process = processes.spawn(
            [stack.HEED, *command],
            env=stack.clean_env({**env, "HEED_HOME": str(self._rig.home / "heed")}),
            cwd=stack.ROOT, stdout=self._output, stderr=self._output,
        )  # fmt: skip

    def _ended(self, code: int) -> None:
        _, name, _ = self._due[0]
        assert self._output is not None
        self._output.seek(0)
        last = processes.telling_line(self._output.read().decode("utf-8", "replace"))[-200:]
        self._output.close()
        self._process = None
        if code == AWAY:  # a server was taken away under it
            self._again = time.monotonic() - self._began + 1.0
            return
        if code == USAGE and name == "swap" and self._tries > 1 and "old tables are still there" in last:
            code = 0  # the try before swapped, and the server went before it could say so
        note = f"{last} (tries: {self._tries})"
        self._rig.say(f"{name}: exit {code}: {note}")
        self._write.write(history.Step(name, self._since, time.time(), code, note))
        self._due.pop(0)
        self._tries = 0
        if name in ("swap", "back") and self._rig.stops is not None:
            self._rig.stops.fit()

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if self._output is not None:
            self._output.close()


def _known(stand: rig.Rig) -> list[tuple[float, str, tuple[str, ...]]]:
    """The steps that this version of Heed knows."""
    _, told = stand.heed("replay", "--help").finish()
    return [one for one in STEPS if one[1] == "check" or "--back" in told]
