"""A preprocessed case on disk, read by memory mapping."""

import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from kitsjax.labels import FOREGROUND
from kitsjax.types import Shape

_HEADER = re.compile(
    rb"'descr': '([<>|][biuf][0-9]+)', 'fortran_order': (True|False), 'shape': \(([0-9, ]*)\)"
)


@dataclass(frozen=True)
class PreprocessedCase:
    """A case that `kitsjax.data.preprocess` wrote; arrays stay on disk until they are read."""

    folder: Path

    @property
    def case_id(self) -> str:
        return self.folder.name

    @cached_property
    def shape(self) -> Shape:
        """(z, y, x) of the preprocessed image."""
        z, y, x = json.loads((self.folder / "case.json").read_text())["shape"]
        return z, y, x

    @property
    def foreground(self) -> dict[int, np.ndarray]:
        """Stored voxel positions (n, 3) of each foreground value present.

        Memory-mapped, and not kept: training's memory must not grow with the number of cases.
        """
        lists = {v: map_array(self.folder / f"foreground_{v}.npy") for v in FOREGROUND}
        return {v: positions for v, positions in lists.items() if len(positions)}

    # Mapped anew at every read: an open map holds a file descriptor, of which a process has few
    # (1024 by default), and the page cache keeps the pages all the same.
    def image(self) -> np.ndarray:
        """The memory-mapped image (z, y, x)."""
        return map_array(self.folder / "image.npy")

    def label(self) -> np.ndarray:
        """The memory-mapped majority label (z, y, x)."""
        return map_array(self.folder / "label.npy")


def map_array(path: Path) -> np.ndarray:
    """The memory-mapped array of a .npy file as NumPy writes it, in format 1.

    np.load parses the header as Python, which in Python 3.11 fails now and then while another
    thread compiles code (CPython issue 106905), as a notebook does; and this is twice as fast.
    """
    with path.open("rb") as file:
        np.lib.format.read_magic(file)
        header = file.read(int.from_bytes(file.read(2), "little"))
        offset = file.tell()
    found = _HEADER.search(header)
    if found is None:
        raise ValueError(f"{path}: not an array that preprocessing wrote")
    shape = tuple(int(size) for size in found[3].split(b",") if size.strip())
    dtype = found[1].decode()
    if 0 in shape:  # nothing cannot be mapped
        return np.empty(shape, dtype)
    return np.memmap(path, dtype, "r", offset, shape, "F" if found[2] == b"True" else "C")
