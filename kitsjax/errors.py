"""The one exception for a mistake of the user's: bad input, settings or surroundings."""


class InputError(ValueError):
    """One line that names the file or field, what is wrong with it, and what to do.

    Commands print it without a traceback and exit with status 2.
    """
