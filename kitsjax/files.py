"""Write files atomically: no output is ever left half written."""

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
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


def check_folder(folder: str | Path, setting: str, files: Iterable[str] = ()) -> None:
    """Check before any work that a folder can be made and written; leave nothing there.

    Args:
        folder: the folder; it need not exist.
        setting: what moves it, for the message: an option such as "--output", or a setting such
            as "data.cache".
        files: names of files that will be written there.

    Raises:
        InputError: A file has the folder's name, a folder has a file's name, or the folder cannot
            be made or written.
    """
    folder = Path(folder)
    advice = f"choose another folder with {setting}"
    try:
        nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        if not nearest.is_dir():
            raise InputError(f"{nearest}: is a file; {advice}")
        for path in map(folder.joinpath, files):
            if path.is_dir():
                raise InputError(f"{path}: is a folder, and a file will be written; {advice}")
        with tempfile.TemporaryFile(dir=nearest) as file:
            # A full disk often still takes an empty file.
            file.write(bytes(4096))
    except OSError as error:
        raise InputError(f"{folder}: cannot write there ({error.strerror}); {advice}") from None


def check_file(path: str | Path, setting: str) -> None:
    """Check before any work that a file can be written; raises as `check_folder`."""
    path = Path(path)
    check_folder(path.parent, setting, [path.name])


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
