"""The outputs of a predicted CT: its mask, and its class probabilities if they are asked for."""

import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kitsjax.files import temporary_beside
from kitsjax.image.header import NiftiHeader
from kitsjax.image.write_nifti import write_label, write_volume
from kitsjax.infer.find_inputs import probabilities_path


@dataclass(frozen=True)
class Outputs:
    """What is written of a CT.

    Attributes:
        label: (z, y, x) label map on the CT's grid.
        by_class: (class, z, y, x) probabilities on the CT's grid; None: they are not asked for.
        header: the CT's.
        key: what the mask depends on, see `current_masks`.
    """

    label: np.ndarray
    by_class: np.ndarray | None
    header: NiftiHeader
    key: str

    def write(self, mask: Path) -> None:
        """Write the mask, and the probabilities beside it.

        Raises:
            InputError: The files cannot be written.
        """
        write_label(mask, self.label, self.header, description=self.key)
        # After the mask, so that no probabilities lie there without one.
        if self.by_class is not None:
            classes_last = np.moveaxis(self.by_class, 0, -1)
            path = probabilities_path(mask)
            write_volume(path, classes_last, self.header, description=self.key)


def make_on_disk(shape: tuple[int, ...], beside: Path) -> np.ndarray:
    """Make a float32 array in a file without a name, which goes when the array does.

    Args:
        shape: any.
        beside: the file is in this one's folder.

    Raises:
        InputError: The folder cannot be written, or the disk is full.
    """
    with temporary_beside(beside) as path, path.open("w+b") as file:
        size = 4 * math.prod(shape)
        if hasattr(os, "posix_fallocate"):
            # On a full disk this is an error; writing to the array would end the process.
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)
        return np.memmap(file, np.float32, "r+", shape=shape)
