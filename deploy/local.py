"""`heed up` and `heed down`: the whole of Heed on one machine, from nothing.

`up` starts Kafka and PostgreSQL (or uses HEED_KAFKA and HEED_POSTGRES), makes topics and tables, starts three
workers and the API, makes a key (on servers of its own), plays the demo and stays until Ctrl-C, SIGTERM or
`heed down`. Promises: data stays in HEED_HOME and the next `up` goes on with it, also after a kill -9; no
process is left behind; two homes run side by side. What is missing ends it with one sentence.

Limits: this machine only, loopback only; needs a checkout and the environment that `make` installs. Called by
`streams.cli`, which registers both commands.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Annotated, Final

import psutil
import typer

from deploy import watch
from deploy.home import Home
from deploy.stack import HEED, STOP_ORDER, Asked, Stack
from deploy.supervisor import Stopped, Supervisor
from schemas import errors
from schemas.settings import Settings

SHOWN_FD: Final = "HEED_SHOWN_FD"
DOWN_SECONDS: Final = 60.0


def up(
    detach: Annotated[bool, typer.Option("--detach", help="Return once the table is printed.")] = False,
    no_demo: Annotated[bool, typer.Option("--no-demo", help="Start with nothing in it.")] = False,
    exit_after_demo: Annotated[bool, typer.Option("--exit-after-demo", help="Stop after the table.")] = False,
    contacts: Annotated[int | None, typer.Option(min=1, help="Contacts of the demo.")] = None,
    mailings: Annotated[int | None, typer.Option(min=1, help="Mailings of the demo.")] = None,
    months: Annotated[int | None, typer.Option(min=1, help="Months of the demo.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the demo.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print stack.json; all else to stderr.")] = False,
) -> None:
    """Start Heed on this machine: Kafka, PostgreSQL, three workers, the API, and a demo."""
    settings = Settings.load()
    asked = Asked(not no_demo, exit_after_demo, as_json, contacts, mailings, months, seed)
    if detach:
        raise typer.Exit(_detach(Home(settings.home), as_json))
    raise typer.Exit(run(settings, asked, _parent()))


def down(
    as_json: Annotated[bool, typer.Option("--json", help="Print what was stopped as JSON.")] = False,
) -> None:
    """Stop the stack of HEED_HOME; its data stays."""
    home = Home(Settings.load().home)
    stopped = stop(home)
    if as_json:
        print(json.dumps({"home": str(home.path), "stopped": stopped}))
    else:
        print(f"The stack of {home.path} is stopped." if stopped else f"No stack was running on {home.path}.")


def run(settings: Settings, asked: Asked, on_shown: Callable[[int], None]) -> int:
    """Runs a stack in this process until it is asked to stop; gives the exit code. Raises errors.HeedError.

    `on_shown` is called with the demo's exit code once its table is printed, or without a demo once all is
    ready.
    """
    home = Home(settings.home)
    output = sys.stderr if asked.json else sys.stdout
    supervisor = Supervisor(home, lambda line: print(line, file=output, flush=True))
    home.take()
    supervisor.listen()
    try:
        stack = Stack(settings, home, asked, supervisor)
        stack.start()
        code = stack.play() if asked.demo else 0
        _report(stack, home, asked, supervisor, code)
        if asked.exit_after_demo:
            return code
        on_shown(code)
        while True:
            supervisor.watch(60)
    except Stopped:
        return errors.Doubt.exit_code if supervisor.gave_up else 0
    finally:
        supervisor.stop(STOP_ORDER)
        home.leave()


def _report(stack: Stack, home: Home, asked: Asked, supervisor: Supervisor, code: int) -> None:
    if asked.json:
        print(json.dumps(home.stack()), flush=True)
    elif not asked.demo:
        supervisor.say(f"console {stack.url}/console")
        supervisor.say(f"API {stack.url}; every address stands in {home.path / 'stack.json'}.")
        if stack.key is not None:
            supervisor.say(f"key {stack.key}")
    if asked.exit_after_demo:
        return
    supervisor.say(f"Prometheus and its alerts over this stack: {watch.told(home)}")
    if code != 0:
        supervisor.say(f"The demo ended with exit code {code}; the next `heed up` goes on with it.")
    supervisor.say("Ctrl-C or `heed down` stops it; the data stays.")


def stop(home: Home) -> bool:
    """Asks the keeper of a home to stop and waits; clears up after one that was killed. Whether any ran."""
    if not home.path.exists():
        return False
    keeper = home.keeper()
    process = keeper.find() if keeper else None
    if process is not None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(DOWN_SECONDS)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait(5)
    home.take()
    left = home.end_leftovers()
    home.leave()
    return process is not None or bool(left)


def _detach(home: Home, as_json: bool) -> int:
    """Starts the same command in a session of its own, shows what it prints until it says so, and returns."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--detach"]
    told, tell = os.pipe()
    with home.open_log() as log:
        seen = log.tell()
        child = subprocess.Popen(
            [HEED, *arguments],
            env={**os.environ, SHOWN_FD: str(tell), "PYTHONSAFEPATH": "1"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            pass_fds=[tell],
        )
    os.close(tell)
    output = sys.stderr if as_json else sys.stdout
    try:
        with home.log.open("rb") as shown:
            shown.seek(seen)
            while not select.select([told], [], [], 0.1)[0]:
                output.write(shown.read().decode("utf-8", "replace"))
                output.flush()
            answer = os.read(told, 16)
            code = int(answer) if answer else child.wait()
            output.write(shown.read().decode("utf-8", "replace"))
    except KeyboardInterrupt:
        child.terminate()
        return child.wait()
    if as_json and answer:
        print(json.dumps(home.stack()))
    return code


def _parent() -> Callable[[int], None]:
    """Lets the `heed up --detach` that started this process return; does nothing when none did."""
    descriptor = os.environ.pop(SHOWN_FD, None)

    def tell(code: int) -> None:
        if descriptor is not None:
            os.write(int(descriptor), str(code).encode())
            os.close(int(descriptor))

    return tell
