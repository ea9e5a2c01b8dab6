"""Outputs written atomically and renamed: a killed run or a full disk leaves none half written."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kitsjax.errors import InputError


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """A temporary path in the same folder that becomes `path`, file or folder, on success.

    The temporary name keeps the suffixes, since writers choose the format by them. On an
    exception it is removed, and `path` is as it was.

    Raises:
        InputError: the folder cannot be made or written, or the disk is full.
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
    """Refuse, before any work, a folder that could not be made or written; leaves no trace.

    Raises:
        InputError: a file is there, or it cannot be made or written.
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
    """Remove what killed runs have left half written in a folder that no other run writes to."""
    for leftover in Path(folder).glob(".*.partial.*"):
        if leftover.is_dir():
            shutil.rmtree(leftover)
        else:
            leftover.unlink()


def write_text(path: str | Path, text: str) -> None:
    """Write a UTF-8 text file whole or not at all."""
    with atomic_write(path) as beside:
        beside.write_text(text, encoding="utf-8")


def remove_file(path: str | Path) -> None:
    """Remove a file that may not be there.

    Raises:
        InputError: it cannot be removed, as if it is a folder.
    """
    try:
        Path(path).unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{path}: cannot remove ({error.strerror}); move it away") from None
