"""The exception for a user's mistake, and the first line of a library's error."""


class InputError(ValueError):
    """A user's mistake, as one line: the file or setting, what is wrong with it, what to do.

    Commands print it without a traceback and exit with status 2.
    """


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or the name of its type if it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]
