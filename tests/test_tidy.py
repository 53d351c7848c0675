"""The limits of style: what a reader may count on in every file, checked instead of hoped for.

Promises: every offender is listed at once, with its place and its number. Limits: counts lines and names, not
quality; what a linter already says (ruff, mypy, import-linter) is left to it.
Part of `make check`.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("schemas", "projections", "streams", "api", "deploy")
COLUMNS = 110
FILE_LINES = 300
TEST_FILE_LINES = 400  # tests are lists of cases, read one by one
FUNCTION_LINES = 60
# Where a program begins: imported by no module of ours.
ENTRIES = {
    "streams.cli",  # the console script
    "deploy.contracts",  # python -m
    "deploy.dashboards",  # python -m
    "deploy.demo_run",  # python -m
    "deploy.watch",  # python -m
    "projections.migrations.env",  # alembic
    "projections.migrations.versions.0001_first",  # alembic
}
TESTS_OF_THE_WHOLE = {
    "api",
    "demo",
    "docs",
    "events_page",
    "examples",
    "local",
    "oracle",
    "servers",
    "soak",
    "stack",
    "tidy",
}
MACHINE = re.compile(r"(?<![\w.~-])/(?:root|work)/|\.\./shared|/tmp/[a-z]")
PRAGMA = re.compile(r"\s+# (?:noqa|type: ignore).*")
# Put together here, so that this file passes its own test.
UNDONE = re.compile("|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK")) + r"\b")


@cache
def files() -> tuple[Path, ...]:
    """Every file that is in git, or would be with the next commit, and that people write."""
    told = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    names = told.stdout.split("\n") if told.returncode == 0 else _walked()
    found = [ROOT / name for name in sorted(set(names)) if name and not name.startswith("tests/golden/")]
    return tuple(path for path in found if path.is_file())


def _walked() -> list[str]:
    """The same where there is no git, as in an unpacked archive."""
    suffixes = (".py", ".sql", ".sh", ".md", ".toml", ".yml")
    kept = [path for path in ROOT.rglob("*") if path.suffix in suffixes]
    hidden = re.compile(r"(^|/)\.(?!ci/)")
    return [name for path in kept if not hidden.search(name := path.relative_to(ROOT).as_posix())]


def of(*suffixes: str) -> Iterator[tuple[str, str]]:
    """(name, text) of every file with one of these suffixes."""
    for path in files():
        if path.suffix in suffixes:
            yield path.relative_to(ROOT).as_posix(), path.read_text()


@cache
def trees() -> dict[str, ast.Module]:
    return {name: ast.parse(text) for name, text in of(".py")}


def ours() -> dict[str, str]:
    """Modules of the packages: dotted name to file."""
    return {
        name.removesuffix(".py").removesuffix("/__init__").replace("/", "."): name
        for name in trees()
        if name.split("/")[0] in PACKAGES
    }


def none(offenders: Iterable[str]) -> None:
    """Fail with the whole list."""
    listed = sorted(offenders)
    assert not listed, "\n  " + "\n  ".join(listed)


def test_what_tools_leave_behind_is_not_kept() -> None:
    tops = {path.relative_to(ROOT).parts[0] for path in files()}
    hidden = {top for top in tops if top.startswith(".")}
    assert hidden <= {".ci", ".gitignore"}, "tell .gitignore and `make clean` of it"


def test_lines_fit() -> None:
    none(
        f"{name}:{number}: {len(line)} columns, {COLUMNS} fit"
        for name, text in of(".py", ".sql")
        for number, line in enumerate(text.splitlines(), 1)
        if len(PRAGMA.sub("", line)) > COLUMNS
        and not line.startswith("comment on ")  # one sentence for a view
    )


def test_files_are_short() -> None:
    none(
        f"{name}: {count} lines, {most} are enough"
        for name, text in of(".py", ".sql", ".sh")
        if (count := text.count("\n")) > (most := TEST_FILE_LINES if name[:6] == "tests/" else FILE_LINES)
    )


def test_functions_are_short() -> None:
    none(
        f"{name}:{node.lineno} {node.name}: {count} lines, {FUNCTION_LINES} are enough"
        for name, tree in trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (count := (node.end_lineno or 0) - node.lineno + 1) > FUNCTION_LINES
    )


def test_modules_say_what_they_are_for() -> None:
    none(name for name, tree in trees().items() if tree.body and not ast.get_docstring(tree))


def test_sql_says_what_it_is_for() -> None:
    none(name for name, text in of(".sql") if not text.startswith("-- "))


def test_nothing_is_left_undone() -> None:
    none(
        f"{name}:{number}: {line.strip()}"
        for name, text in of(".py", ".sql", ".sh", ".md", ".toml", ".yml")
        for number, line in enumerate(text.splitlines(), 1)
        if UNDONE.search(line)
    )


def test_nothing_names_a_machine() -> None:
    none(
        f"{name}:{number}: {line.strip()}"
        for name, text in of(".py", ".sql", ".sh", ".md", ".toml", ".yml", ".txt", ".lock")
        if name != "tests/test_tidy.py"
        for number, line in enumerate(text.splitlines(), 1)
        if MACHINE.search(line)
    )


def test_no_module_hides_another() -> None:
    """Not named like one of the standard library, and nowhere a folder for whatever fits nowhere else."""
    vague = {"utils", "util", "helpers", "misc", "common", "base"}
    none(
        file
        for module, file in ours().items()
        if (last := module.rpartition(".")[2]) in vague
        or ("." not in module and last in sys.stdlib_module_names)
    )


def imported(tree: ast.Module) -> set[str]:
    """Everything a module imports, at whatever depth, as dotted names."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_no_module_is_dead() -> None:
    used = {name for file in ours().values() for name in imported(trees()[file])} | ENTRIES
    none(
        f"{file}: nothing imports it"
        for module, file in ours().items()
        if "." in module and module not in used
    )


