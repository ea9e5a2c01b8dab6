"""The one exception for a mistake of the user's, and how others' errors are put in a line."""


class InputError(ValueError):
    """One line that names the file or field, what is wrong with it, and what to do.

    Commands print it without a traceback and exit with status 2.
    """


def first_line(error: Exception) -> str:
    """What a library's error says first; its type where it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]
