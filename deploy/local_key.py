"""The key of the local stack: made once, kept in HEED_HOME, for whoever works with the stack on this machine.

Promises: `hold` gives a key that the API takes, with the scopes ingest and administer, and the same one at
every start. It stands in `key.json` (and `stack.json`), which only its owner can read; the registry has its
hash. Where the file was lost or the key revoked, another is made, and what else of its name still stood is
revoked: nobody has that any more. Killed at any instant, the next start comes to the same.
Limits: for servers that the stack started itself. On somebody else's a first key would shut the API to all
who ask without one, for good: there it is up to them.
Called by `deploy.stack`.
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any, Final

from deploy import processes
from deploy.home import Home
from schemas import errors

NAME: Final = "heed up"
MAKE: Final = ("keys", "create", NAME, "--scope", "ingest", "--scope", "administer", "--json")
PATIENCE_SECONDS: Final = 30.0
LOOK_SECONDS: Final = 0.2
# Not taken, or not of this scope; all else that is no answer is waited for.
_REFUSED: Final = (401, 403)


def hold(
    home: Home, url: str, make: Callable[[], Mapping[str, Any]], pause: processes.Pause = time.sleep
) -> str:
    """The key of this home, as the API at `url` takes it; `make` creates one, as `heed keys create` answers.

    Blocks. Raises `errors.Away` when the API does not say within `PATIENCE_SECONDS`, and what `make` raises.
    """
    kept = home.key()
    if kept is not None:
        standing = _standing(url, kept["key"], pause, wanted=False)
        if kept["id"] in standing:
            return kept["key"]
    made = make()
    home.write_key({"id": made["id"], "key": made["key"]})
    for other in _standing(url, made["key"], pause, wanted=True) - {made["id"]}:
        _ask(url, f"/v1/keys/{other}/revoke", made["key"], "POST")
    return str(made["key"])


def _standing(url: str, key: str, pause: processes.Pause, *, wanted: bool) -> set[str]:
    """Ids of the keys of our name that are not revoked; none for a key that is refused.

    One that is `wanted` was made just now: it is waited for until the API has heard of it.
    """
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            found = _ask(url, "/v1/keys", key, "GET")["items"]
            return {one["id"] for one in found if one["name"] == NAME and one["revoked_at"] is None}
        except urllib.error.HTTPError as error:
            if error.code in _REFUSED and not wanted:
                return set()
            told = f"answers {error.code}"
        except OSError as error:
            told = f"does not answer ({type(error).__name__})"
        if time.monotonic() > until:
            raise errors.Away(
                f"the API at {url} {told} to the key of this home, after {PATIENCE_SECONDS:.0f} s"
            )
        pause(LOOK_SECONDS)


def _ask(url: str, path: str, key: str, method: str) -> dict[str, Any]:
    head = {"Authorization": f"Bearer {key}"}
    request = urllib.request.Request(url + path, None, head, method=method)  # noqa: S310 (our own loopback)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            found: dict[str, Any] = json.load(answer)
            return found
    except urllib.error.HTTPError as error:
        error.close()
        raise
