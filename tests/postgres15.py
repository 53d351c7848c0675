"""PostgreSQL 15, the oldest that Heed runs on: Debian's, which also speaks TLS (the wheel's does not).

Promises: the one that is installed, else Debian's package, fetched once; where neither can be had, the test
that asks is skipped and says why. `secure` has the server take nobody but over TLS, `heed` by certificate.
Called by `tests.stack` (with TESTS_POSTGRES=15) and by the tests that need it.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import psycopg
import pytest

from deploy import debian, kafka
from deploy.postgres import ROLE, Postgres
from deploy.processes import LOOPBACK
from schemas import errors
from tests import certificates

BIN = "usr/lib/postgresql/15/bin"
_HBA = f"""
host postgres,template1 postgres {LOOPBACK}/32 trust
hostssl all postgres {LOOPBACK}/32 trust
hostssl all {ROLE} {LOOPBACK}/32 cert
hostssl all heed_dashboard {LOOPBACK}/32 trust
"""


def server(home: Path, port: int) -> Postgres:
    """One that is not started; skips the test where there is none to be had."""
    return Postgres(home, port, **require())


def secure(made: Postgres, authority: certificates.Authority) -> None:
    """From now on only over TLS, with this authority's certificate on both sides. The server runs."""
    signed = authority.sign("postgres", LOOPBACK)
    owner = made.data.stat()
    for name, source in (
        ("server.crt", signed.certificate),
        ("server.key", signed.key),
        ("ca.crt", authority.file),
    ):
        shutil.copy(source, made.data / name)
        os.chown(made.data / name, owner.st_uid, owner.st_gid)
    (made.data / "server.key").chmod(0o600)
    (made.data / "pg_hba.conf").write_text(_HBA)
    with psycopg.connect(made.admin_dsn, autocommit=True) as connection:
        for setting in ("ssl_ca_file = 'ca.crt'", "ssl = on"):
            connection.execute(f"alter system set {setting}".encode())
        connection.execute("select pg_reload_conf()")


@functools.cache
def _options() -> dict[str, Any] | str:
    """What `Postgres` is told of it; or why there is none."""
    # The builtin collations of the wheel's came with 17.
    told: dict[str, Any] = {"initdb": ("--encoding=UTF8", "--locale=C.UTF-8")}
    installed = Path("/") / BIN
    if (installed / "postgres").is_file():
        return told | {"programs": installed}
    try:
        folder = debian.unpacked(
            "postgresql-15", [f"{BIN}/postgres", f"{BIN}/initdb"], kafka.default_cache() / "postgresql-15",
            lambda _: None, "install PostgreSQL 15.", libraries=True,
        )  # fmt: skip
    except errors.Away as away:
        return str(away)
    libraries = next(iter((folder / "usr/lib").glob("*-linux-gnu")), folder)
    env = {**os.environ, "LD_LIBRARY_PATH": str(libraries)}
    ran = subprocess.run(
        [folder / BIN / "postgres", "--version"], env=env, capture_output=True, text=True, check=False
    )
    if ran.returncode:
        return f"Debian's PostgreSQL 15 does not run here: {ran.stderr.strip()}"
    return told | {"programs": folder / BIN, "libraries": libraries}


def require() -> dict[str, Any]:
    """What `Postgres` is told of it; skips the test where there is none."""
    found = _options()
    if isinstance(found, str):
        pytest.skip(found)
    return found
