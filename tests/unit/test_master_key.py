"""Where the master key comes from, and what is said where it is missing, ill-formed, or somebody else's."""

from __future__ import annotations

import base64
from importlib import metadata
from pathlib import Path

import pytest

from deploy.home import Home
from schemas import errors, sealing, settings
from streams import master_key
from tests import keyring

OTHER = base64.b64encode(b"another master key, of 32 bytes!").decode()


def file(tmp_path: Path, text: str) -> settings.Settings:
    path = tmp_path / "master-key"
    path.write_text(text)
    return settings.Settings(master_key_file=path)


def test_out_of_a_setting_and_out_of_a_file(tmp_path: Path) -> None:
    wanted = keyring.master().id
    assert master_key.of(settings.Settings(master_key=keyring.MASTER_TEXT)).id == wanted
    found = master_key.of(file(tmp_path, f"{keyring.MASTER_TEXT}\n\n{OTHER}\n"))
    assert found.id == wanted
    old = sealing.MasterKeys([sealing.parse_master_key(OTHER)])
    assert found.unwrap(old.wrap(b"k" * 32, "contact:a#0"), "contact:a#0", old.id) == b"k" * 32


def test_a_missing_one_says_how_to_make_it() -> None:
    with pytest.raises(errors.Usage, match=r"Set HEED_MASTER_KEY_FILE, .*openssl rand -base64 32"):
        master_key.of(settings.Settings())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "HEED_MASTER_KEY_FILE is empty"),
        ("\n \n", "HEED_MASTER_KEY_FILE is empty"),
        (f"{OTHER}\nhunter2\n", "Line 2 of HEED_MASTER_KEY_FILE is no master key"),
        ("hünter2", "HEED_MASTER_KEY_FILE cannot be read"),
    ],
)
def test_a_file_that_holds_none(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(errors.Usage, match=says) as refused:
        master_key.of(file(tmp_path, text))
    assert "nter2" not in str(refused.value)
    assert OTHER not in str(refused.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(errors.Usage, match=r"cannot be read \(FileNotFoundError\)"):
        master_key.of(settings.Settings(master_key_file=tmp_path / "none"))


class Kms:
    """A KMS: it keeps its key to itself, and is asked for every wrap."""

    id = "arn:example:kms:1"

    def __init__(self, chosen: settings.Settings) -> None:
        self._keys = sealing.MasterKeys([b"k" * 32])
        self.zone = chosen.zone

    def wrap(self, key: bytes, kid: str) -> bytes:
        return self._keys.wrap(key, kid)

    def unwrap(self, wrapped: bytes, kid: str, id: str) -> bytes:
        assert id == self.id
        return self._keys.unwrap(wrapped, kid, self._keys.id)


def test_a_kms_is_plugged_in_by_its_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    point = metadata.EntryPoint("mine", f"{__name__}:Kms", master_key.GROUP)
    monkeypatch.setattr(point.__class__, "load", lambda _: Kms)
    monkeypatch.setattr(metadata, "entry_points", lambda group: metadata.EntryPoints([point]))
    found: sealing.MasterKey = master_key.of(
        settings.Settings(master_key_kms="mine", zone="Europe/Amsterdam")
    )
    assert isinstance(found, Kms)
    assert found.zone == "Europe/Amsterdam"
    assert found.unwrap(found.wrap(b"x" * 32, "contact:a#0"), "contact:a#0", found.id) == b"x" * 32
    with pytest.raises(errors.Usage, match=r"no entry point of the group heed\.master_key .* here: mine\."):
        master_key.of(settings.Settings(master_key_kms="theirs"))


def test_without_any_entry_point_that_is_said() -> None:
    with pytest.raises(errors.Usage, match="there is none"):
        master_key.of(settings.Settings(master_key_kms="theirs"))


def test_the_local_stack_makes_one_that_only_its_owner_reads(tmp_path: Path) -> None:
    made = Home(tmp_path / "home").master_key()
    first = made.read_text()
    assert made.stat().st_mode & 0o777 == 0o600
    assert master_key.of(settings.Settings(master_key_file=made)).id == sealing.master_id(
        sealing.parse_master_key(first)
    )
    assert Home(tmp_path / "home").master_key().read_text() == first
    assert Home(tmp_path / "other").master_key().read_text() != first
