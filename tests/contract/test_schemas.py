"""The committed JSON Schemas are fresh, and say the same as admission."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy import contracts as files
from schemas import admission, contracts, events
from schemas.errors import Reason
from tests.unit import samples

VALIDATORS = {
    event.name: jsonschema.Draft202012Validator(contracts.file_schema(event)) for event in events.built()
}

near: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from(
        ["", "hard", "soft", "u", "a@b", "a@b\n", "@", "x" * 129, "x" * 257, "x" * 2049, "é" * 128]
    )
    | st.just([])
)
fields = st.sampled_from(["mailing_id", "message_id", "url", "test", "kind", "email", "other"])


def test_the_files_are_fresh() -> None:
    assert files.stale() == [], "run `python -m deploy.contracts`"


def test_every_version_has_its_file() -> None:
    wanted = {f"{event.name}.{v}.json" for event in events.built() for v in range(1, event.version + 1)}
    assert {path.name for path in (files.DOCS / "schemas").iterdir()} == wanted


@pytest.mark.parametrize("name", samples.DATA)
def test_the_schemas_are_schemas_and_take_the_samples(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(contracts.file_schema(events.EVENTS[name]))
    VALIDATORS[name].validate(samples.event(name))
    VALIDATORS[name].validate(samples.event(name, dataschema=f"urn:heed:{name}:1", extra=1))


@given(st.sampled_from(sorted(samples.DATA)), st.dictionaries(fields, near, max_size=3))
def test_data_is_well_formed_to_both_or_to_neither(name: str, changes: dict[str, Any]) -> None:
    event = samples.event(name, data={**samples.DATA[name], **changes})
    outcome = samples.admit(event, samples.door(name))
    assert VALIDATORS[name].is_valid(event) == isinstance(outcome, admission.Admitted)


@pytest.mark.parametrize(
    "change",
    [
        {"specversion": "0.3"},
        {"id": ""},
        {"id": "x" * 257},
        {"source": 5},
        {"subject": "contact:a@b"},
        {"time": "2026-11-22T14:39:46"},
        {"time": "yesterday"},
        {"dataschema": "urn:heed:mail.clicked:2"},
        {"dataschema": "urn:heed:mail.opened:1"},
        {"data": []},
        {"data": ...},
    ],
)
def test_an_envelope_is_ill_formed_to_both(change: dict[str, Any]) -> None:
    event = samples.event(**change)
    assert not VALIDATORS["mail.clicked"].is_valid(event)
    assert samples.rejected(event).reason in (Reason.INVALID, Reason.NO_SUBJECT, Reason.NEWER_VERSION)


def test_check_tells_a_stale_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(files, "DOCS", tmp_path)
    assert files.main(["--check"]) == 1
    assert "mail.clicked.1.json is not fresh" in capsys.readouterr().err
    assert files.main([]) == 0
    assert files.main(["--check"]) == 0
    written = json.loads((tmp_path / "schemas" / "mail.clicked.1.json").read_text())
    assert written == contracts.file_schema(events.EVENTS["mail.clicked"])
