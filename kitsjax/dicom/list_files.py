"""List the DICOM files of a folder, and what of it may not be read."""

import os
from collections.abc import Iterator
from pathlib import Path

from kitsjax.image.file_format import HEADER_BYTES, tell_format

_EMPTY = tell_format(b"")

_SHUT = "may not be read"
"""Stands for the format of a file that cannot be opened."""

_LEFT_OUT = "lost+found"
"""A folder at the top of a disk that only root may read."""


def list_files(path: Path) -> tuple[list[Path], list[Path]]:
    """List the DICOM files at a path: itself, or all in it, in folders below it and in linked ones.

    An empty file beside one counts, for it may be what is left of a slice, and so does one that
    may not be read.

    Returns:
        The files, and the folders and other files that may not be read, both sorted.
    """
    if not path.is_dir():
        return [path] if _tell(path) == "DICOM" else [], []
    shut: list[Path] = []
    formats = {file: _tell(file) for file in _walk(path, shut)}
    folders = {file.parent for file, name in formats.items() if name == "DICOM"}
    lost = [file for file, name in formats.items() if name in (_EMPTY, _SHUT)]
    files = [file for file, name in formats.items() if name == "DICOM"]
    files += [file for file in lost if file.parent in folders]
    shut += [file for file in lost if formats[file] == _SHUT and file.parent not in folders]
    return sorted(files), sorted(shut)


def is_index(name: str) -> bool:
    """Tell whether a file is named like the index of a disc, which holds no images."""
    return name.lower() == "dicomdir"


def _walk(folder: Path, shut: list[Path]) -> Iterator[Path]:
    """Yield all visible files below a folder, and add folders that may not be read to `shut`.

    A folder that is reached by several ways is listed once: links wait until all else is listed,
    and then follow by name.
    """
    seen: set[str] = set()
    tops = [folder]
    while tops:
        links: list[Path] = []
        for top in sorted(tops):
            for parent, folders, names in os.walk(
                top, onerror=lambda error: shut.append(Path(error.filename))
            ):
                real = os.path.realpath(parent)
                if real in seen:
                    folders.clear()
                    continue
                seen.add(real)
                folders[:] = [name for name in folders if name[0] != "." and name != _LEFT_OUT]
                links += [Path(parent, name) for name in folders]
                yield from (Path(parent, name) for name in names if name[0] != ".")
        tops = [link for link in links if os.path.islink(link) and not _leads_back(link)]


def _leads_back(link: Path) -> bool:
    """Tell whether a link leads to a folder that holds it, and other patients, too."""
    return Path(os.path.realpath(link.parent)).is_relative_to(os.path.realpath(link))


def _tell(file: Path) -> str:
    """Tell the format of a file by its first bytes; "" for an index, and for what is no file."""
    if is_index(file.name):
        return ""
    try:
        # Opening a pipe would wait forever.
        if not file.is_file():
            return ""
        with file.open("rb") as stream:
            return tell_format(stream.read(HEADER_BYTES))
    except OSError:
        return _SHUT
