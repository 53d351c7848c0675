"""Where the master key comes from: a setting, a file, or a KMS by its entry point.

Promises: exactly one of the three; what is missing or ill-formed is `errors.Usage` that says what to do, and
never repeats what stands there.
Limits: read once, at the start of a process: after the file has changed, restart. An entry point of the group
`heed.master_key` names a function that takes the settings and gives a `sealing.MasterKey`.
Called by: workers, the API, and the commands that write to the log or read what is sealed.
"""

from __future__ import annotations

from importlib import metadata
from typing import Final

from schemas import errors, sealing, settings

GROUP: Final = "heed.master_key"
MAKE: Final = "`openssl rand -base64 32` prints one; keep a copy of it apart from all backups"


def of(chosen: settings.Settings) -> sealing.MasterKey:
    """The master key that the settings name; raises `errors.Usage`."""
    if chosen.master_key:
        return sealing.MasterKeys([sealing.parse_master_key(chosen.master_key)])
    if chosen.master_key_file is not None:
        return sealing.MasterKeys(_read(chosen))
    if chosen.master_key_kms:
        return _plugged_in(chosen)
    raise errors.Usage(
        "Set HEED_MASTER_KEY_FILE, or HEED_MASTER_KEY, or HEED_MASTER_KEY_KMS: the master key, without which "
        f"nothing personal can be sealed or read ({MAKE})."
    )


def _read(chosen: settings.Settings) -> list[bytes]:
    assert chosen.master_key_file is not None
    try:
        lines = chosen.master_key_file.read_text("ascii").splitlines()
    except (OSError, ValueError) as error:
        raise errors.Usage(
            f"HEED_MASTER_KEY_FILE cannot be read ({type(error).__name__}): it names a file that holds a "
            "master key a line, and that this process may read."
        ) from None
    keys = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                keys.append(sealing.parse_master_key(line))
            except ValueError:
                raise errors.Usage(
                    f"Line {number} of HEED_MASTER_KEY_FILE is no master key: each line holds 32 random "
                    f"bytes in base64 ({MAKE})."
                ) from None
    if not keys:
        raise errors.Usage(f"HEED_MASTER_KEY_FILE is empty: write a master key into it ({MAKE}).")
    return keys


def _plugged_in(chosen: settings.Settings) -> sealing.MasterKey:
    there = metadata.entry_points(group=GROUP)
    if chosen.master_key_kms not in there.names:
        raise errors.Usage(
            f"HEED_MASTER_KEY_KMS names no entry point of the group {GROUP} that is installed here: "
            f"{', '.join(sorted(there.names)) or 'there is none'}."
        )
    made: sealing.MasterKey = there[chosen.master_key_kms].load()(chosen)
    return made
