"""What holds of the database holds of PostgreSQL 15 too: the same tests, once more, on the oldest release."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests import cluster as clusters
from tests import postgres15, stack

AGAIN = (
    "tests/contract/test_database.py",
    "tests/contract/test_grafana.py",
    "tests/contract/test_migrations.py",
    "tests/contract/test_pairs.py",
    "tests/contract/test_positions.py",
    "tests/contract/test_swap.py",
    "tests/laws/test_as_of.py",
    "tests/laws/test_engagement.py",
    "tests/laws/test_explain.py",
    "tests/laws/test_recalculation.py",
    "tests/integration/test_api_engagement.py",
    "tests/integration/test_api_engagement_list.py",
)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_on_postgresql_15_too() -> None:
    postgres15.require()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-m", "not slow", *AGAIN],
        cwd=stack.ROOT, env=stack.clean_env({"TESTS_POSTGRES": "15"}), capture_output=True, text=True,
        timeout=clusters.patience(400), check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-20_000:]
    assert "skipped" not in done.stdout.splitlines()[-1], done.stdout[-2000:]
