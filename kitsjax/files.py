"""Outputs written beside and renamed: a killed run or a full disk leaves none half written."""

import json
import os
import shutil
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


def read_rows(path: str | Path) -> list[dict[str, Any]]:
    """Rows of a JSON Lines file, none if there is no file; a line cut short by a kill ends them."""
    rows: list[dict[str, Any]] = []
    path = Path(path)
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except ValueError:
                break
    return rows
