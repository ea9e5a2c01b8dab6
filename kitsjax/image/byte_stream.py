"""A file's bytes, unpacked if it is gzipped: its content decides, not its name."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from isal import igzip_lib

from kitsjax.input_file import open_file

_GZIP_MAGIC = b"\x1f\x8b"

_PACKED_BYTES = _UNPACKED_BYTES = 2**18
"""So many bytes are read at a time, and unpacked at a time."""

DEFLATE_RATIO = 1032
"""gzip packs at most this many bytes into one."""

UNPACKING_ERRORS: tuple[Any, ...] = (EOFError, igzip_lib.IsalError)
"""A gzipped file that is damaged or cut short raises these."""


@contextmanager
def open_unpacked(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading, unpacked if it is gzipped.

    Raises:
        InputError: The file cannot be opened. Reading it may raise OSError or `UNPACKING_ERRORS`.
    """
    with open_file(path) as file:
        packed = file.peek(2)[:2] == _GZIP_MAGIC
        yield cast(BinaryIO, GzipReader(file)) if packed else file


def largest_size(path: Path) -> int:
    """Return the largest number of bytes that a file can unpack to."""
    with open_file(path) as file:
        packed = file.read(2) == _GZIP_MAGIC
    return path.stat().st_size * (DEFLATE_RATIO if packed else 1)


def read_first(stream: BinaryIO, count: int) -> bytes:
    """Read so many bytes, or fewer where the stream ends before."""
    first = b""
    while len(first) < count and (piece := stream.read(count - len(first))):
        first += piece
    return first


def skip_bytes(stream: BinaryIO, count: int) -> None:
    """Read and forget so many bytes, or what there is of them."""
    while count > 0 and (piece := stream.read(min(count, _UNPACKED_BYTES))):
        count -= len(piece)


class GzipReader(io.RawIOBase):
    """Unpack the gzip members of a file, one after the other, and compare their checksums.

    Bytes after the last member are ignored, as gunzip and zlib do: zeros that fill up a block, or
    what a transfer has appended. isal unpacks masks in a seventh and CTs in half of the time of
    Python's gzip.
    """

    def __init__(self, file: BinaryIO) -> None:
        """Read from a binary file that begins with a gzip member."""
        self._file = file
        self._member = _new_member()

    def readable(self) -> bool:
        """Return True: this is a stream to read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer and return the number of bytes; 0 at the end of the last member.

        Raises:
            EOFError: The file ends within a member.
            igzip_lib.IsalError: The packed bytes are damaged, or their checksum differs.
        """
        view = memoryview(buffer).cast("B")
        most = min(len(view), _UNPACKED_BYTES)
        while most:
            if self._member.eof:
                rest = self._find_member()
                if not rest:
                    return 0
                self._member = _new_member()
            else:
                rest = self._file.read(_PACKED_BYTES) if self._member.needs_input else b""
                if not rest and self._member.needs_input:
                    raise EOFError("it ends within its gzip stream")
            unpacked = self._member.decompress(rest, most)
            if unpacked:
                view[: len(unpacked)] = unpacked
                return len(unpacked)
        return 0

    def _find_member(self) -> bytes:
        """Return the first bytes of the next member after zeros, or none if there is no other."""
        rest: bytes = self._member.unused_data.lstrip(b"\0")
        while len(rest) < len(_GZIP_MAGIC):
            more = self._file.read(_PACKED_BYTES)
            if not more:
                break
            rest = (rest + more).lstrip(b"\0")
        return rest if rest.startswith(_GZIP_MAGIC) else b""


def _new_member() -> Any:
    return igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
