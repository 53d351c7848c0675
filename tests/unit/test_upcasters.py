"""Old versions become the newest at decode, told by a producer or standing on the log.

A type made for these tests goes v1 → v2 → v3; golden files of every version of every type are decoded, and
may never change: they stand for what producers send and what logs hold.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from schemas import admission, codec, envelope, errors, events, upcasters
from tests import keyring
from tests.unit import samples

GOLDEN = Path(__file__).parent.parent / "golden"
SUMS = GOLDEN / "SHA256SUMS"


class Rated(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """Version 3: `stars` became `points` out of 100, `comment` was added and `who` left."""

    comment: str | None = None
    points: codec.Int64
    scale: str


def _to_2(data: dict[str, Any]) -> dict[str, Any]:
    return {"stars": data["stars"], "scale": "stars", "comment": data.get("comment")}


def _to_3(data: dict[str, Any]) -> dict[str, Any]:
    return {"points": data["stars"] * 20, "scale": data["scale"], "comment": data.get("comment")}


RATED = events.EventType("test.rated", "email-activity", version=3, struct=Rated)


@pytest.fixture(autouse=True)
def rated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(events.EVENTS, RATED.name, RATED)
    monkeypatch.setitem(upcasters.UPCASTERS, RATED.name, {1: _to_2, 2: _to_3})


def rate(version: int | None, data: dict[str, Any]) -> dict[str, Any]:
    schema = ... if version is None else f"urn:heed:test.rated:{version}"
    return samples.event("test.rated", data=data, dataschema=schema)


THREE = {"points": 80, "scale": "stars"}
VERSIONS: list[tuple[int | None, dict[str, Any]]] = [
    (None, {"stars": 4}),
    (1, {"stars": 4, "who": "dropped"}),
    (2, {"stars": 4, "scale": "stars"}),
    (3, THREE),
]


def test_every_version_is_written_as_the_newest_and_is_one_content() -> None:
    values = [json.loads(samples.admitted(rate(version, data)).value) for version, data in VERSIONS]
    assert {value["dataschema"] for value in values} == {"urn:heed:test.rated:3"}
    assert [value["data"] for value in values] == [THREE] * len(VERSIONS)
    assert len({value["digest"] for value in values}) == 1


@pytest.mark.parametrize(("version", "data"), VERSIONS[1:])
def test_every_version_is_read_from_the_log(version: int, data: dict[str, Any]) -> None:
    value = json.loads(samples.admitted(rate(3, THREE)).value)
    old = {**value, "dataschema": f"urn:heed:test.rated:{version}", "data": data}
    assert envelope.read_content(envelope.read_fact(samples.encode(old))) == Rated(points=80, scale="stars")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ({}, errors.Reason.INVALID),
        ({"stars": "four"}, errors.Reason.INVALID),
        ({"stars": None}, errors.Reason.INVALID),
        ({"stars": 2**63}, errors.Reason.UNSTORABLE),
        ({"stars": 4, "comment": "\0"}, errors.Reason.UNSTORABLE),
        ({"stars": 4, "comment": "\ud800"}, errors.Reason.UNSTORABLE),
    ],
)
def test_what_an_upcaster_cannot_take_is_parked(data: dict[str, Any], reason: errors.Reason) -> None:
    found = samples.rejected(rate(1, data))
    assert found.reason == reason
    assert "four" not in found.detail


def test_what_an_upcaster_drops_is_not_looked_at() -> None:
    assert json.loads(samples.admitted(rate(1, {"stars": 4, "who": "\ud800\0"})).value)["data"] == THREE


@pytest.mark.parametrize("data", [[], "x", 5, True])
def test_data_of_an_old_version_is_an_object(data: object) -> None:
    assert samples.rejected(samples.event("test.rated", data=data)).detail == "data must be an object."


def test_every_chain_is_whole() -> None:
    for name, chain in upcasters.UPCASTERS.items():
        assert sorted(chain) == list(range(1, events.EVENTS[name].version)), name


TOLD = sorted(GOLDEN.glob("*.told.json"))


@pytest.mark.parametrize("path", TOLD, ids=lambda path: path.name)
def test_golden_files(path: Path) -> None:
    """What was told in a version means today what the log kept of it then."""
    name, version = path.name.removesuffix(".told.json").rsplit(".", 1)
    kind = events.EVENTS[name]
    outcome = samples.admit(path.read_bytes(), kind.door)
    assert isinstance(outcome, admission.Admitted), outcome
    kept = path.with_name(f"{name}.{version}.fact.json").read_bytes()
    fact = envelope.read_fact(kept)
    assert fact.dataschema == f"urn:heed:{name}:{version}"
    today = keyring.sealed(outcome).value
    contents = [envelope.read_content(one, keyring.opened(one)) for one in (fact, envelope.read_fact(today))]
    assert contents[0] == contents[1]
    if int(version) == kind.version:
        assert today == kept


def test_every_version_of_every_type_has_golden_files() -> None:
    wanted = {
        f"{event.name}.{version}"
        for event in (*events.built(), RATED)
        for version in range(1, event.version + 1)
    }
    assert {path.name.removesuffix(".told.json") for path in TOLD} == wanted
    assert {path.name.removesuffix(".fact.json") for path in GOLDEN.glob("*.fact.json")} == wanted


def test_golden_files_do_not_change() -> None:
    """A golden file is for ever: a new version gets new files, and one more line each in SHA256SUMS."""
    sums = {line[66:]: line[:64] for line in SUMS.read_text().splitlines()}
    found = {
        path.relative_to(GOLDEN).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in GOLDEN.rglob("*.json")
    }
    assert found == sums
