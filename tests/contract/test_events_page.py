"""docs/events.md says what the code does: types, doors, fields, reasons, and events that are admitted."""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import pytest

from schemas import admission, errors, events
from tests.unit import samples

PAGE = Path(__file__).parent.parent.parent / "docs" / "events.md"
TEXT = PAGE.read_text()
VALUES = {"hard", "soft", "refused", "aggregate", "individual"}  # of fields, which the page names, too
VALUES |= {"hold", "opt_out", "do_not_email"}
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")] for line in TEXT.splitlines() if line[:2] == "| "
]


def test_every_type_with_its_door_its_fields_and_its_schema() -> None:
    rows = {
        row[0].strip("`"): row
        for row in ROWS
        if row[0].startswith(("`mail.", "`page.", "`contact.", "`session.", "`identifier."))
    }
    assert list(rows) == [event.name for event in events.built()]
    for event in events.built():
        _, door, data, schema = rows[event.name]
        assert door == f"`{event.door}`"
        assert schema == f"[v{event.version}](schemas/{event.name}.{event.version}.json)"
        info = msgspec.inspect.type_info(event.struct)
        assert isinstance(info, msgspec.inspect.StructType)
        wanted = {field.encode_name + ("" if field.required else "?") for field in info.fields}
        assert set(re.findall(r"`([a-z_]+\??)`", data)) - VALUES == wanted


def test_every_reason_and_what_http_does_with_it() -> None:
    said = {row[0].strip("`"): row[2] for row in ROWS if row[0].strip("`") in set(errors.Reason)}
    assert set(said) == set(errors.Reason)
    for reason in errors.Reason:
        assert said[reason] == ("parked" if reason in admission.PARKED_BY_HTTP else "refused")


def test_the_limits() -> None:
    assert f"{admission.MAX_BYTES:,} bytes" in TEXT
    assert f"{admission.MAX_DEPTH} levels of nesting" in TEXT


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(((?!https?://)[^)#]+)", TEXT))))
def test_links_lead_somewhere(link: str) -> None:
    assert (PAGE.parent / link).is_file()


@pytest.mark.parametrize("block", re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL))
def test_events_that_are_shown_are_admitted(block: str) -> None:
    event = json.loads(block)
    if "specversion" in event:
        assert samples.admitted(event, samples.door(event["type"])).id == event["id"]
