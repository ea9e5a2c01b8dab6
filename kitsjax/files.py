"""Outputs written beside and renamed: a killed run or a full disk leaves none half written."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from kitsjax.errors import InputError


@contextmanager
def written_beside(path: str | Path) -> Iterator[Path]:
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
    with written_beside(path) as beside:
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


def read_rows(path: str | Path) -> list[dict[str, Any]]:
    """Rows of a training log (JSON Lines), none if there is no file.

    A kill can leave half a line at the end: that one is left out.

    Returns:
        Rows with "kind", which is "step" or "epoch", and the number of that name; any other value
        is a number, or None if unknown.

    Raises:
        InputError: the file cannot be read, or another line of it is no such row.
    """
    path = Path(path)
    if not path.exists():
        return []
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise InputError(
            f"{path}: cannot read the training log ({error.strerror}); move it away"
        ) from None
    rows = [_read_row(line) for line in lines]
    if rows[-1] is None:
        rows.pop()
    if None in rows:
        raise InputError(
            f"{path}, line {rows.index(None) + 1}: not as training writes it; remove that line, "
            "or move the file away"
        )
    return [row for row in rows if row is not None]


def _read_row(line: bytes) -> dict[str, Any] | None:
    """A row of a training log, None if the line is none."""
    try:
        row = json.loads(line)
        numbers = [value for name, value in row.items() if name != "kind" and value is not None]
        # True is no number, and what is beyond 64 bits overflows wherever it is used.
        good = all(type(n) is float or (type(n) is int and abs(n) < 2**63) for n in numbers)
        good &= row["kind"] in ("step", "epoch") and type(row[row["kind"]]) is int
        return row if good else None
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError):
        return None
