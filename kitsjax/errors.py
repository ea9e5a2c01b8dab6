"""The exception for a user's mistake, and the first line of a library's error."""


class InputError(ValueError):
    """A user's mistake, as one line: the file or setting, what is wrong with it, what to do.

    Commands print it without a traceback and exit with status 2.
    """


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


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or the name of its type if it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]
