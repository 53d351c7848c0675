"""What can go wrong, sorted by what may be done about it.

An exception's class decides the reaction, its docstring is the sentence shown when it carries none of its
own, and `exit_code` is what a process of ours ends with. `Reason` is the closed list of why an event was not
admitted: such an event is no exception, it is an outcome.
Called by every other package; nothing here imports anything of ours.
"""

from enum import StrEnum
from typing import ClassVar


class HeedError(Exception):
    """Something went wrong in Heed."""

    exit_code: ClassVar[int] = 3

    def __str__(self) -> str:
        return super().__str__() or (self.__doc__ or "").strip()


class Doubt(HeedError):
    """What was found contradicts what must hold, so the process stops before it commits anything."""

    exit_code = 3


class Away(HeedError):
    """A server cannot be reached: wait and try again."""

    exit_code = 69


class Refused(Away):
    """A server is there and lets this process not in: mend what it says; waiting alone does not."""


class Usage(HeedError):
    """What was asked for cannot be done as asked: mend it and ask again."""

    exit_code = 2


class Reason(StrEnum):
    """Why an event is parked, or refused by HTTP."""

    UNDECODABLE = "undecodable"
    INVALID = "invalid"
    UNKNOWN_TYPE = "unknown_type"
    NEWER_VERSION = "newer_version"
    UNSTORABLE = "unstorable"
    FUTURE = "future"
    WRONG_DOOR = "wrong_door"
    UNDEFINED_EVENT = "undefined_event"
    NO_SUBJECT = "no_subject"
    ERASED = "erased"
