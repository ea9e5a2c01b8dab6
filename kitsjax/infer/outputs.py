"""The outputs of a predicted CT: its mask, and its class probabilities if they are asked for."""

import logging
import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kitsjax.dicom.read_volume import Source
from kitsjax.dicom.segmentation import is_made_of, segmentation_path
from kitsjax.dicom.series import Series
from kitsjax.files import temporary_beside
from kitsjax.image.header import NiftiHeader
from kitsjax.image.write_nifti import write_label, write_volume
from kitsjax.infer.current_masks import has_key
from kitsjax.infer.find_inputs import probabilities_path

_logger = logging.getLogger(__name__)


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


def note_older(source: Source, mask: Path, key: str) -> None:
    """Note the probabilities and the DICOM SEG beside a new mask that are not of it.

    An earlier prediction with another model, for example, has left them.

    Args:
        source: the CT. Only of a DICOM series is the DICOM SEG looked at.
        mask: the mask.
        key: the mask's, see `current_masks`.
    """
    probabilities, segmentation = probabilities_path(mask), segmentation_path(mask)
    older = []
    if probabilities.exists() and not has_key(probabilities, key):
        older.append((probabilities, "--probabilities"))
    if isinstance(source, Series) and segmentation.exists() and not is_made_of(segmentation, key):
        older.append((segmentation, "--dicom-seg"))
    for path, option in older:
        _logger.warning(
            "%s: is not of the new mask beside it; remove it, or predict with %s", path, option
        )


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