def test_nothing_defined_is_dead() -> None:
    """A function, class or constant of a module is named somewhere else than where it is defined."""
    words = Counter(word for _, text in of(".py", ".toml") for word in re.findall(r"\w+", text))
    none(
        f"{file}:{line} {name}: nothing uses it"
        for file in ours().values()
        if "/migrations/" not in file
        for name, line in defined(trees()[file])
        if words[name] < 2
    )


def defined(tree: ast.Module) -> Iterator[tuple[str, int]]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            # What a decorator takes is used by whoever it registers with.
            if not node.decorator_list or isinstance(node, ast.ClassDef):
                yield node.name, node.lineno
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                if isinstance(target, ast.Name):
                    yield target.id, node.lineno


def test_tests_mirror_modules() -> None:
    """A unit test's file is named for a module, with its folder before it or more behind it."""
    modules = {module.rpartition(".")[2] for module in ours()} | TESTS_OF_THE_WHOLE
    packages = "|".join(PACKAGES)
    none(
        f"{name}: no module of this name"
        for name in trees()
        if (match := re.fullmatch(rf"tests/unit/test_(?:(?:{packages})_)?(\w+)\.py", name))
        and not any(match[1] == one or match[1].startswith(f"{one}_") for one in modules)
    )


def test_every_module_is_tested() -> None:
    """Imported by a test, or by a module that a test imports: nothing is out of the tests' reach."""
    reached = {name for file, tree in trees().items() if file[:6] == "tests/" for name in imported(tree)}
    mine = ours()
    waiting = [module for module in mine if module in reached]
    seen = set(waiting) | ENTRIES  # entry points are started as processes
    waiting += sorted(ENTRIES)
    while waiting:
        for name in imported(trees()[mine[waiting.pop()]]):
            if name in mine and name not in seen:
                seen.add(name)
                waiting.append(name)
    none(
        f"{file}: no test reaches it" for module, file in mine.items() if "." in module and module not in seen
    )
