"""Failures of single files among many: one line each, and a log of the tracebacks.

A loop over files calls its work through `catch`, so that no exception ends it, and turns what
failed into a line with `describe_failure`.
"""

import traceback
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import ParamSpec, TypeVar

from kitsjax.errors import InputError, UnforeseenError

ERRORS_NAME = "errors.log"
"""The name of the log of tracebacks in a command's output folder."""

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def catch(
    function: Callable[Parameters, Result],
    /,
    *args: Parameters.args,
    **kwargs: Parameters.kwargs,
) -> Result | InputError:
    """Call a function; return its result, or the exception that it raised as an `InputError`.

    An exception of any other class becomes an `UnforeseenError`, which names the class and carries
    the traceback. Ctrl-C and `SystemExit` are raised.
    """
    try:
        return function(*args, **kwargs)
    except InputError as error:
        return error
    except Exception as error:
        lines = str(error).splitlines()
        message = ": ".join([type(error).__name__, *lines[:1]])
        return UnforeseenError(message, "".join(traceback.format_exception(error)))


def describe_failure(error: InputError, source: str | Path, folder: str | Path) -> str:
    """Describe in one line why a file or case failed.

    The traceback of an unforeseen error is appended to `errors.log`, and the line says where that
    is.

    Args:
        error: what `catch` returned.
        source: the file or case that failed.
        folder: the output folder of the command, which gets the log; made if it does not exist.
    """
    if not isinstance(error, UnforeseenError):
        return str(error)
    line = f"{source}: {error}"
    if not error.trace:
        return line
    log = Path(folder) / ERRORS_NAME
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write(f"{datetime.now():%Y-%m-%d %H:%M:%S} {line}\n{error.trace}\n")
    except OSError as problem:
        return f"{line}; its traceback cannot be written to {log} ({problem.strerror})"
    return f"{line}; the full traceback is in {log}"
