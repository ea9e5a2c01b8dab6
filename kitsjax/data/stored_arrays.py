"""Arrays in a folder whose record keeps their sizes and checksums; read by memory mapping."""

import json
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from kitsjax.errors import InputError

_HEADER = re.compile(
    rb"'descr': '([<>|][biuf][0-9]+)', 'fortran_order': (True|False), 'shape': \(([0-9, ]*)\)"
)

_CHUNK = 2**24
"""Bytes of a file that are read at once for its checksum."""

_verified: set[tuple[Path, int, int]] = set()
"""Files whose content this process has compared: path, size and time of change."""


def describe_arrays(folder: Path) -> dict[str, Any]:
    """Return what a folder's record keeps of its arrays, by file: their bytes and their CRC-32."""
    arrays = sorted(folder.glob("*.npy"))
    return {
        "files": {path.name: path.stat().st_size for path in arrays},
        "checksums": {path.name: _checksum(path) for path in arrays},
    }


def map_stored(record: Path, name: str) -> np.ndarray:
    """Memory-map an array of a stored folder.

    At its first read in a process the whole file is compared with its checksum. Records of older
    versions have none.

    Args:
        record: the folder's record, JSON.
        name: name of the array's file in the same folder.

    Raises:
        InputError: The file is missing, damaged, or holds something other than numbers.
    """
    path = record.parent / name
    array = map_array(path)
    status = path.stat()
    seen = path, status.st_size, status.st_mtime_ns
    if seen not in _verified:
        stored = read_stored(record, "checksums", {}).get(name)
        if stored is not None and stored != _checksum(path):
            raise InputError(_describe_damage(path, "its content has changed on disk"))
        _verified.add(seen)
    return array


def read_stored(record: Path, field: str, default: Any = None) -> Any:
    """Read a field of the record of a stored folder.

    Args:
        record: the folder's record, JSON.
        field: name of the field.
        default: its value in a record that lacks it; None: each whole record has it.

    Raises:
        InputError: The file is missing or damaged.
    """
    try:
        content = json.loads(record.read_text())
        if not isinstance(content, dict) or content.get(field, default) is None:
            raise ValueError("not a record that preprocessing wrote")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(_describe_damage(record, reason)) from None
    return content.get(field, default)


def map_array(path: Path) -> np.ndarray:
    """Memory-map a .npy file that NumPy wrote in version 1 of its format.

    np.load parses the header as Python code, which sometimes fails in Python 3.11 while another
    thread, a notebook's for example, compiles code (CPython issue 106905). This function is also
    twice as fast.

    Raises:
        InputError: The file is missing, cut short, or holds something other than numbers.
    """
    try:
        with path.open("rb") as file:
            np.lib.format.read_magic(file)
            header = file.read(int.from_bytes(file.read(2), "little"))
            offset = file.tell()
            found = _HEADER.search(header)
            if found is None:
                raise ValueError("not an array that preprocessing wrote")
            shape = tuple(int(size) for size in found[3].split(b",") if size.strip())
            dtype = found[1].decode()
            # An array without elements cannot be mapped.
            if 0 in shape:
                return np.empty(shape, dtype)
            # Given a path, NumPy would look up every folder above the file.
            return np.memmap(file, dtype, "r", offset, shape, "F" if found[2] == b"True" else "C")
    except (OSError, ValueError, TypeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(_describe_damage(path, reason)) from None


def _describe_damage(path: Path, reason: object) -> str:
    return (
        f"{path}: cannot be read ({reason}); remove the folder {path.parent.name}, and the next "
        "start makes it again"
    )


def _checksum(path: Path) -> int:
    checksum = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            checksum = zlib.crc32(chunk, checksum)
    return checksum
