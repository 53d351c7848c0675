"""The API does what its description says: schemathesis reads /openapi.json and tries to prove it wrong.

Its checks: documented statuses, media types, headers and answers; what does not fit is refused; no 500;
methods that are not there. tests/described.py adds one: each event is refused exactly when it does not fit.
"""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from deploy.processes import free_ports
from tests import cluster as clusters
from tests import stack

CONFIG = stack.ROOT / "tests" / "schemathesis.toml"
# That what fits is taken is asked by tests/described.py, of events. Elsewhere a schema cannot say it all: an
# instant yet to come, a page that was never given out, a zone that does not exist.
LEFT_OUT = {"coverage": "positive_data_acceptance", "fuzzing": "positive_data_acceptance"}
# In a chain of requests what schemathesis.toml says of /v1/events does not count.
LEFT_OUT["stateful"] = "positive_data_acceptance,negative_data_rejection"
# A chain of requests that lists keys and revokes one would end by revoking its own.
PATHS = ["--exclude-path", "/v1/keys/{id}/revoke"]


@pytest.fixture(scope="module")
def asked(cluster: clusters.Cluster) -> Iterator[httpx.Client]:
    """An API beside the workers that asks for a key, and a client with one of every scope."""
    port = free_ports(1)[0]
    env = {**cluster.env, "HEED_KEYS": "required"}
    cluster.launch.api(cluster.bootstrap, cluster.dsn, port, **env).wait_for("listening")
    create: list[str | Path] = [stack.HEED, "keys", "create", "described", "--json"]
    create += ["--scope", "ingest", "--scope", "administer"]
    env = stack.clean_env(stack.servers_env(cluster.bootstrap, cluster.dsn) | env)
    made = subprocess.run(create, env=env, capture_output=True, text=True, timeout=60, check=True)
    key = {"Authorization": f"Bearer {json.loads(made.stdout)['key']}"}
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=key, timeout=20) as client:
        stack.eventually(lambda: client.get("/v1/keys").status_code == 200, "the key is known")
        yield client


def prove(asked: httpx.Client, place: Path, phase: str, examples: int, seconds: int = 240) -> None:
    """Run schemathesis; what it finds fails the test, with the seed and the request as a curl command."""
    seed = secrets.randbelow(2**32)
    program = Path(sys.executable).with_name("schemathesis")
    command: list[str | Path] = [program, "--config-file", CONFIG, "run", f"{asked.base_url}/openapi.json"]
    command += ["--no-color", "--header", f"Authorization:{asked.headers['authorization']}", *PATHS]
    command += ["--exclude-checks", LEFT_OUT[phase]]
    options = ["--phases", phase, "--max-examples", str(examples), "--seed", str(seed)]
    done = subprocess.run(
        [*command, *options, "--generation-database", "none"],
        env=stack.clean_env({"SCHEMATHESIS_HOOKS": "tests.described", "PYTHONPATH": str(stack.ROOT)}),
        cwd=place,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, f"seed {seed}\n{done.stdout[-12_000:]}\n{done.stderr[-2_000:]}"
    assert asked.get("/v1/keys").status_code == 200, "the key was revoked: what was asked since is not shown"


@pytest.mark.parametrize("phase", ["fuzzing", "stateful"])
def test_the_api_does_what_its_description_says(asked: httpx.Client, tmp_path: Path, phase: str) -> None:
    prove(asked, tmp_path, phase, 8)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("phase", ["coverage", "fuzzing", "stateful"])
def test_the_api_does_what_its_description_says_at_length(
    asked: httpx.Client, tmp_path: Path, phase: str
) -> None:
    prove(asked, tmp_path, phase, 120, 1140)
