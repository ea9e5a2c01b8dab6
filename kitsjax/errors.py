"""The exceptions that commands print as one line, with their exit status, and parts of lines."""

from collections.abc import Callable, Sequence
from typing import TypeVar

USAGE_STATUS = 2
"""Exit status for a user's mistake; argparse uses the same."""

RETRY_STATUS = 75
"""Exit status of what the same command may mend when it is repeated: EX_TEMPFAIL of sysexits.h."""


Item = TypeVar("Item")


class InputError(ValueError):
    """A user's mistake, as one line: the file or setting, what is wrong with it, what to do.

    Commands print it without a traceback.

    Attributes:
        status: exit status of the command.
    """

    status = USAGE_STATUS


class RetryError(InputError):
    """No mistake, but a machine that failed: a scheduler should start the same command again."""

    status = RETRY_STATUS


class GridError(InputError):
    """Two volumes that belong together lie on different grids."""


class LabelError(InputError):
    """A label map holds values that are not among its labels."""


class NotFiniteError(InputError):
    """An image holds voxels that are NaN or infinite."""


class UnforeseenError(InputError):
    """What went wrong with one item among many, though nobody foresaw it.

    The message does not name the item: `failures.describe_failure` adds it.

    Attributes:
        trace: the traceback of the exception, many lines; empty if there is none.
    """

    def __init__(self, message: str, trace: str = "") -> None:
        super().__init__(message, trace)
        self.trace = trace

    def __str__(self) -> str:
        return str(self.args[0])


def first_line(error: object) -> str:
    """Return the first line of an error's message, or the name of its type if it has none.

    Of an error of the system it is the reason alone, without the file that `str` would add.
    """
    text = getattr(error, "strerror", None) or str(error)
    return (str(text).strip().splitlines() or [type(error).__name__])[0]


def name_first(items: Sequence[Item], most: int, name: Callable[[Item], str] = str) -> str:
    """Name at most so many things in a message, and count the others: "a, b and 3 more"."""
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(map(name, items[:most])) + more
