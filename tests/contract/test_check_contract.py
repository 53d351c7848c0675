"""examples/check_contract.py judges as JSON Schema does, and knows each rule of compatible change."""

from __future__ import annotations

import copy
import http.server
import importlib.util
import json
import re
import subprocess
import sys
import threading
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import hypothesis
import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy import contracts as files
from schemas import asyncapi, contracts, events
from tests.contract import test_schemas
from tests.unit import samples

ROOT = Path(__file__).parent.parent.parent
SCRIPT = ROOT / "examples" / "check_contract.py"
PUBLISHED = ROOT / "tests" / "golden" / "schemas"


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_contract", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


check = _load()
SCHEMAS = {event.name: contracts.file_schema(event) for event in events.built()}
RESOLVED = {name: check.resolve(schema, schema) for name, schema in SCHEMAS.items()}


def run(*arguments: str | Path) -> tuple[int, str]:
    """As a producer runs it: the file alone, in an isolated Python."""
    done = subprocess.run(
        [sys.executable, "-I", SCRIPT, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout + done.stderr


@hypothesis.settings(deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])  # its first draw
@given(
    st.sampled_from(sorted(samples.DATA)),
    st.dictionaries(test_schemas.fields, test_schemas.near | samples.anything, max_size=3),
    st.dictionaries(st.sampled_from(["id", "source", "subject", "time", "x"]), samples.anything, max_size=2),
)
def test_it_judges_events_as_json_schema_does(
    name: str, data: dict[str, Any], changes: dict[str, Any]
) -> None:
    event = samples.event(name, data={**samples.DATA[name], **data}, **changes)
    wanted = jsonschema.Draft202012Validator(SCHEMAS[name]).is_valid(event)
    assert (not list(check.faults(RESOLVED[name], event))) == wanted


@pytest.mark.parametrize("ending", ["", "\n", "x"])
def test_a_line_break_behind_the_end_is_no_match(ending: str) -> None:
    event = samples.event(subject=f"contact:{'a' * 63}{ending}")
    assert bool(list(check.faults(RESOLVED["mail.clicked"], event))) == (ending == "\n")


def at(schema: Any, *path: str) -> Any:
    for name in path:
        schema = schema[name]
    return schema


DATA = ("$defs", "mail.bounced", "properties")
ENVELOPE = ("properties",)
# Each rule: a change that breaks it, and one beside it that does not. Of `mail.bounced`, by name.
Change = Callable[[dict[str, Any]], Any]
BREAKING: dict[str, tuple[Change, str]] = {
    "a field removed": (lambda s: at(s, *DATA).pop("email"), "event.data.email: is gone."),
    "an attribute removed": (lambda s: at(s, *ENVELOPE).pop("time"), "event.time: is gone."),
    "a field required": (
        lambda s: s["$defs"]["mail.bounced"]["required"].append("message_id"),
        "event.data.message_id: is required and was not.",
    ),
    "a new field required": (
        lambda s: (
            at(s, *DATA).update(reason={"type": "string"}),
            s["$defs"]["mail.bounced"]["required"].append("reason"),
        ),
        "event.data.reason: is required and was not.",
    ),
    "another type": (
        lambda s: at(s, *DATA, "mailing_id").update(type="integer"),
        "event.data.mailing_id: its type was string and is integer.",
    ),
    "no null any more": (
        lambda s: at(s, *DATA, "test").update(type="boolean"),
        "event.data.test: its type was boolean or null and is boolean.",
    ),
    "a value removed from a list": (
        lambda s: at(s, *DATA, "kind").update(enum=["hard"]),
        "event.data.kind: not every value that it took is taken.",
    ),
    "a list of values where any was taken": (
        lambda s: at(s, *DATA, "mailing_id").update(enum=["m1"]),
        "event.data.mailing_id: not every value that it took is taken.",
    ),
    "another constant": (
        lambda s: at(s, *ENVELOPE, "specversion").update(const="1.1"),
        "event.specversion: not every value that it took is taken.",
    ),
    "a lower maximum": (
        lambda s: at(s, *DATA, "mailing_id").update(maxLength=127),
        "event.data.mailing_id: maxLength is 127 and was 128.",
    ),
    "a maximum where none was": (
        lambda s: at(s, *ENVELOPE, "datacontenttype").update(maxLength=5),
        "event.datacontenttype: maxLength is 5 and was not there.",
    ),
    "a higher minimum": (
        lambda s: at(s, *DATA, "email").update(minLength=4),
        "event.data.email: minLength is 4 and was 3.",
    ),
    "a minimum where none was": (
        lambda s: at(s, *ENVELOPE, "datacontenttype").update(minLength=1),
        "event.datacontenttype: minLength is 1 and was not there.",
    ),
    "another pattern": (
        lambda s: at(s, *DATA, "email").update(pattern="@"),
        "event.data.email: its pattern is another.",
    ),
    "a pattern where none was": (
        lambda s: at(s, *DATA, "mailing_id").update(pattern="^m"),
        "event.data.mailing_id: its pattern is another.",
    ),
    "a format where none was": (
        lambda s: at(s, *DATA, "email").update(format="email"),
        "event.data.email: its format is another.",
    ),
}
HARMLESS: dict[str, Change] = {
    "nothing": lambda s: None,
    "other words": lambda s: (s.update(description="x"), at(s, *DATA, "kind").update(description="y")),
    "a new field, optional": lambda s: at(s, *DATA).update(reason={"type": ["string", "null"]}),
    "a new attribute, optional": lambda s: at(s, *ENVELOPE).update(partof={"type": "string"}),
    "a field required no more": lambda s: s["$defs"]["mail.bounced"]["required"].remove("kind"),
    "null as well": lambda s: at(s, *DATA, "mailing_id").update(type=["string", "null"]),
    "any type": lambda s: at(s, *ENVELOPE, "datacontenttype").pop("type"),
    "a value more": lambda s: at(s, *DATA, "kind").update(enum=["hard", "soft", "blocked"]),
    "no list of values any more": lambda s: at(s, *DATA, "kind").pop("enum"),
    "a constant among others": lambda s: (
        at(s, *ENVELOPE, "specversion").pop("const"),
        at(s, *ENVELOPE, "specversion").update(enum=["1.0", "1.1"]),
    ),
    "a higher maximum": lambda s: at(s, *DATA, "mailing_id").update(maxLength=129),
    "no maximum any more": lambda s: at(s, *DATA, "mailing_id").pop("maxLength"),
    "a lower minimum": lambda s: at(s, *DATA, "email").update(minLength=2),
    "no minimum any more": lambda s: at(s, *DATA, "email").pop("minLength"),
    "a minimum that says nothing": lambda s: at(s, *ENVELOPE, "datacontenttype").update(minLength=0),
    "no pattern any more": lambda s: at(s, *DATA, "email").pop("pattern"),
    "no format any more": lambda s: at(s, *ENVELOPE, "time").pop("format"),
}


def changed(change: Change) -> dict[str, Any]:
    schema = copy.deepcopy(SCHEMAS["mail.bounced"])
    change(schema)
    resolved: dict[str, Any] = check.resolve(schema, schema)
    return resolved


@pytest.mark.parametrize("name", BREAKING)
def test_a_breaking_change_is_named(name: str) -> None:
    change, fault = BREAKING[name]
    assert list(check.narrowed(RESOLVED["mail.bounced"], changed(change))) == [fault]


@pytest.mark.parametrize("name", HARMLESS)
def test_what_only_adds_is_taken(name: str) -> None:
    assert list(check.narrowed(RESOLVED["mail.bounced"], changed(HARMLESS[name]))) == []


NUMBERS = {
    "whole numbers only": ({"type": "number"}, {"type": "integer"}, False),
    "fractions too": ({"type": "integer"}, {"type": "number"}, True),
    "a lower maximum": ({"type": "integer", "maximum": 9}, {"type": "integer", "maximum": 8}, False),
    "a higher maximum": ({"type": "integer", "maximum": 9}, {"type": "integer", "maximum": 10}, True),
    "a minimum of nought": ({"type": "integer"}, {"type": "integer", "minimum": 0}, False),
    "a lower minimum": ({"type": "integer", "minimum": 0}, {"type": "integer", "minimum": -1}, True),
    "fewer items": ({"type": "array", "maxItems": 9}, {"type": "array", "maxItems": 8}, False),
    "more items": ({"type": "array", "maxItems": 9}, {"type": "array", "maxItems": 10}, True),
    "other items": (
        {"type": "array", "items": {"type": "string"}},
        {"type": "array", "items": {"type": "null"}},
        False,
    ),
    "items of any type": ({"items": {"type": "string"}}, {"items": {}}, True),
    "a type where any was taken": ({}, {"type": "string"}, False),
    "any type": ({"type": "string"}, {}, True),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_and_lists_follow_the_same_rule(name: str) -> None:
    old, new, fits = NUMBERS[name]
    assert (list(check.narrowed(old, new)) == []) is fits


@pytest.mark.parametrize("rule", ["anyOf", "additionalProperties", "multipleOf", "uniqueItems", "not"])
def test_a_rule_that_it_does_not_know_is_never_passed_over(rule: str) -> None:
    strange = changed(lambda s: at(s, *DATA, "email").update({rule: {}}))
    with pytest.raises(check.Usage, match=f"event.data.email: {rule}: not known here"):
        list(check.narrowed(RESOLVED["mail.bounced"], strange))
    with pytest.raises(check.Usage, match=f"event.data.email: {rule}: not known here"):
        list(check.faults(strange, samples.event("mail.bounced", data={"email": "a@b"})))


def test_every_rule_of_the_published_schemas_is_known() -> None:
    document = asyncapi.document()
    for message in document["components"]["messages"].values():
        schema = check.resolve(message["payload"], document)
        assert list(check.narrowed(schema, schema)) == []
    assert len(check.load(str(files.DOCS / "asyncapi.json"))) == len(document["components"]["messages"])


def test_what_is_published_has_only_been_added_to() -> None:
    """The schemas as they were when they were published; a file here never changes, and none goes."""
    assert {one.name for one in PUBLISHED.glob("*.json")} == {
        one.name for one in (files.DOCS / "schemas").glob("*.json")
    }
    assert list(check.check_change(str(PUBLISHED), str(files.DOCS / "schemas"))) == []


@pytest.fixture
def heed(tmp_path: Path) -> Iterator[str]:
    """What answers as a running Heed does, at the one address that is asked."""

    class Served(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/asyncapi.json" else 404)
            self.end_headers()
            self.wfile.write((files.DOCS / "asyncapi.json").read_bytes())

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Served) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_producer_checks_his_events(heed: str, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.json", tmp_path / "bad.jsonl"
    good.write_text(json.dumps([samples.event(name) for name in samples.DATA]))
    wrong = [
        samples.event(data={"mailing_id": 5}),
        samples.event(type="mail.forwarded"),
        samples.event(dataschema="urn:heed:mail.clicked:2"),
    ]
    bad.write_text("\n".join(json.dumps(one) for one in [samples.event(), *wrong]))
    for where in (heed, files.DOCS / "asyncapi.json", files.DOCS / "schemas"):
        assert run("events", where, good) == (0, "All is well.\n")
        code, told = run("events", where, bad)
        lines = [line.removeprefix(f"{bad}:") for line in told.splitlines()]
        assert code == 1
        assert lines[:2] == [
            "2: event.data.url is required.",
            "2: event.data.mailing_id must be null or string.",
        ]
        assert [line[:36] for line in lines[2:]] == [
            "3: type and version of the event mus",
            "4: type and version of the event mus",
        ]


def test_a_producer_checks_the_next_release(heed: str, tmp_path: Path) -> None:
    document = asyncapi.document()
    pinned = tmp_path / "pinned.json"
    pinned.write_text(json.dumps(document))
    assert run("change", pinned, heed) == (0, "All is well.\n")
    more = copy.deepcopy(document)
    for part in ("data", "open"):
        more["components"]["schemas"][f"mail.clicked.{part}"]["properties"]["device"] = {"type": "string"}
    pinned.write_text(json.dumps(more))
    code, told = run("change", pinned, heed)
    gone = "event.data.device: is gone."
    assert (code, told.splitlines()) == (1, [f"mail.clicked:1{one}: {gone}" for one in ("", " on the log")])


def test_an_older_version_is_taken_for_ever_and_a_newer_one_on_the_log_must_be_known(tmp_path: Path) -> None:
    later = json.loads(json.dumps(asyncapi.document()).replace("mail.clicked:1", "mail.clicked:2"))
    path = tmp_path / "later.json"
    path.write_text(json.dumps(later))
    found = list(check.check_change(str(files.DOCS / "asyncapi.json"), str(path)))
    assert found == ["mail.clicked:1 on the log: is gone."]


@pytest.mark.parametrize(
    "arguments", [(), ("events",), ("events", "docs/schemas"), ("change", "x"), ("change", "x", "y")]
)
def test_what_cannot_be_answered_is_said(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert check.main(list(arguments)) == 2
    assert capsys.readouterr().err.strip()


def test_files_that_hold_nothing_of_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "none.json").write_text("{}")
    assert check.main(["change", str(tmp_path), str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"{tmp_path}: there are no schemas.\n"
    (tmp_path / "none.json").write_text("no JSON")
    assert check.main(["events", str(files.DOCS / "schemas"), str(tmp_path / "none.json")]) == 2


def test_the_version_stands_in_the_changelog() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    headings = re.findall(r"(?m)^## (.+)$", (ROOT / "CHANGELOG.md").read_text())
    assert headings[0] == "Unreleased"
    assert project["version"] == headings[1]
    released = [tuple(map(int, one.split("."))) for one in headings[1:]]
    assert released == sorted(released, reverse=True)
