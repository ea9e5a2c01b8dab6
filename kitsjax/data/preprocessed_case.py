"""A preprocessed case on disk, read by memory mapping."""

import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from kitsjax.data.normalization import Histogram
from kitsjax.errors import InputError
from kitsjax.labels import FOREGROUND
from kitsjax.types import Shape

CASE_RECORD = "case.json"
"""Name of the file that describes a preprocessed case."""

HISTOGRAM = "histogram.npy"
"""Name of the file of both histograms of a preprocessed case."""

_HEADER = re.compile(
    rb"'descr': '([<>|][biuf][0-9]+)', 'fortran_order': (True|False), 'shape': \(([0-9, ]*)\)"
)


@dataclass(frozen=True)
class PreprocessedCase:
    """A case that `data.preprocess_case` wrote; its arrays stay on disk until they are read.

    Attributes:
        folder: the folder of the preprocessed case, named by the case's id and in a cache a stamp.
        annotations: the folder of its stored instances (`kitsjax.data.stored_instances`); None if
            only its majority label is of interest.
    """

    folder: Path
    annotations: Path | None = None

    @property
    def case_id(self) -> str:
        """The id of the case, `case_00000`."""
        return self.folder.name.partition("-")[0]

    @cached_property
    def shape(self) -> Shape:
        """The shape (z, y, x) of the preprocessed image."""
        z, y, x = json.loads((self.folder / CASE_RECORD).read_text())["shape"]
        return z, y, x

    @property
    def voxels(self) -> dict[int, int]:
        """The number of voxels of each foreground value in the majority label."""
        stored = json.loads((self.folder / "case.json").read_text())["voxels"]
        return {value: stored[str(value)] for value in FOREGROUND}

    @property
    def foreground(self) -> dict[int, np.ndarray]:
        """Stored voxel positions (n, 3) for each foreground label value present in the case.

        They are memory-mapped and not kept, so that the memory of training does not grow with the
        number of cases.
        """
        lists = {v: map_array(self.folder / f"foreground_{v}.npy") for v in FOREGROUND}
        return {v: positions for v, positions in lists.items() if len(positions)}

    # Every read maps the file again. An open map holds a file descriptor, and a process has few of
    # them (1024 by default); the system's page cache keeps the pages either way.
    def image(self) -> np.ndarray:
        """Map the image (z, y, x), int16 in HU."""
        return map_array(self.folder / "image.npy")

    def histogram(self) -> Histogram:
        """Map the histogram of the image."""
        hu, counts, _ = map_array(self.folder / HISTOGRAM)
        return Histogram(hu, counts)

    def foreground_histogram(self) -> Histogram:
        """Map the histogram of the voxels that the majority labels, of which there may be none."""
        hu, _, counts = map_array(self.folder / HISTOGRAM)
        return Histogram(hu, counts)

    def label(self) -> np.ndarray:
        """Map the majority label (z, y, x)."""
        return map_array(self.folder / "label.npy")


def array_sizes(folder: Path) -> dict[str, int]:
    """List the sizes in bytes of the arrays in a folder, which its record keeps under "files"."""
    return {path.name: path.stat().st_size for path in sorted(folder.glob("*.npy"))}


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
        return np.memmap(path, dtype, "r", offset, shape, "F" if found[2] == b"True" else "C")
    except (OSError, ValueError, TypeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"{path}: cannot be read ({reason}); remove the folder {path.parent.name}, and the "
            "next start makes it again"
        ) from None
