"""The API does what its description says: schemathesis reads /openapi.json and tries to prove it wrong.

Its checks: documented statuses, media types, headers and answers; what does not fit is refused; no 500;
methods that are not there. tests/described.py adds one: each event is refused exactly when it does not fit.
"""

from __future__ import annotations

import secrets
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.processes import free_ports
from tests import cluster as clusters
from tests import stack

CONFIG = stack.ROOT / "tests" / "schemathesis.toml"
# That what fits is taken is asked by tests/described.py, of events. Elsewhere a schema cannot say it all: an
# instant yet to come, a page that was never given out, a zone that does not exist.
CHECKS = ("--checks", "all", "--exclude-checks", "positive_data_acceptance")


@pytest.fixture(scope="module")
def url(cluster: clusters.Cluster) -> str:
    """The address of an API beside the workers."""
    port = free_ports(1)[0]
    cluster.launch.api(cluster.bootstrap, cluster.dsn, port).wait_for("listening")
    return f"http://127.0.0.1:{port}"


def prove(url: str, place: Path, phases: str, examples: int) -> None:
    """Run schemathesis; what it finds fails the test, with the seed and the request as a curl command."""
    seed = secrets.randbelow(2**32)
    program = Path(sys.executable).with_name("schemathesis")
    command: list[str | Path] = [program, "--config-file", CONFIG, "run", f"{url}/openapi.json", "--no-color"]
    options = ["--phases", phases, "--max-examples", str(examples), "--seed", str(seed)]
    done = subprocess.run(
        [*command, *CHECKS, *options, "--generation-database", "none"],
        env=stack.clean_env({"SCHEMATHESIS_HOOKS": "tests.described", "PYTHONPATH": str(stack.ROOT)}),
        cwd=place,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, f"seed {seed}\n{done.stdout[-12_000:]}\n{done.stderr[-2_000:]}"


def test_the_api_does_what_its_description_says(url: str, tmp_path: Path) -> None:
    prove(url, tmp_path, "fuzzing,stateful", 15)


@pytest.mark.slow
@pytest.mark.parametrize("phases", ["coverage", "fuzzing,stateful"])
def test_the_api_does_what_its_description_says_at_length(url: str, tmp_path: Path, phases: str) -> None:
    prove(url, tmp_path, phases, 400)
