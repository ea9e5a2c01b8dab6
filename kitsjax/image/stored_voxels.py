"""The header and the voxels of an image file as stored, a few planes at a time.

A file is read in chunks, so that its voxels as stored (often float64) are never in memory at once.
NRRD and MetaImage files are, since SimpleITK reads them whole.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from kitsjax.errors import InputError, first_line
from kitsjax.image.byte_stream import (
    UNPACKING_ERRORS,
    largest_size,
    open_unpacked,
    read_first,
    skip_bytes,
)
from kitsjax.image.file_format import HEADER_BYTES, read_start, tell_format
from kitsjax.image.header import NiftiHeader
from kitsjax.image.itk import READERS, read_itk_header, read_itk_voxels
from kitsjax.image.parse_header import parse_header

_CHUNK_BYTES = 2**25
"""Chunks of a file hold about this much, uncompressed."""


def read_header(path: Path) -> NiftiHeader:
    """Read and check the header of an image file.

    Raises:
        InputError: The file is missing, damaged or of another format, or as `parse_header`.
    """
    kind = tell_format(read_start(path))
    if kind in READERS:
        return read_itk_header(path, kind)
    try:
        with open_unpacked(path) as stream:
            start = read_first(stream, HEADER_BYTES)
    except (OSError, *UNPACKING_ERRORS) as error:
        raise InputError(
            f"{path}: not a readable NIfTI file ({first_line(error)}); give a complete .nii.gz"
        ) from None
    return parse_header(start, path)


def check_size(header: NiftiHeader) -> None:
    """Refuse a header that claims more voxels than its file can hold.

    Raises:
        InputError: It does.
    """
    size = header.offset + math.prod(header.shape) * header.dtype.itemsize
    # The voxels of a MetaImage may lie in another file; SimpleITK compares their number.
    if not header.itk_format and size > largest_size(Path(header.path)):
        raise InputError(
            f"{describe_claim(header)}, more than the file holds; get it again, or correct it"
        )


def describe_claim(header: NiftiHeader) -> str:
    """Say in a message how many voxels a header claims, (z, y, x)."""
    z, y, x = (header.shape[axis] for axis in np.argsort(header.orientation[:, 0]))
    return f"{header.path}: its header claims {(z, y, x)} voxels"


def iterate_planes(header: NiftiHeader) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield planes of the file's last axis as stored, as many at a time as `_CHUNK_BYTES` hold.

    All chunks share one buffer: each is valid until the next is asked for.

    Raises:
        InputError: The file is damaged or cut short.
    """
    if header.itk_format:
        yield slice(0, header.shape[2]), read_itk_voxels(header)
        return
    *face, planes = header.shape[:3]
    thickness = max(1, _CHUNK_BYTES // (math.prod(face) * header.dtype.itemsize))
    try:
        chunk = np.empty((*face, min(thickness, planes)), header.dtype, order="F")
        with open_unpacked(Path(header.path)) as stream:
            skip_bytes(stream, header.offset)
            for start in range(0, planes, thickness):
                stored = chunk[:, :, : planes - start]
                _fill(stored.reshape(-1, order="F").view(np.uint8), stream)
                yield slice(start, start + thickness), stored
            # gzip compares its checksum only at the file's end.
            while stream.read(2**18):
                pass
    except (OSError, MemoryError, *UNPACKING_ERRORS) as error:
        raise InputError(
            f"{header.path}: damaged or cut short ({first_line(error)}); get the file again"
        ) from None


def _fill(buffer: np.ndarray, stream: BinaryIO) -> None:
    """Read from the stream until the buffer of bytes is full."""
    rest = buffer.data
    while rest:
        count = stream.readinto(rest)  # type: ignore[attr-defined]
        if not count:
            raise EOFError("it holds fewer voxels than its header says")
        rest = rest[count:]
