"""A preprocessed case on disk, read by memory mapping."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from kitsjax.data.normalization import Histogram
from kitsjax.data.stored_arrays import map_stored, read_stored
from kitsjax.types import Shape

CASE_RECORD = "case.json"
"""Name of the file that describes a preprocessed case."""

HISTOGRAM = "histogram.npy"
"""Name of the file of both histograms of a preprocessed case."""


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
        """The id of the case, `case_00000`, which may have hyphens of its own."""
        return self.folder.name.rsplit("-", 1)[0]

    @cached_property
    def shape(self) -> Shape:
        """The shape (z, y, x) of the preprocessed image."""
        z, y, x = read_stored(self.folder / CASE_RECORD, "shape")
        return z, y, x

    @property
    def voxels(self) -> dict[int, int]:
        """The number of voxels of each foreground value in the majority label, by value."""
        stored = read_stored(self.folder / CASE_RECORD, "voxels")
        return {int(value): count for value, count in stored.items()}

    @cached_property
    def present(self) -> tuple[int, ...]:
        """The foreground label values that are present in the case, in ascending order."""
        return tuple(sorted(value for value, count in self.voxels.items() if count))

    # Every read maps the file again. An open map holds a file descriptor, and a process has few of
    # them (1024 by default); the system's page cache keeps the pages either way.
    def image(self) -> np.ndarray:
        """Map the image (z, y, x), int16 in HU."""
        return self._map("image.npy")

    def histogram(self) -> Histogram:
        """Map the histogram of the image."""
        hu, counts, _ = self._map(HISTOGRAM)
        return Histogram(hu, counts)

    def foreground_histogram(self) -> Histogram:
        """Map the histogram of the voxels that the majority labels, of which there may be none."""
        hu, _, counts = self._map(HISTOGRAM)
        return Histogram(hu, counts)

    def positions(self, value: int) -> np.ndarray:
        """Map the stored voxel positions (n, 3) of a foreground label value, present or not.

        They are not kept, so that the memory of training does not grow with the number of cases.
        """
        return self._map(f"foreground_{value}.npy")

    def label(self) -> np.ndarray:
        """Map the majority label (z, y, x)."""
        return self._map("label.npy")

    def _map(self, name: str) -> np.ndarray:
        return map_stored(self.folder / CASE_RECORD, name)
