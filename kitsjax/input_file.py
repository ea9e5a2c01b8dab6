"""Files of the user that are read: opened only if they are files, and else one line that says why.

Nothing else is opened, since opening a pipe or a device may wait forever.
"""

import errno
import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kitsjax.errors import InputError

_MISSING = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)

_FORBIDDEN = (errno.EACCES, errno.EPERM)


@contextmanager
def open_file(path: Path) -> Iterator[io.BufferedReader]:
    """Open a file, or a link to one, for reading.

    Raises:
        InputError: There is no file at the path, or it may not be read. An error while the open
            file is read stays an OSError.
    """
    with reading(path):
        if problem := describe_absence(path):
            raise InputError(f"{path}: {problem}; give a file")
        file = path.open("rb")
    with file:
        yield file


@contextmanager
def reading(path: str | Path) -> Iterator[None]:
    """Turn the system's refusal to read a file or folder into one line.

    Raises:
        InputError: The path is missing, or may not be read.
    """
    try:
        yield
    except OSError as error:
        place = error.filename or path
        if error.errno in _MISSING:
            missing = "is a link that leads nowhere" if os.path.islink(path) else "no such file"
            message = f"{missing}; {advise_reading(error, 'check the path')}"
        else:
            message = f"cannot read ({error.strerror}); {advise_reading(error, 'get it again')}"
        raise InputError(f"{place}: {message}") from None


def advise_reading(error: OSError, otherwise: str) -> str:
    """Return what to do about an error of reading: make it readable if that is what it lacks."""
    return "make it readable" if error.errno in _FORBIDDEN else otherwise


def check_is_folder(path: Path, missing: str, advice: str) -> None:
    """Check that a folder is there.

    Raises:
        InputError: It is not, with `missing` if nothing is there, or its place may not be searched.
    """
    with reading(path):
        if not path.is_dir():
            what = "is a file" if path.is_file() else describe_absence(path) or missing
            raise InputError(f"{path}: {what}; {advice}")


def describe_absence(path: Path) -> str:
    """Say what is at a path where a file should be; empty if a file is, or nothing at all.

    Raises:
        OSError: The folder may not be searched.
    """
    try:
        mode = path.stat().st_mode
    except OSError as error:
        if error.errno not in _MISSING:
            raise
        return "is a link that leads nowhere" if path.is_symlink() else ""
    if stat.S_ISDIR(mode):
        return "is a folder"
    return "" if stat.S_ISREG(mode) else "is not a file"
