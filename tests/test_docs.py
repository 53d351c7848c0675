"""The documents say what is so: their blocks run, their links lead somewhere, names are those of the code.

Promises: every `bash`, `python` and `sql` block of README, CONTRIBUTING and docs/ is run, page by page from
top to bottom, against a real stack of three workers with a small history; a `text answer` block is what the
block before it prints, where `…` stands for anything. What must not run is `text`. Settings, metrics, routes,
commands, doubts and the places named in docs/flow.md are compared with the code.
Limits: a page runs in one bash, so a block may use what an earlier one has set; the first failure ends it.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import json
import os
import pkgutil
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shutil import rmtree
from typing import Any

import pytest
import typer.main

from api import routes
from deploy import postgres
from schemas import activity, errors, metrics, settings
from tests import stack

ROOT = Path(__file__).resolve().parent.parent
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
RUN = ("bash", "python", "sql")
KINDS = {*RUN, "text", "text answer", "json"}
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
MARK = "\x1e"  # stands between the outputs of two blocks
# Read by the examples and by the local stack, no settings of Heed's.
OTHER_VARIABLES = {"HEED_URL", "HEED_KEY", "HEED_CACHE", "HEED_DASHBOARDS"}

by_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


@dataclasses.dataclass(frozen=True)
class Block:
    """A fenced block: what it is, what stands in it, and the line it begins at."""

    kind: str
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    text = page.read_text()
    return [
        Block(
            match[2].strip(), re.sub(f"(?m)^{match[1]}", "", match[3]), text.count("\n", 0, match.start()) + 1
        )
        for match in re.finditer(r"(?ms)^([ ]*)```([^\n]*)\n(.*?)^\1```$", text)
    ]


def runs(page: Path) -> bool:
    return any(block.kind in RUN for block in blocks(page))


@pytest.fixture(scope="module")
def told() -> Iterator[dict[str, Any]]:
    """`stack.json` of a stack of our own, with a small history in it."""
    place = Path(tempfile.mkdtemp(prefix="heed-docs-"))
    env = stack.clean_env({"HEED_HOME": str(place / "home")})
    up = [str(stack.HEED), "up", "--detach", "--contacts", "200", "--mailings", "40"]
    try:
        done = subprocess.run(up, env=env, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        yield {**json.loads((place / "home" / "stack.json").read_bytes()), "env": env}
    finally:
        subprocess.run([stack.HEED, "down"], env=env, cwd=ROOT, capture_output=True, timeout=120, check=True)
        rmtree(place, ignore_errors=True)


def script(page: Path) -> str:
    """A page as one script."""
    lines = ["set -e"]
    for block in blocks(page):
        if block.kind in RUN:
            lines.append(f"printf '%s%s:' '{MARK}' {block.line}")
        if block.kind == "bash":
            lines.append(block.text)
        elif block.kind == "python":
            lines.append(f"'{sys.executable}' - <<'END_OF_BLOCK'\n{block.text}END_OF_BLOCK")
        elif block.kind == "sql":
            psql = 'psql -X -q -v ON_ERROR_STOP=1 "$DASHBOARD"'
            lines.append(f"{psql} <<'END_OF_BLOCK'\n{block.text}END_OF_BLOCK")
    return "\n".join(lines)


@pytest.mark.parametrize("page", [page for page in PAGES if runs(page)], ids=lambda page: page.name)
def test_the_blocks_of_a_page_run(page: Path, told: dict[str, Any]) -> None:
    if (datetime.now(UTC) + timedelta(minutes=2)).strftime("%m-%d") == "02-29":
        pytest.skip("no click leaves its window on 29 February: none is dated 12 months before it")
    path = (
        f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}{os.pathsep}{postgres.find_programs()}"
    )
    env = {**told["env"], "DASHBOARD": told["dashboard_dsn"], "PATH": path}
    if page.name != "README.md":  # which finds them by itself
        env |= {"HEED_URL": told["url"], "HEED_KEY": told["key"]}
        env |= {"HEED_KAFKA": told["bootstrap"], "HEED_POSTGRES": told["dsn"]}
    # A reader has set none of these; make gives its own arguments on to the make of a block.
    for name in ("PYTHONSAFEPATH", "MAKEFLAGS", "MFLAGS", "MAKELEVEL", "ARGS"):
        env.pop(name, None)
    done = subprocess.run(
        ["bash", "-c", script(page)],
        env=env,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    printed = {}
    for part in done.stdout.split(MARK)[1:]:
        line, _, output = part.partition(":")
        printed[int(line)] = output
    last = max(printed, default=0)
    assert done.returncode == 0, f"{page.name}:{last}:\n{printed.get(last)}\n{done.stderr[-3000:]}"
    hold_answers(page, printed)


def hold_answers(page: Path, printed: dict[int, str]) -> None:
    """What is shown as an answer is what the block before it printed."""
    ran = 0
    for block in blocks(page):
        if block.kind in RUN:
            ran = block.line
        elif block.kind == "text answer":
            wanted = ".*?".join(re.escape(part) for part in block.text.strip().split("…"))
            found = re.fullmatch(wanted, printed[ran].strip(), re.DOTALL)
            assert found, f"{page.name}:{block.line}: shown\n{block.text}\nprinted\n{printed[ran]}"


@by_page
def test_every_block_says_what_it_is(page: Path) -> None:
    assert [f"{one.line}: {one.kind}" for one in blocks(page) if one.kind not in KINDS] == []
    for block in blocks(page):
        if block.kind == "json":
            json.loads(block.text)


@by_page
def test_links_lead_somewhere(page: Path) -> None:
    dead = []
    for link in re.findall(r"\]\((?!https?://)([^)\s]+)\)", page.read_text()):
        name, _, anchor = link.partition("#")
        target = (page.parent / name) if name else page
        if not target.is_file() or (anchor and anchor not in anchors(target)):
            dead.append(link)
    assert dead == []


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"(?m)^#+ (.+)$", page.read_text())
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@by_page
def test_variables_that_are_named_exist(page: Path) -> None:
    known = {settings.variable(one.name) for one in dataclasses.fields(settings.Settings)} | OTHER_VARIABLES
    assert set(re.findall(r"\bHEED_[A-Z_]+\b", page.read_text())) <= known


def settings_table() -> str:
    lines = ["| variable | default | what it takes | what it is |", "|---|---|---|---|"]
    for one in dataclasses.fields(settings.Settings):
        default = ("off", "on")[one.default] if isinstance(one.default, bool) else one.default
        shown = f"`{default}`" if default not in ("", None) else ""
        about = f"{one.metadata['takes']} | {one.metadata['about']}"
        lines.append(f"| `{settings.variable(one.name)}` | {shown} | {about} |")
    return "\n".join(lines) + "\n"


def metrics_table() -> str:
    lines = ["| metric | kind | labels | what it says |", "|---|---|---|---|"]
    for one in metrics.DECLARED.values():
        labels = ", ".join(f"`{label}`" for label in one.labels)
        lines.append(f"| `{one.name}` | {one.kind} | {labels} | {one.about} |")
    return "\n".join(lines) + "\n"


def activity_table() -> str:
    lines = ["| event type | type | action | feature | text | status |", "|---|---|---|---|---|---|"]
    for one in activity.KINDS.values():
        words = (one.type, one.action, one.feature, one.text, one.status)
        lines.append(f"| `{one.event_type}` | {' | '.join(words)} |")
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("name", ["settings", "metrics", "activity"])
def test_what_is_declared_stands_in_a_table(name: str) -> None:
    wanted = {"settings": settings_table, "metrics": metrics_table, "activity": activity_table}[name]()
    head = f"<!-- {name}: checked against schemas/{name}.py -->\n"
    assert f"{head}\n{wanted}\n" in OPERATIONS, f"after {head}stands:\n\n{wanted}"


def test_every_route_stands_in_the_table() -> None:
    served = {
        f"{method} {re.sub(r':[a-z]+}', '}', path)}"
        for route in routes.ALL
        for path in route.paths
        for method in route.http_methods
        if method not in ("HEAD", "OPTIONS")
    }
    assert set(re.findall(r"(?m)^\| `((?:GET|POST|PUT|DELETE) [^`]+)`", OPERATIONS)) == served


def test_every_command_stands_in_the_table() -> None:
    from streams import cli

    told = {
        one
        for row in re.findall(r"(?m)^\| (`heed .*?) \| ", OPERATIONS)
        for one in re.findall(r"`heed (.+?)`", row)
    }
    assert {one.replace(" --check", "") for one in told} == set(commands(typer.main.get_command(cli.app)))


def commands(group: Any, before: str = "") -> Iterator[str]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{before}{name} ")
        else:
            yield f"{before}{name}"


def test_every_exit_code_and_every_doubt_is_explained() -> None:
    for package in ("projections", "streams"):
        for module in pkgutil.iter_modules([str(ROOT / package)]):
            if not module.ispkg:
                importlib.import_module(f"{package}.{module.name}")
    rows = set(re.findall(r"(?m)^\| `?(\w+)`? \| ", OPERATIONS))
    doubts = {one.__name__ for one in errors.Doubt.__subclasses__() if one.__module__[:6] != "tests."}
    assert doubts <= rows
    assert {str(one.exit_code) for one in (errors.Doubt, errors.Away, errors.Usage)} | {"0", "1"} <= rows


def test_the_places_of_the_flow_exist() -> None:
    text = (ROOT / "docs" / "flow.md").read_text()
    assert len(re.findall(r"(?m)^## \d+\. ", text)) == 10
    places = re.findall(r"`((?:\w+/)+\w+\.(?:py|sql))(?::(\w+))?`", text)
    assert len(places) > 30
    assert [f"{file}:{name}" for file, name in places if not stands(ROOT / file, name)] == []


def stands(file: Path, name: str) -> bool:
    """Whether a file is there and defines a name at its top."""
    if not file.is_file():
        return False
    if file.suffix == ".sql":
        made = rf"(?m)^create (?:table|view|function) \{{\w+\}}\.{name}\b"
        return not name or re.search(made, file.read_text()) is not None
    top = ast.parse(file.read_text()).body
    names = {getattr(node, "name", "") for node in top} | {
        target.id for node in top for target in targets(node) if isinstance(target, ast.Name)
    }
    return not name or name in names


def targets(node: ast.stmt) -> list[ast.expr]:
    if isinstance(node, ast.Assign):
        return node.targets
    return [node.target] if isinstance(node, ast.AnnAssign) else []


def test_the_words_are_used() -> None:
    """No page says what docs/words.md says we do not say, where no other sense is likely."""
    banned = re.compile(r"\b(?:DLQ|dead-letter|reprocess|newsletter)\b", re.IGNORECASE)
    assert [page.name for page in PAGES if page.name != "words.md" and banned.search(page.read_text())] == []


def test_the_licence_is_the_one_that_is_declared() -> None:
    assert 'license = "Apache-2.0"' in (ROOT / "pyproject.toml").read_text()
    assert "Apache License\n                           Version 2.0" in (ROOT / "LICENSE").read_text()
