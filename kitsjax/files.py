"""Write files atomically: no output is ever left half written."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kitsjax.errors import InputError


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder, and rename it to `path` on success.

    The path may become a file or a folder. The temporary name keeps the suffixes, since writers
    choose the format by them. On an exception it is removed, and `path` is as it was.

    Raises:
        InputError: The folder cannot be made or written, or the disk is full.
    """
    path = Path(path)
    beside = path.with_name(f".{os.getpid()}.partial.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        if path.is_dir() and beside.is_dir():
            shutil.rmtree(path)
        beside.replace(path)
    except OSError as error:
        raise InputError(
            f"{path}: cannot write ({error.strerror or error}); free the disk or choose another "
            "folder that is writable"
        ) from None
    finally:
        if beside.is_dir():
            shutil.rmtree(beside, ignore_errors=True)
        else:
            with suppress(OSError):
                beside.unlink()


def check_folder(folder: str | Path) -> None:
    """Check before any work that a folder can be made and written; leave nothing there.

    Raises:
        InputError: A file has that name, or the folder cannot be made or written.
    """
    folder = Path(folder)
    try:
        nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        if not nearest.is_dir():
            raise InputError(f"{nearest}: is a file; choose a folder")
        with tempfile.TemporaryDirectory(dir=nearest):
            pass
    except OSError as error:
        raise InputError(
            f"{folder}: cannot write there ({error.strerror}); choose another folder"
        ) from None


def remove_leftovers(folder: str | Path) -> None:
    """Remove the temporary files of killed runs from a folder that no other run writes to."""
    for leftover in Path(folder).glob(".*.partial.*"):
        if leftover.is_dir():
            shutil.rmtree(leftover)
        else:
            leftover.unlink()


def write_text(path: str | Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    with atomic_write(path) as beside:
        beside.write_text(text, encoding="utf-8")


def remove_file(path: str | Path) -> None:
    """Remove a file if it is there.

    Raises:
        InputError: It cannot be removed; it is a folder, for instance.
    """
    try:
        Path(path).unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{path}: cannot remove ({error.strerror}); move it away") from None
