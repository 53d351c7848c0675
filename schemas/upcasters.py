"""How the data of an older version becomes that of the newest.

`UPCASTERS[type][n]` takes the data of version n and gives that of version n + 1; a chain of them runs at
decode, for events that producers send in an old version and for the log's old records alike. A function here
is pure, never changes once its golden file stands, and may raise anything on data that is not of its version.
Limits: what is personal is sealed on the log, so of a fact there an upcaster gets the open fields alone, and
must do without the others, which keep the names of their version. The digest is taken over the newest
version, so a copy that comes again after an upgrade may count as a conflict; both say the same, and one of
them holds.
Called by codec.
"""

from collections.abc import Callable
from typing import Any, Final

Data = dict[str, Any]
Upcaster = Callable[[Data], Data]

UPCASTERS: Final[dict[str, dict[int, Upcaster]]] = {}


def upcast(name: str, version: int, newest: int, data: Data) -> Data:
    """The data of `version` in the shape of `newest`. Raises what the functions of the chain raise."""
    chain = UPCASTERS.get(name, {})
    for step in range(version, newest):
        data = chain[step](data)
    return data
