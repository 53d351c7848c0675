"""The clock of the soak's workers: stepped by a file, and nothing else about datetimes changes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.soak import rig

SHOW = """
import datetime, msgspec, time
from datetime import UTC, datetime as imported

class Event(msgspec.Struct):
    time: imported

plain = time.clock_gettime(time.CLOCK_REALTIME)
read = msgspec.json.decode(msgspec.json.encode(Event(imported.now(UTC))), type=Event)
print(*(round(one - plain) for one in (
    time.time(), time.time_ns() / 1e9, imported.now().timestamp(), imported.now(UTC).timestamp(),
    datetime.datetime.utcnow().replace(tzinfo=UTC).timestamp(), imported.today().timestamp(),
    read.time.timestamp(),
)), isinstance(imported.now(), imported))
"""


def test_a_process_lives_by_the_clock_that_the_file_sets(tmp_path: Path) -> None:
    clock = tmp_path / "clock"
    clock.write_text("-600")
    env = {**os.environ, "PYTHONPATH": str(rig.CLOCK), "SOAK_CLOCK": str(clock)}
    told = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SHOW], env=env, capture_output=True, text=True, check=False
    )
    assert told.stdout.split() == ["-600"] * 7 + ["True"], told.stderr


def test_without_the_file_the_clock_is_the_true_one(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(rig.CLOCK), "SOAK_CLOCK": str(tmp_path / "none")}
    told = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SHOW], env=env, capture_output=True, text=True, check=False
    )
    assert told.stdout.split() == ["0"] * 7 + ["True"], told.stderr
